"""Jobs that share answers: paid for once, whole in every ledger, safe with two writers."""

from __future__ import annotations

from contextlib import closing
from multiprocessing import get_context
from pathlib import Path

from svd_loop.config import Config, load_config
from svd_loop.jobs import run_job
from svd_loop.ledger import LedgerReader, SharedAnswers, content_digest
from tests.processes import FOR_COMMANDS

CONFIG = Path(__file__).parents[3] / "configs" / "scripted.yaml"


def job(root: Path, name: str, *extra: str) -> Config:
    """A small scripted job of one round, untracked."""
    small = ("job.rounds=1", "tracking.enabled=false", "data.train.count=12", "data.development.count=12")
    return load_config(CONFIG, [f"job.root={root}", f"job.name={name}", "data.test=null", *small, *extra])


def test_a_job_that_differs_in_selection_alone_pays_for_no_answer_of_its_first_round(tmp_path: Path) -> None:
    with closing(SharedAnswers(tmp_path / "shared.sqlite")) as shared:
        run_job(job(tmp_path, "all", "cascade.selection=all_valid", "sampling.block=null"), shared=shared)
        assert shared.taken == 0
        run_job(job(tmp_path, "first", "sampling.block=null"), shared=shared)
        taken = shared.taken
    asked = answers(tmp_path, "first", purposes=("train", "development"))
    assert 0 < asked <= taken  # canaries are made of what was accepted, which is what differs


def test_sharing_changes_nothing_in_a_jobs_own_ledger(tmp_path: Path) -> None:
    run_job(job(tmp_path / "alone", "a"))
    with closing(SharedAnswers(tmp_path / "shared.sqlite")) as shared:
        run_job(job(tmp_path / "giver", "a", "cascade.votes=3"), shared=shared)
        run_job(job(tmp_path / "taker", "a"), shared=shared)
        assert shared.taken > 0
    alone, taker = (tmp_path / root / "jobs" / "a" for root in ("alone", "taker"))
    with LedgerReader.open_for_reading(alone) as one, LedgerReader.open_for_reading(taker) as other:
        assert content_digest(one) == content_digest(other)


def test_two_processes_may_write_at_once(tmp_path: Path) -> None:
    context = get_context("forkserver")
    workers = [context.Process(target=play, args=(tmp_path, f"job-{number}")) for number in range(2)]
    with FOR_COMMANDS.forking():
        for worker in workers:
            worker.start()
    for worker in workers:
        worker.join(120)
    assert [worker.exitcode for worker in workers] == [0, 0]
    assert answers(tmp_path, "job-0") == answers(tmp_path, "job-1")


def play(root: Path, name: str) -> None:
    """One job in a process of its own."""
    with closing(SharedAnswers(root / "shared.sqlite")) as shared:
        run_job(job(root, name), shared=shared)


def answers(root: Path, name: str, purposes: tuple[str, ...] = ("train",)) -> int:
    """How many answers a job's ledger holds for some purposes."""
    with LedgerReader.open_for_reading(root / "jobs" / name) as reader:
        rows = reader.query("SELECT purpose, count(*) AS n FROM answers GROUP BY purpose")
        return sum(row["n"] for row in rows if row["purpose"] in purposes)
