"""A job killed at any instant ends as if nothing had happened, having asked nothing twice but the chunk in flight."""

from __future__ import annotations

import sys
from collections import Counter
from functools import partial
from pathlib import Path

import pytest

from svd_loop.ledger import LedgerReader, content_digest
from tests.kill import run_until_it_kills_itself, run_with_kills
from tests.svd_loop.ledger import kill_job, samples

JOB = [sys.executable, "-m", "tests.svd_loop.ledger.kill_job"]
ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, list[str]]:
    """Digest and chunks of the job played in one go."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    digest = kill_job.play(folder / "job", folder / "log", None, samples.config())
    return digest, (folder / "log").read_text().splitlines()


def check(folder: Path, kills: int, uninterrupted: tuple[str, list[str]]) -> None:
    digest, chunks = uninterrupted
    with LedgerReader.open_for_reading(folder / "job") as ledger:
        assert content_digest(ledger) == digest
    asked = Counter((folder / "log").read_text().splitlines())
    assert sorted(asked) == sorted(chunks)  # the very same chunks: composition survives a kill
    assert sum(asked.values()) - len(asked) <= kills  # each kill costs at most the chunk in flight


def test_random_instants(tmp_path: Path, uninterrupted: tuple[str, list[str]]) -> None:
    kills = jobs = 0
    while kills < 14:
        jobs += 1
        folder = tmp_path / str(jobs)
        folder.mkdir()
        report = run_with_kills(
            [*JOB, str(folder / "job"), str(folder / "log")],
            kills=14 - kills,
            seed=jobs,
            window=0.12,
            ready=kill_job.READY,
            finished=partial(kill_job.is_finished, folder / "job"),
            cwd=ROOT,
        )
        check(folder, report.kills, uninterrupted)
        kills += report.kills


def test_every_phase_boundary(tmp_path: Path, uninterrupted: tuple[str, list[str]]) -> None:
    places = kill_job.boundaries()
    for place in places:
        run_until_it_kills_itself([*JOB, str(tmp_path / "job"), str(tmp_path / "log"), place], cwd=ROOT)
    run_with_kills([*JOB, str(tmp_path / "job"), str(tmp_path / "log")], kills=0, seed=0, window=0.0, cwd=ROOT)
    check(tmp_path, len(places), uninterrupted)
    assert len(places) == 30


def test_the_harness_reports_a_job_that_fails_by_itself() -> None:
    with pytest.raises(AssertionError, match="exited with 3"):
        run_with_kills([sys.executable, "-c", "raise SystemExit(3)"], kills=0, seed=0, window=0.0)


def test_the_harness_counts_only_real_kills() -> None:
    report = run_with_kills([sys.executable, "-c", ""], kills=5, seed=0, window=0.0, ready="never printed")
    assert (report.runs - report.kills) == 1
