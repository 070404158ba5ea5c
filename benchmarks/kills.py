"""Kills a miniature job at random instants, hundreds of times, and compares each outcome with the uninterrupted one.

    python -m benchmarks.kills [--kills 500] [--seed 0]

Each job is killed until it ends, then a new one begins, until so many kills have happened. Exit code 1 if a
job's ledger differs, or if more was asked twice than the chunk in flight of each kill.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from functools import partial
from pathlib import Path

from svd_loop.ledger import LedgerReader, content_digest
from tests.kill import run_with_kills
from tests.svd_loop.ledger import kill_job, samples


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--window", type=float, default=0.12, help="seconds of work within which a kill comes")
    options = parser.parse_args()

    start = time.monotonic()
    kills = jobs = different = repeated = 0
    with tempfile.TemporaryDirectory() as name:
        expected = kill_job.play(Path(name) / "reference", Path(name) / "reference.log", None, samples.config())
        while kills < options.kills:
            jobs += 1
            folder, log = Path(name) / f"job-{jobs}", Path(name) / f"job-{jobs}.log"
            command = [sys.executable, "-m", "tests.svd_loop.ledger.kill_job", str(folder), str(log)]
            report = run_with_kills(command, kills=options.kills - kills, seed=options.seed + jobs,
                                    window=options.window, ready=kill_job.READY,
                                    finished=partial(kill_job.is_finished, folder))  # fmt: skip
            kills += report.kills
            asked = Counter(log.read_text().splitlines())
            again = sum(asked.values()) - len(asked)
            repeated += again
            with LedgerReader.open_for_reading(folder) as ledger:
                different += content_digest(ledger) != expected or again > report.kills
    outcome = {"kills": kills, "jobs": jobs, "different": different, "chunks_asked_again": repeated,
               "seconds": round(time.monotonic() - start)}  # fmt: skip
    sys.stdout.write(json.dumps(outcome) + "\n")
    sys.exit(1 if different else 0)


if __name__ == "__main__":
    main()
