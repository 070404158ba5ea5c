"""Which kind of update? Full or LoRA, from the previous round or from the base, with which anchors; one seed each.

Prints held-out pass@1 and the judge's precision and recall (three stages, audited on development problems) by round:
what an update does to the judge is half of the choice. `python -m benchmarks.updates`; figures in
docs/results/updates.md.
"""

from __future__ import annotations

import argparse
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.controls import REPOSITORY, run_cli

ARMS: dict[str, tuple[str, ...]] = {
    "full, previous, posttrain anchors": (),
    "full, base, posttrain anchors": ("update.start=base",),
    "LoRA 32, previous, posttrain anchors": ("update.method=lora", "update.learning_rate=2e-3"),
    "full, previous, own anchors": ("update.replay.anchor=own",),
    "full, previous, no anchors": ("update.replay.anchor=none",),
}


HEAD = (
    "| update | pass@1 by round, % | judge's precision | judge's recall | update s/round |",
    "|---|---|---|---|---|",
)


def main() -> None:
    """Play every arm and print one Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=REPOSITORY / "mlruns" / "updates")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=2, help="processes at a time")
    options = parser.parse_args()
    with ThreadPoolExecutor(options.jobs) as pool:
        jobs = pool.map(lambda place: play(place, options.root, options.rounds), range(len(ARMS)))
        rows = [row(name, job) for name, job in zip(ARMS, jobs, strict=True)]
    sys.stdout.write("\n".join([*HEAD, *rows]) + "\n")


def play(place: int, root: Path, rounds: int) -> dict[str, Any]:
    """One arm."""
    overrides = [
        f"job.root={root}",
        f"job.name=arm-{place}",
        f"job.rounds={rounds}",
        "data.test=null",
        "plateau.patience=99",
        "plateau.regression=1.0",
        "tracking.enabled=false",
        "engine.threads=1",
        *list(ARMS.values())[place],
    ]
    return run_cli(REPOSITORY / "configs" / "nano.yaml", overrides)


def row(name: str, job: dict[str, Any]) -> str:
    """A line of the table."""
    rounds = job["rounds"]
    cells = [
        " ".join(f"{100 * entry['scores']['estimates']['overall']['pass@1']['value']:.0f}" for entry in rounds),
        " ".join(f"{entry['metrics']['precision.correctness']:.2f}" for entry in rounds),
        " ".join(f"{entry['metrics']['recall.correctness']:.2f}" for entry in rounds),
        f"{sum(entry['seconds']['update'] for entry in rounds[1:]) / (len(rounds) - 1):.1f}",
    ]
    return f"| {name} | " + " | ".join(cells) + " |"


if __name__ == "__main__":
    main()
