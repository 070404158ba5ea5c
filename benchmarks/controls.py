"""The loop against its controls, over several job seeds: does judging help, and how close is it to gold?

Three arms play the same number of rounds on the same prompts with the same updates:

- `self`: the method.
- `random`: the unverified control, accepting at random as many prompts as `self` did, round by round.
- `gold`: the ceiling, accepting by the gold answer.

Figures are of the test split, for the version each arm would have kept (best on the development split), against the
base. Intervals are Student's t over seeds. `python -m benchmarks.controls --write` puts the stored
figures into docs/results.md and the README.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from svd_loop.report.marked import put

REPOSITORY = Path(__file__).parents[1]
STORED = REPOSITORY / "benchmarks" / "results" / "controls.json"
GROUPS = ("overall", "math", "science", "coding")


def play(
    config: Path, root: Path, arm: str, seed: int, rounds: int, accept: list[float] | None = None
) -> dict[str, Any]:
    """One job in a process of its own; returns its JSON with `seconds` added."""
    overrides = [
        f"job.root={root}",
        f"job.name={arm}-{seed}",
        f"job.seed={seed}",
        f"job.rounds={rounds}",
        "plateau.patience=99",
        "plateau.regression=1.0",
        "health.action=warn",
        "tracking.enabled=false",
        "engine.threads=1",
    ]
    if accept is not None:
        overrides.append("sampling.n=1")
    control = {"self": None, "random": {"type": "random", "rates": accept}, "gold": {"type": "gold"}}[arm]
    started = time.monotonic()
    job = run_cli(config, overrides, control)
    return {"arm": arm, "seed": seed, "seconds": time.monotonic() - started, **job}


def run_cli(config: Path, overrides: list[str], control: dict[str, Any] | None = None) -> dict[str, Any]:
    """`svd-loop run --json` on one core; its JSON. A job with a control is played by `benchmarks.control_job`."""
    options = [part for item in overrides for part in ("-o", item)]
    command = [sys.executable, "-m", "svd_loop.cli", "run", str(config), "--json", *options]
    if control is not None:
        command = [sys.executable, "-m", "benchmarks.control_job", str(config), json.dumps(control), *options]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise RuntimeError(f"{' '.join(overrides)}: {done.stderr[-2000:]}")
    return dict(json.loads(done.stdout))


def play_seed(config: Path, root: Path, seed: int, rounds: int) -> list[dict[str, Any]]:
    """The three arms of one seed; `random` needs to know how many `self` accepted."""
    own = play(config, root, "self", seed, rounds)
    rates = [entry["accepted_prompts"] / entry["prompts"] for entry in own["rounds"][1:]]
    return [own, play(config, root, "random", seed, rounds, rates), play(config, root, "gold", seed, rounds)]


def gain(job: dict[str, Any], group: str) -> float:
    """Test pass@1 of the kept version minus the base's, in points."""
    base, kept = (scores["estimates"][group]["pass@1"]["value"] for scores in (first_test(job), kept_test(job)))
    return float(100 * (kept - base))


def first_test(job: dict[str, Any]) -> dict[str, Any]:
    """Test scores of the base."""
    return dict(job["test"]["round-000"])


def kept_test(job: dict[str, Any]) -> dict[str, Any]:
    """Test scores of the best version; the base itself where no round beat it."""
    return dict(job["test"][max(job["test"])])


def interval(values: list[float]) -> tuple[float, float, float]:
    """Mean and 95% interval (Student's t) over seeds."""
    array = np.array(values)
    half = stats.t.ppf(0.975, len(values) - 1) * array.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else np.nan
    return float(array.mean()), float(array.mean() - half), float(array.mean() + half)


def table(jobs: list[dict[str, Any]]) -> str:
    """The results as Markdown."""
    seeds = sorted({job["seed"] for job in jobs})
    by_arm = {arm: {job["seed"]: job for job in jobs if job["arm"] == arm} for arm in ("self", "random", "gold")}
    lines = ["| test split, points of pass@1 | overall | math | science | coding |", "|---|---|---|---|---|"]

    def row(name: str, value: Any) -> None:
        cells = [interval([value(seed, group) for seed in seeds]) for group in GROUPS]
        lines.append(f"| {name} | " + " | ".join(f"{m:.1f} ({low:.1f} to {high:.1f})" for m, low, high in cells) + " |")

    row("base pass@1", lambda s, g: 100 * first_test(by_arm["self"][s])["estimates"][g]["pass@1"]["value"])
    for arm in by_arm:
        row(f"gain, {arm}", lambda s, g, arm=arm: gain(by_arm[arm][s], g))
    row("verification lift (self - random)", lambda s, g: gain(by_arm["self"][s], g) - gain(by_arm["random"][s], g))
    row("share of gold's gain, %", lambda s, g: 100 * gain(by_arm["self"][s], g) / gain(by_arm["gold"][s], g))
    seconds = [job["seconds"] for job in by_arm["self"].values()]
    lines += ["", f"{len(seeds)} seeds; a `self` job took {min(seconds):.0f} to {max(seconds):.0f} s on one core."]
    rounds = [entry for job in by_arm["self"].values() for entry in job["rounds"][1:]]
    alarmed = sum(bool(entry["alarms"]) for entry in rounds)
    lines[-1] += f" The judge's health raised an alarm in {alarmed} of {len(rounds)} rounds."
    return "\n".join(lines)


def main() -> None:
    """Play, store, print; `--write` renews docs/results.md and the README from what is stored."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, default=REPOSITORY / "configs" / "nano.yaml")
    parser.add_argument("--root", type=Path, default=REPOSITORY / "mlruns" / "controls")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=2, help="processes at a time")
    parser.add_argument("--write", action="store_true", help="play nothing; renew README and docs")
    options = parser.parse_args()
    if not options.write:
        with ThreadPoolExecutor(options.jobs) as pool:
            seeds = range(1, options.seeds + 1)
            played = pool.map(lambda seed: play_seed(options.config, options.root, seed, options.rounds), seeds)
            jobs = [job for arms in played for job in arms]
        STORED.parent.mkdir(exist_ok=True)
        STORED.write_text(json.dumps(jobs, indent=1))
    jobs = json.loads(STORED.read_text())
    sys.stdout.write(table(jobs) + "\n")
    if options.write:
        put(REPOSITORY / "docs" / "results.md", "controls", table(jobs))
        put(REPOSITORY / "README.md", "headline", table(jobs))


if __name__ == "__main__":
    main()
