"""Everything that makes judging cheaper, switched on in a job that is killed: it asks and decides the same."""

from __future__ import annotations

from pathlib import Path

from svd_loop.jobs import run_job
from svd_loop.ledger import LedgerReader
from svd_loop.report.round_metrics import metrics_of
from tests.kill import run_until_it_kills_itself
from tests.svd_loop.job_outcome import asked_again, outcome_of, replies_asked
from tests.svd_loop.jobs_support import small
from tests.svd_loop.test_job_kills import CHOOSING, CHUNK, ROOT, command, finish

SETTINGS = (
    "sampling.n=8",
    "sampling.block=1",
    "engine.skill=0.4",
    "cascade.votes=3",
    "cascade.order=measured",
    "cascade.audit_share=0.1",
    "cascade.fill_rows=40",
)
STAGES = ("cycle_consistency", "factuality", "correctness")
PLACES = ("1/sampled*3", "1/judge/recorded*9", "2/judge/asked*5")


def test_a_killed_job_with_every_saving_goes_on_as_if_it_had_not_been(tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    whole.mkdir()
    killed.mkdir()
    run_job(small(whole, *CHOOSING, f"engine.chunk_size={CHUNK}", *SETTINGS), record=whole / "replies.jsonl")
    for place in PLACES:
        run_until_it_kills_itself(command(killed, place, *SETTINGS), cwd=ROOT)
    finish(killed, *SETTINGS)
    assert outcome_of(killed / "jobs" / "scripted") == outcome_of(whole / "jobs" / "scripted")
    assert set(replies_asked(killed / "replies.jsonl")) == set(replies_asked(whole / "replies.jsonl"))
    assert asked_again(killed / "replies.jsonl") <= len(PLACES) * CHUNK
    with LedgerReader.open_for_reading(killed / "jobs" / "scripted") as ledger:
        metrics = metrics_of(ledger.state().last)
    assert metrics["ahead.votes"] + metrics["ahead.candidates"] > 0 and metrics["audit.candidates"] > 0
    order = sorted((place, name) for name, place in metrics.items() if name.startswith("order."))
    assert [name for _, name in order] != [f"order.{stage}.{v}" for stage in STAGES for v in range(3)]
