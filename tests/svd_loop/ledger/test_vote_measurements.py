"""The measured order in whole jobs: it comes from the ledger, is logged, and changes nobody's acceptance."""

from __future__ import annotations

from pathlib import Path

from svd_loop.contracts import BUILT_IN_STAGES, Stage, UsagePurpose
from svd_loop.jobs import run_job
from svd_loop.ledger import LedgerReader
from svd_loop.ledger.vote_measurements import MeasuredOrder, measurements
from svd_loop.report.round_metrics import metrics_of
from tests.svd_loop.jobs_support import small


def job(root: Path, *overrides: str) -> LedgerReader:
    """Play a job and open its ledger."""
    run_job(small(root, "engine.false_positive=0.4", *overrides))
    return LedgerReader.open_for_reading(root / "jobs" / "scripted")


def test_the_order_is_measured_from_the_round_before_and_logged(tmp_path: Path) -> None:
    with job(tmp_path, "cascade.order=measured") as ledger:
        first, second = ledger.state().history[1:]
        order_of = MeasuredOrder(ledger, tuple(BUILT_IN_STAGES), 2)
        for record in (first, second):
            logged = {name: value for name, value in record.metrics.items() if name.startswith("order.")}
            units = order_of(record.round)
            assert logged == {f"order.{stage}.{vote}": place for place, (stage, vote) in enumerate(units)}
        assert order_of(1) == tuple((stage, vote) for stage in BUILT_IN_STAGES for vote in range(2))
        assert order_of(2) != order_of(1)
        asked = list(ledger.query("SELECT stage, vote FROM votes WHERE round = 2 AND place = 0"))
        assert {(row["stage"], row["vote"]) for row in asked} == {order_of(2)[0]}


def test_the_order_changes_nobodys_acceptance_and_no_vote(tmp_path: Path) -> None:
    found = []
    for order in ("stage_major", "measured"):
        with job(tmp_path / order, f"cascade.order={order}") as ledger:
            verdicts = [tuple(row.values()) for row in ledger.query(_VERDICTS)]
            votes = {tuple(row.values())[:-1]: row["value"] for row in ledger.query(_VOTES)}
            found.append((verdicts, votes, ledger.accepted_rows(), ledger.state().last.version))
    (verdicts, votes, rows, version), (other_verdicts, other_votes, other_rows, other_version) = found
    assert (verdicts, rows, version) == (other_verdicts, other_rows, other_version)
    shared = votes.keys() & other_votes.keys()
    assert len(shared) > 50 and all(votes[key] == other_votes[key] for key in shared)
    assert votes != other_votes


def test_an_interrupted_job_finds_the_same_order(tmp_path: Path) -> None:
    job(tmp_path / "parts", "cascade.order=measured", "job.rounds=1").close()
    played = []
    for name in ("whole", "parts"):
        with job(tmp_path / name, "cascade.order=measured") as ledger:
            votes = [
                tuple(row.values()) for row in ledger.query(f"{_VOTES} ORDER BY round, prompt_id, candidate, place")
            ]
            played.append((votes, [metrics_of(record) for record in ledger.state().history], ledger.accepted_rows()))
    assert played[0] == played[1]


def test_prices_are_output_tokens_a_vote(tmp_path: Path) -> None:
    with job(tmp_path) as ledger:
        measured = measurements(ledger, 2)
        record = ledger.state().history[1]
        assert measurements(ledger, 1).tallies == [] and measurements(ledger, 1).prices == {}
    votes = sum(record.votes[Stage.FACTUALITY].values())
    assert measured.prices[Stage.FACTUALITY] == record.usage[UsagePurpose.ROUND]["fact_checker"].output_tokens / votes
    assert len(measured.tallies) == record.funnel["complete"]


_VERDICTS = "SELECT round, prompt_id, candidate, accepted, rejection FROM verdicts ORDER BY 1, 2, 3"
_VOTES = "SELECT round, prompt_id, candidate, stage, vote, value FROM votes"
