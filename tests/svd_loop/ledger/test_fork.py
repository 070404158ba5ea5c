from __future__ import annotations

from pathlib import Path

import pytest

from svd_loop.contracts import JobResult, StopReason
from svd_loop.errors import JobConflictError
from svd_loop.ledger import Ledger, fork
from tests.svd_loop.ledger import samples

CALLS = [samples.solve(f"p{number}", 0) for number in range(6)]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    with Ledger.open(tmp_path / "sample", samples.config()) as ledger:
        ledger.record(samples.items(CALLS))
        samples.commit_rounds(ledger, 2)
        history = ledger.state().history
        ledger.commit_stop(JobResult("sample", StopReason.PLATEAU, history[1], history))
    return tmp_path / "sample"


def test_a_fork_continues_from_the_round(source: Path) -> None:
    target, changed = source.parent / "other", samples.config(name="other", seed=5)
    fork(source, 1, target, changed)
    with Ledger.open(target, changed) as ledger:
        state = ledger.state()
        assert (state.job, state.history, state.stop) == ("other", (samples.record(0), samples.record(1)), None)
        assert ledger.accepted_rows() == samples.rows(1)
        assert len(ledger.lookup([samples.StubPolicy().key(call) for call in CALLS])) == len(CALLS)
        ledger.commit_round(samples.record(2), samples.episode(2), samples.rows(2), samples.update(2))
    with Ledger.open(source, samples.config()) as ledger:  # untouched
        assert ledger.state().stop is StopReason.PLATEAU


def test_a_running_job_can_be_forked(source: Path) -> None:
    with Ledger.open(source, samples.config()):
        fork(source, 0, source.parent / "other", samples.config(name="other"))
    with Ledger.open(source.parent / "other", samples.config(name="other")) as ledger:
        assert ledger.state().next_round == 1


@pytest.mark.parametrize("round", [-1, 3])
def test_only_a_finished_round_can_be_forked_from(round: int, source: Path) -> None:
    with pytest.raises(JobConflictError, match=f"no finished round {round}; it has rounds 0 to 2"):
        fork(source, round, source.parent / "other", samples.config(name="other"))
    assert not (source.parent / "other").exists()


def test_an_existing_job_is_not_overwritten(source: Path) -> None:
    fork(source, 1, source.parent / "other", samples.config(name="other"))
    with pytest.raises(JobConflictError, match="a job of this name"):
        fork(source, 2, source.parent / "other", samples.config(name="other"))
