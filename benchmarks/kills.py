"""Kills jobs and other operations hundreds of times, and compares each outcome with the uninterrupted one.

    python -m benchmarks.kills [--kills 500] [--seed 0] [--job cli|miniature]
    python -m benchmarks.kills --job operations [--kills 200]

`cli` is `svd-loop run` with the scripted policy, whole; `miniature` is a loop around the ledger alone, which starts
quicker. Each job is killed until it ends, a dozen times at most, then a new one begins, until so many kills have
happened. The window they fall into follows the machine's load, so that a job dies a few times on its way, not a dozen
times before its first chunk. Exit code 1 if a job's ledger, rows or versions differ, or if more was asked twice than
the chunk in flight of each kill.

`operations` are a fork, a promotion, exports of an adapter, of merged weights and of a ledger, forgetting a prompt, and
a schedule's tick: each is killed right before one of the changes it makes on disk (`tests/kill_at.py`), at places
spread evenly over all of them, and then started again. Exit code 1 if any file or row below `job.root`
differs afterwards.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from functools import partial
from math import ceil
from pathlib import Path

from svd_loop.contracts import RootPaths
from svd_loop.jobs import run_job
from svd_loop.ledger import LedgerReader, content_digest
from tests.kill import run_with_kills
from tests.svd_loop import kill_cli
from tests.svd_loop.job_outcome import asked_again, is_finished, outcome_of
from tests.svd_loop.jobs_support import small
from tests.svd_loop.killed_operations import OPERATIONS, Victim
from tests.svd_loop.ledger import kill_job, samples
from tests.svd_loop.test_job_kills import CHOOSING, CHUNK, NOWHERE, command


class Miniature:
    """The loop around the ledger of `tests/svd_loop/ledger/kill_job.py`; its log has a line a chunk."""

    window = 0.12

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._expected = kill_job.play(folder / "reference", folder / "reference.log", None, samples.config())

    def kill(self, name: str, kills: int, seed: int) -> tuple[int, int, bool]:
        """Kills, chunks asked again, and whether all is as if nothing had happened."""
        folder, log = self._folder / name, self._folder / f"{name}.log"
        command = [sys.executable, "-m", "tests.svd_loop.ledger.kill_job", str(folder), str(log)]
        report = run_with_kills(
            command,
            kills=kills,
            seed=seed,
            window=self.window,
            ready=kill_job.READY,
            finished=partial(kill_job.is_finished, folder),
        )
        asked = Counter(log.read_text().splitlines())
        again = sum(asked.values()) - len(asked)
        with LedgerReader.open_for_reading(folder) as ledger:
            return report.kills, again, content_digest(ledger) == self._expected and again <= report.kills


class CommandLine:
    """`svd-loop run` as a user types it, from `tests/svd_loop/test_job_kills.py`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        run_job(small(folder / "reference", *CHOOSING, f"engine.chunk_size={CHUNK}"))
        self._expected = outcome_of(RootPaths(folder / "reference").job("scripted").folder)
        # Half of what the whole job takes on this machine: most kills then find it at work, some after many chunks.
        (folder / "timed").mkdir()
        self.window = seconds_of_work(command(folder / "timed", NOWHERE)) / 2

    def kill(self, name: str, kills: int, seed: int) -> tuple[int, int, bool]:
        """Kills, chunks asked again (rounded up), and whether all is as if nothing had happened."""
        root = self._folder / name
        root.mkdir()
        job = RootPaths(root).job("scripted").folder
        report = run_with_kills(
            command(root, NOWHERE),
            kills=kills,
            seed=seed,
            window=self.window,
            ready=kill_cli.READY,
            finished=partial(is_finished, job),
        )
        again = asked_again(root / "replies.jsonl")
        return report.kills, ceil(again / CHUNK), outcome_of(job) == self._expected and again <= report.kills * CHUNK


def seconds_of_work(job: list[str]) -> float:
    """From the job's opening to its end, undisturbed."""
    with subprocess.Popen(job, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        while process.stdout.readline().strip() != kill_cli.READY:
            assert process.poll() is None, "the job ended before it began"
        began = time.monotonic()
        process.stdout.read()
    assert process.returncode == 0, f"the undisturbed job exited with {process.returncode}"
    return time.monotonic() - began


MOST_OF_A_JOB, FEWEST_OF_A_JOB = 12, 3
JOBS: dict[str, type[CommandLine] | type[Miniature]] = {"cli": CommandLine, "miniature": Miniature}


def kill_operations(kills: int, folder: Path) -> dict[str, dict[str, int]]:
    """Kill each operation at its share of the kills; what came of it by operation, differences on standard error."""
    victims = {name: Victim(operation, folder / name) for name, operation in OPERATIONS.items()}
    left, found = kills, dict[str, dict[str, int]]()
    for number, (name, victim) in enumerate(sorted(victims.items(), key=lambda item: item[1].places)):
        share = min(victim.places, left // (len(victims) - number))
        different = 0
        for place in spread(victim.places, share):
            if differing := victim.kill(place):
                different += 1
                sys.stderr.write(f"{name}, place {place}:\n" + "".join(f"    {one}\n" for one in differing))
        left -= share
        found[name] = {"places": victim.places, "kills": share, "different": different}
    return found


def spread(places: int, count: int) -> list[int]:
    """`count` of the numbers 1 to `places`, the first and the last among them."""
    return [1 + number * (places - 1) // max(1, count - 1) for number in range(count)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, help="default: 500, of operations 200")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--job", choices=[*JOBS, "operations"], default="cli")
    options = parser.parse_args()

    start = time.monotonic()
    if options.job == "operations":
        with tempfile.TemporaryDirectory() as name:
            found = kill_operations(options.kills or 200, Path(name))
        total = sum(one["different"] for one in found.values())
        report = {"job": "operations", **found, "different": total, "seconds": round(time.monotonic() - start)}
        sys.stdout.write(json.dumps(report) + "\n")
        sys.exit(1 if total else 0)
    wanted = options.kills or 500
    kills = jobs = different = repeated = 0
    with tempfile.TemporaryDirectory() as name:
        victim = JOBS[options.job](Path(name))
        while kills < wanted:
            jobs += 1
            most = min(MOST_OF_A_JOB, wanted - kills)
            killed, again, equal = victim.kill(f"job-{jobs}", most, options.seed + jobs)
            victim.window *= 1.5 if killed == MOST_OF_A_JOB else 1 / 1.5 if killed < FEWEST_OF_A_JOB else 1.0
            kills += killed
            repeated += again
            different += not equal
    outcome = {
        "job": options.job,
        "kills": kills,
        "jobs": jobs,
        "window": round(victim.window, 2),
        "different": different,
        "chunks_asked_again": repeated,
        "seconds": round(time.monotonic() - start),
    }
    sys.stdout.write(json.dumps(outcome) + "\n")
    sys.exit(1 if different else 0)


if __name__ == "__main__":
    main()
