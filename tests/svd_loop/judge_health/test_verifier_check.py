"""The verifier test in jobs of the scripted policy, whose true and false positive rates are known."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from policies.scripted.policy import ScriptedPolicy
from svd_loop.assembly.job import build_job
from svd_loop.config import Config
from svd_loop.contracts import AgentCall, CallId, Reply, StopReason, UsagePurpose, VerifierReport
from svd_loop.jobs import run_job, verify_model
from svd_loop.ledger import Interrupt, LedgerReader
from tests.svd_loop.jobs_support import small

SIZE = ("data.train.count=20", "data.development.count=25", "data.prompts_per_round=60", "job.rounds=4")


def sized(root: Path, *overrides: str) -> Config:
    """A job that is large enough for a test."""
    return small(root, *SIZE, *overrides)


def baseline(config: Config) -> VerifierReport | None:
    with build_job(config, interrupt=Interrupt(lambda: None)) as job:
        return job.controller.record_baseline().last.verifiers


def test_round_0_measures_what_the_base_can_verify(tmp_path: Path) -> None:
    config = sized(tmp_path, "engine.true_positive=0.9", "engine.false_positive=0.2", "cascade.votes=1")
    found = baseline(config)
    assert found is not None
    labelled = {one.name: one for one in found.rates if one.labelled}
    assert {"cycle_consistency", "factuality", "correctness", "cascade"} <= set(labelled)
    assert labelled["correctness"].j.low <= 0.7 <= labelled["correctness"].j.high
    assert found.forecasts[0].verifier == "cascade" and found.recommended
    assert set(found.canaries) >= {"near_miss", "foreign"}
    with LedgerReader.open_for_reading(config.job.paths.folder) as reader:
        record = reader.state().history[0]
    assert record.verifiers == found  # as it came back from the ledger
    assert sum(one.output_tokens for one in record.usage[UsagePurpose.VERIFIERS].values()) == found.tokens


def test_a_job_too_small_or_told_so_is_not_tested(tmp_path: Path) -> None:
    assert baseline(small(tmp_path / "small")) is None
    assert baseline(sized(tmp_path / "told", "health.verify=0")) is None


def test_its_price_is_a_share_of_the_job(tmp_path: Path) -> None:
    result = run_job(sized(tmp_path, "plateau.patience=6"))
    tested_for = result.history[0].verifiers
    assert tested_for is not None and result.stop is StopReason.ROUND_LIMIT
    assert tested_for.tokens < 0.05 * sum(record.output_tokens for record in result.history)


def test_round_1_asks_nothing_that_the_test_has_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answer, asked = ScriptedPolicy.generate, list[AgentCall]()

    def recording(self: ScriptedPolicy, calls: Sequence[AgentCall]) -> list[Reply]:
        asked.extend(calls)
        return answer(self, calls)

    def of_training(config: Config) -> tuple[set[CallId], set[CallId]]:
        """The calls about training prompts that were answered in round 0 and in round 1."""
        with build_job(config, interrupt=Interrupt(lambda: None)) as job:
            asked.clear()
            state = job.controller.record_baseline()
            tested = {call.id for call in asked if call.id.purpose == "train"}
            asked.clear()
            job.controller.play_round(state)
        return tested, {call.id for call in asked if call.id.purpose == "train"}

    monkeypatch.setattr(ScriptedPolicy, "generate", recording)
    tested, after = of_training(sized(tmp_path / "tested"))
    none, whole = of_training(sized(tmp_path / "not", "health.verify=0"))
    assert tested and not none and after == whole - tested and len(tested & whole) > len(tested) / 3


def test_judges_no_better_than_chance_end_the_job_before_training(tmp_path: Path) -> None:
    worse = ("engine.true_positive=0.4", "engine.false_positive=0.6", "cascade.votes=1")
    coin = sized(tmp_path, *worse, "health.verify=0.5")
    result = run_job(coin)
    assert result.stop is StopReason.NO_VERIFIER
    assert [record.round for record in result.history] == [0]
    assert not (coin.job.paths.folder / "versions" / "round-001").exists()
    assert "J (true minus false positive rate)" in result.notes[-1]
    told = coin.model_copy(update={"health": coin.health.model_copy(update={"useful_j": None})})
    limited = told.model_copy(update={"job": told.job.model_copy(update={"rounds": 1})})
    assert [record.round for record in run_job(limited).history] == [0, 1]  # the same job goes on


def test_the_command_resumes_without_asking_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = small(tmp_path)
    found = verify_model(config, None, 8)
    assert found.candidates == 8 + 2 and found.tokens > 0
    monkeypatch.setattr(ScriptedPolicy, "generate", None)
    assert verify_model(config, None, 8) == found
