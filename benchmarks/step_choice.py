"""Does choosing among the checkpoints of an update pay? The embedded job with and without, at two learning rates.

    python -m benchmarks.step_choice [--seeds 3] [--root mlruns/step-choice]

- `hot`: no replay, no anchors, one vote, fifteen times the usual rate and four epochs, which breaks the loop;
- `usual`: the embedded job as it is shipped.

Each is played to the end once with its last steps (`last`) and once with the best of eight checkpoints (`choose`), by
every seed. Compared is the version of the *last* round, on the test problems, which neither choice has seen: paired by
seed and problem, the interval over both (`svd_loop.support.statistics.crossed_mean`). Finished plays are kept under the
root and not repeated; a killed one goes on. The two plays of a seed share answers, as arms of a sweep do.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from svd_loop.config import load_config
from svd_loop.contracts import Estimate, JobState, UsagePurpose
from svd_loop.jobs import evaluate_model, run_job
from svd_loop.ledger import SharedAnswers
from svd_loop.support.atomic import write_atomically
from svd_loop.support.statistics import crossed_mean

REPOSITORY = Path(__file__).parents[1]
CHECKPOINTS = 8
ALWAYS = (
    "plateau.patience=99",
    "plateau.regression=1.0",
    "health.action=warn",
    "health.canaries=0",
    "health.verify=0",
    "evaluation.audit=0",
    "tracking.enabled=false",
    "engine.threads=1",
)
HOT = (
    "cascade.votes=1",
    "update.replay.rounds=0",
    "update.replay.anchor=none",
    "update.learning_rate=3e-3",
    "update.epochs=4",
)
ARMS = {"hot": HOT, "usual": ()}
HEAD = "| loop | seeds | last step | best of 8 | difference | kept before the last step | confirmed, mean | tokens |"


def play(arm: str, choosing: bool, seed: int, rounds: int, root: Path) -> dict[str, Any]:
    """One job, or what is stored of it: test results by problem, and the choices of its rounds."""
    name = f"{arm}-{'choose' if choosing else 'last'}-s{seed}"
    found = root / f"{name}.json"
    if found.exists():
        return dict(json.loads(found.read_text()))
    overrides = [f"job.root={root}", f"job.name={name}", f"job.seed={seed}", f"job.rounds={rounds}"]
    overrides += [*ALWAYS, *ARMS[arm], f"update.choose_from={CHECKPOINTS if choosing else 0}"]
    config = load_config(REPOSITORY / "configs" / "nano.yaml", overrides)
    started = time.monotonic()

    def show(state: JobState) -> None:
        last = state.last
        sys.stderr.write(f"{name} round {last.round}: {100 * last.scores.pass_at_1.value:.1f}\n")

    with closing(SharedAnswers(root / f"answers-{arm}-s{seed}.sqlite")) as shared:
        result = run_job(config, shared=shared, on_round=show)
    scores = evaluate_model(config, f"{name}@{result.history[-1].round}", "test")
    choices = [record.choice for record in result.history if record.choice is not None]
    data = {
        "development": [record.scores.pass_at_1.value for record in result.history],
        "test": [right / scores.samples for right in scores.correct],
        "answers_shared": shared.taken,
        "seconds": time.monotonic() - started,
        "tokens": sum(record.output_tokens for record in result.history[1:]),
        "choosing_tokens": sum(
            usage.output_tokens
            for record in result.history
            for usage in record.usage.get(UsagePurpose.CHOICE, {}).values()
        ),
        "kept": [(choice.kept, choice.best, choice.steps[-1].step) for choice in choices],
        "confirmed": [choice.confirmed.value for choice in choices if choice.confirmed is not None],
    }
    write_atomically(found, json.dumps(data))
    return data


def row(arm: str, plays: list[tuple[dict[str, Any], dict[str, Any]]]) -> str:
    """A line of the table, from pairs of plays (last steps, chosen steps) of each seed."""
    last_SM, chosen_SM = (np.array([pair[place]["test"] for pair in plays]) for place in (0, 1))
    kept = [one for _, chosen in plays for one in chosen["kept"]]
    confirmed = [value for _, chosen in plays for value in chosen["confirmed"]]
    cells = [
        arm,
        str(len(plays)),
        f"{100 * last_SM.mean():.1f} ({_spread(last_SM.mean(axis=1))})",
        f"{100 * chosen_SM.mean():.1f} ({_spread(chosen_SM.mean(axis=1))})",
        _points(crossed_mean(chosen_SM - last_SM)),
        f"{sum(step < last for step, _, last in kept)} of {len(kept)}",
        f"{100 * np.mean(confirmed):+.1f} (of {len(confirmed)})" if confirmed else "-",
        f"{sum(chosen['tokens'] for _, chosen in plays) / sum(last['tokens'] for last, _ in plays):.2f} times",
    ]
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    """Play what is missing and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=REPOSITORY / "mlruns" / "step-choice")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--arm", choices=ARMS, action="append", help="only this loop; repeatable")
    options = parser.parse_args()
    options.root.mkdir(parents=True, exist_ok=True)
    sys.stdout.write(f"{HEAD}\n|---|---|---|---|---|---|---|---|\n")
    for arm in options.arm or ARMS:
        plays = [
            (
                play(arm, False, seed, options.rounds, options.root),
                play(arm, True, seed, options.rounds, options.root),
            )
            for seed in options.seeds
        ]
        sys.stdout.write(row(arm, plays) + "\n")


def _spread(values: Any) -> str:
    return f"{100 * min(values):.1f} to {100 * max(values):.1f}"


def _points(estimate: Estimate) -> str:
    return f"{100 * estimate.value:+.1f} ({100 * estimate.low:+.1f} to {100 * estimate.high:+.1f})"


if __name__ == "__main__":
    main()
