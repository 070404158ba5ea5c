from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from svd_loop.cli.app import app
from svd_loop.contracts import Rejection
from svd_loop.errors import ConfigError, DataError
from svd_loop.experiments.thresholds import Scored, scored_candidates, threshold_for
from svd_loop.jobs import run_job
from svd_loop.ledger import LedgerReader
from tests.kill import run_until_it_kills_itself
from tests.svd_loop.job_outcome import asked_again, outcome_of
from tests.svd_loop.jobs_support import small
from tests.svd_loop.test_job_kills import CHUNK, ROOT, command, finish

scores = st.integers(0, 20).map(lambda n: n / 20)
CASES = st.lists(st.builds(Scored, scores, st.booleans())).filter(lambda s: {i.accepted for i in s} == {True, False})


@given(CASES, st.floats(0.0, 0.5))
def test_no_more_is_lost_than_said_and_a_larger_threshold_would_lose_more(scored: list[Scored], lose: float) -> None:
    found = threshold_for(scored, lose)
    kept = [item.score for item in scored if item.accepted]
    assert sum(score < found.value for score in kept) <= lose * len(kept)
    above = [score for score in kept if score > found.value]
    assert all(sum(score < larger for score in kept) > lose * len(kept) - 1e-9 for larger in above)
    assert found.false_reject.low <= found.false_reject.value <= found.false_reject.high
    assert 0.0 <= found.auc <= 1.0


def test_the_auc_of_scores_that_tell_and_of_scores_that_do_not() -> None:
    telling = [Scored(0.1 * n, n >= 5) for n in range(10)]
    assert threshold_for(telling, 0.0).auc == 1.0 and threshold_for(telling, 0.0).spared.value == 1.0
    assert threshold_for([Scored(0.5, n % 2 == 0) for n in range(10)], 0.0).auc == 0.5


@pytest.mark.parametrize("accepted", [True, False])
def test_one_kind_alone_gives_no_threshold(accepted: bool) -> None:
    with pytest.raises(DataError, match="accepted and rejected"):
        threshold_for([Scored(0.5, accepted)], 0.1)


def test_a_jobs_votes_set_the_threshold_that_its_fork_uses(tmp_path: Path) -> None:
    job = ("engine.skill=0.5", "cascade.votes=3", "sampling.n=6", "sampling.block=1")
    plain = run_job(small(tmp_path, *job, "job.name=plain", "job.rounds=1"))
    figures = run_job(small(tmp_path, *job, "job.rounds=1", "cascade.prefilter={threshold: 0}"))
    assert figures.history[1].metrics["prefilter.calls"] == figures.history[1].funnel["generated"]
    assert figures.history[1].funnel == plain.history[1].funnel
    found = threshold_for(scored_candidates("scripted", tmp_path), 0.1)
    assert found.candidates == figures.history[1].funnel["generated"] and found.auc > 0.8
    shown = CliRunner().invoke(app, ["threshold", "scripted", "--root", str(tmp_path), "--lose", "0.1", "--json"])
    assert json.loads(shown.stdout)["value"] == found.value
    run_job(
        small(
            tmp_path,
            *job,
            "job.name=fork",
            "cascade.audit_share=0.5",
            f"cascade.prefilter={{threshold: {found.value}}}",
        ),
        fork_from="scripted@1",
    )
    with LedgerReader.open_for_reading(tmp_path / "jobs" / "fork") as ledger:
        rejected = list(ledger.query("SELECT candidate FROM verdicts WHERE rejection = ?", (Rejection.PREFILTER,)))
        metrics = ledger.state().last.metrics
    assert len(rejected) == metrics["prefilter.rejected"] > 0
    assert 0.0 <= metrics["prefilter.false_reject"] < 0.5
    assert len(scored_candidates("fork", tmp_path)) == metrics["audit.candidates"] < metrics["prefilter.calls"]
    with pytest.raises(ConfigError, match="no one-token verdicts"):
        scored_candidates("plain", tmp_path)


def test_a_score_that_was_paid_for_is_not_asked_again(tmp_path: Path) -> None:
    settings = ("cascade.prefilter={threshold: 0.4}", "cascade.audit_share=0.2")
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    whole.mkdir()
    killed.mkdir()
    run_job(small(whole, f"engine.chunk_size={CHUNK}", *settings), record=whole / "replies.jsonl")
    run_until_it_kills_itself(command(killed, "1/prefilter/recorded*4", *settings), cwd=ROOT)
    finish(killed, *settings)
    assert outcome_of(killed / "jobs" / "scripted") == outcome_of(whole / "jobs" / "scripted")
    assert asked_again(killed / "replies.jsonl") <= CHUNK
