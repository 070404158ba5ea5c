"""Kills a small job on the embedded checkpoint and compares its weights, bit by bit, with the uninterrupted ones.

    python -m benchmarks.nano_kills [--kills 10] [--algorithm sft]
    python -m benchmarks.nano_kills --flow [--kills 10] [--seed 0]

The job kills itself at one place after the other (see `tests/svd_loop/kill_cli.py`): within sampling, judging, training
and evaluating, and between them. Exit code 1 if rows, weights or stop differ, or if more was asked twice than
the chunk in flight of each kill.

With `--flow` the job plays in the flow and is killed at random instants, mostly while rounds are sampled and judged and
a thread stores the answers. Exit code 1 if rows, weights or stop differ.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from svd_loop.config import load_config
from svd_loop.contracts import RootPaths
from svd_loop.jobs import run_job
from tests.kill import run_until_it_kills_itself, run_with_kills
from tests.processes import FOR_ENGINES
from tests.svd_loop import kill_cli
from tests.svd_loop.job_outcome import Outcome, asked_again, outcome_of

REPOSITORY = Path(__file__).parents[1]
CONFIG = "configs/nano.yaml"
CHUNK = 8
TO_THE_END = "to the end"
OVERRIDES = (
    "data.train.count=20",
    "data.development.count=7",
    "data.test=null",
    "data.prompts_per_round=8",
    "sampling.n=2",
    "cascade.votes=1",
    "evaluation.samples=2",
    "evaluation.audit=0",
    "health.canaries=0",
    "job.rounds=2",
    "plateau.patience=9",
    "plateau.regression=1.0",
    "engine.threads=1",
    f"engine.chunk_size={CHUNK}",
    "update.batch_size=2",
    "update.checkpoint_steps=2",
    "update.choose_from=2",
    "tracking.enabled=false",
)
BESIDE = ("sampling.n=4", "sampling.block=null")
"""With an algorithm that learns from refused candidates too: so that some stand beside accepted ones."""
PLACES = (
    "0/evaluate/asked*2",
    "1/sample/recorded",
    "1/judge/asked*2",
    "1/step-1",
    "1/step-3",
    "1/updated",
    "1/choice/recorded*2",
    "1/chosen",
    "1/evaluate/recorded",
    "1/committed",
    "2/judge/recorded*2",
    "2/step-3",
    "2/step-4",
    "2/evaluated",
)
"""In the order a job reaches them; `step-3` lies behind a training checkpoint, `step-1` before the first."""


@dataclass(frozen=True)
class KillRun:
    """A killed job beside the uninterrupted one; `seconds` is wall-clock time by place."""

    expected: Outcome
    found: Outcome
    asked_again: int
    seconds: dict[str, float]

    @property
    def kills(self) -> int:
        """How often the job was killed."""
        return len(self.seconds) - 1

    @property
    def ok(self) -> bool:
        """Whether the ledger, rows, weights and stop are the same, and only chunks in flight were paid for twice."""
        return self.found == self.expected and self.asked_again <= self.kills * CHUNK


def overrides(root: Path, algorithm: str) -> list[str]:
    """The job under `root`, with an update algorithm."""
    more = () if algorithm == "sft" else BESIDE
    return [*OVERRIDES, *more, f"update.algorithm.type={algorithm}", f"job.root={root}"]


def command(root: Path, place: str, algorithm: str) -> list[str]:
    """A job that kills itself at `place`, or nowhere if there is no such place."""
    options = [part for item in overrides(root, algorithm) for part in ("-o", item)]
    job = ["run", CONFIG, "--record", str(root / "replies.jsonl"), *options]
    return [sys.executable, "-m", kill_cli.__name__, place, *job]


def kill_nano(folder: Path, places: Sequence[str], algorithm: str = "sft") -> KillRun:
    """Play the job once in one go, here, and once in `len(places) + 1` processes with a kill at each of `places`."""
    seconds: dict[str, float] = {}
    whole, killed = folder / "whole", folder / "killed"
    whole.mkdir()
    run_job(load_config(REPOSITORY / CONFIG, overrides(whole, algorithm)), record=whole / "replies.jsonl")
    killed.mkdir()
    for place in places:
        began = time.monotonic()
        run_until_it_kills_itself(command(killed, place, algorithm), cwd=REPOSITORY, timeout=300, server=FOR_ENGINES)
        seconds[place] = time.monotonic() - began
    began = time.monotonic()
    last = command(killed, "-", algorithm)
    run_with_kills(last, kills=0, seed=0, window=0.0, cwd=REPOSITORY, timeout=300, server=FOR_ENGINES)
    seconds[TO_THE_END] = time.monotonic() - began
    expected, found = (outcome_of(RootPaths(root).job("nano").folder) for root in (whole, killed))
    return KillRun(expected, found, asked_again(killed / "replies.jsonl"), seconds)


def kill_in_flow(folder: Path, kills: int, seed: int) -> bool:
    """Play the job in the flow in one go, and with kills at random instants; tell whether both end alike.

    How much is asked ahead depends on timing, so the answers of both ledgers are not compared.
    """
    flow = ("cascade.flow=true", "cascade.fill_rows=16")
    whole, killed = folder / "whole", folder / "killed"
    whole.mkdir()
    killed.mkdir()
    began = time.monotonic()
    run_job(load_config(REPOSITORY / CONFIG, [*overrides(whole, "sft"), *flow]), record=whole / "replies.jsonl")
    # It starts quicker below, from a process with everything imported: most kills then find it at work.
    window = (time.monotonic() - began) / 4
    options = [part for item in flow for part in ("-o", item)]
    report = run_with_kills(
        [*command(killed, "-", "sft"), *options],
        kills=kills,
        seed=seed,
        window=window,
        cwd=REPOSITORY,
        timeout=300,
        server=FOR_ENGINES,
    )
    expected, found = (outcome_of(RootPaths(root).job("nano").folder) for root in (whole, killed))
    same = replace(found, digest=expected.digest) == expected
    again = asked_again(killed / "replies.jsonl")
    print(
        f"kills: {report.kills}, replies asked again: {again}; rows, weights and stop equal to the whole job's: {same}"
    )
    return same


def main() -> None:
    """Kill the job and say what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=10, choices=range(1, len(PLACES) + 1))
    parser.add_argument("--algorithm", default="sft", choices=("sft", "dpo", "kto", "grpo"))
    parser.add_argument("--flow", action="store_true", help="in the flow, at random instants")
    parser.add_argument("--seed", type=int, default=0, help="of the instants")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        if options.flow:
            sys.exit(0 if kill_in_flow(Path(name), options.kills, options.seed) else 1)
        run = kill_nano(Path(name), PLACES[-options.kills :], options.algorithm)
    show(run)
    sys.exit(0 if run.ok else 1)


def show(run: KillRun) -> None:
    """Print what was killed where, and what came of it."""
    console = Console(soft_wrap=True)
    table = Table("killed at", "seconds")
    for place, seconds in run.seconds.items():
        table.add_row(place, f"{seconds:.1f}")
    console.print(table)
    for expected, found in zip(run.expected.versions, run.found.versions, strict=True):
        same = "the same" if expected == found else f"NOT {found.fingerprint[:12]}"
        console.print(f"{expected.name}: {expected.fingerprint[:12]}, {same}")
    console.print(f"kills: {run.kills}, replies asked again: {run.asked_again} (at most {run.kills * CHUNK} allowed)")
    console.print(f"ledger, rows, weights and stop equal to the uninterrupted job's: {run.ok}")


if __name__ == "__main__":
    main()
