"""A judge gone bad on purpose is caught within a round, and the job does what `health.action` says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from envs.canaries import Canary, CanaryKind, plant
from policies.scripted.policy import decode
from policies.scripted.updater import read_traits
from policies.versions.stored import read_manifest
from svd_loop.assembly.scripted_backend import ScriptedBackend
from svd_loop.config.controls import RandomControl
from svd_loop.contracts import (
    AgentCall,
    JobResult,
    Policy,
    Reply,
    RoundRecord,
    StopReason,
    TrainingRow,
    UpdateMaterial,
    UpdateResult,
)
from svd_loop.errors import JobInterrupted
from svd_loop.experiments.controls import control_of
from svd_loop.jobs import run_job
from svd_loop.ledger import DurablePolicy, LedgerReader
from svd_loop.loop.health_rule import alarm_action, alarms_of, outcome
from svd_loop.report.round_metrics import metrics_of
from tests.svd_loop.job_outcome import outcome_of
from tests.svd_loop.jobs_support import small
from tests.svd_loop.unhealthy_judges import BadJudge, Corrupts, always_yes, drifting, yes_to_length

Spoil = Callable[[Corrupts], None]
QUICK = ("evaluation.resamples=100", "data.development.count=3")
BIGGER = ("data.train.count=30", "data.prompts_per_round=45", "cascade.votes=3", "plateau.patience=9")


@pytest.fixture
def spoil(monkeypatch: pytest.MonkeyPatch) -> Spoil:
    """Puts a bad judge into every scripted policy that a job opens."""

    def install(corrupts: Corrupts) -> None:
        opened = ScriptedBackend.open

        def open_spoilt(self: ScriptedBackend, round: int) -> Policy:
            return BadJudge(opened(self, round), corrupts)

        monkeypatch.setattr(ScriptedBackend, "open", open_spoilt)

    return install


def rounds_with_alarm(result: JobResult) -> list[int]:
    return [record.round for record in result.history if alarms_of(record)]


def names_of(record: RoundRecord) -> list[str]:
    return [alarm.figure.name for alarm in alarms_of(record)]


def rows_in_ledger(root: Path) -> set[int]:
    with LedgerReader.open_for_reading(root / "jobs" / "scripted") as reader:
        return {row.round for row in reader.accepted_rows()}


@pytest.mark.parametrize("corrupts, bad_from, slack", [(always_yes, 1, 0), (yes_to_length, 1, 1), (drifting, 3, 1)])
def test_a_bad_judge_is_caught_within_a_round(
    tmp_path: Path, spoil: Spoil, corrupts: Corrupts, bad_from: int, slack: int
) -> None:
    spoil(corrupts)
    result = run_job(small(tmp_path, *QUICK, *BIGGER, "job.rounds=6"))
    assert result.stop is StopReason.JUDGE_UNHEALTHY
    caught = result.history[-1]
    assert bad_from <= caught.round <= bad_from + slack
    assert rounds_with_alarm(result) == [caught.round]
    assert any(name.startswith(("false_accept", "drift")) for name in names_of(caught))
    assert (outcome(caught), caught.rows) == ("stopped, nothing learned", 0)
    assert caught.version == result.history[-2].version
    assert caught.round not in rows_in_ledger(tmp_path)
    assert any("canaries" in note and f"Round {caught.round}" in note for note in result.notes)


@pytest.mark.parametrize("corrupts, bad_from, slack", [(always_yes, 1, 0), (yes_to_length, 1, 1), (drifting, 3, 1)])
def test_each_of_them_is_rolled_back_where_that_is_asked_for(
    tmp_path: Path, spoil: Spoil, corrupts: Corrupts, bad_from: int, slack: int
) -> None:
    spoil(corrupts)
    result = run_job(small(tmp_path, *QUICK, *BIGGER, "job.rounds=5", "health.action=rollback"))
    caught = rounds_with_alarm(result)
    assert bad_from <= caught[0] <= bad_from + slack and result.stop is StopReason.ROUND_LIMIT
    best = max(result.history[: caught[0]], key=lambda record: record.scores.pass_at_1.value)
    rolled = result.history[caught[0]]
    assert (outcome(rolled), rolled.version, rolled.rows) == (f"rolled back to {best.version.name}", best.version, 0)
    assert not rows_in_ledger(tmp_path) & set(caught)


def test_no_canary_is_among_the_rows_that_were_trained_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    planted: list[Canary] = []
    learned: list[TrainingRow] = []
    update = ScriptedBackend.update

    def remember(*arguments: Any, **settings: Any) -> list[Canary]:
        planted.extend(found := plant(*arguments, **settings))
        return found

    def note(self: ScriptedBackend, material: UpdateMaterial, *rest: Any) -> UpdateResult:
        learned.extend(material.rows)
        return update(self, material, *rest)

    monkeypatch.setattr("svd_loop.judge_health.judge_watch.plant", remember)
    monkeypatch.setattr(ScriptedBackend, "update", note)
    own = ("update.replay.anchor=own", "update.replay.anchor_ratio=1.0")
    run_job(small(tmp_path, *QUICK, *BIGGER, "job.rounds=4", *own))
    with LedgerReader.open_for_reading(tmp_path / "jobs" / "scripted") as reader:
        kept = reader.accepted_rows()
        asked = {row["purpose"] for row in reader.query("SELECT DISTINCT purpose FROM replies")}
    assert len(planted) > 150 and "canary" in asked and {row.origin for row in learned} == {"accepted", "anchor"}
    wrong = {(c.prompt.id, c.candidate.text) for c in planted}
    for row in (*kept, *learned):
        assert (row.prompt_id, decode(row.input_ids[row.supervised_from :])) not in wrong
    altered = {c.candidate.text for c in planted if c.kind is CanaryKind.CORRUPTED}
    assert altered and not any(text in decode(row.input_ids) for text in altered for row in learned)


def test_a_rollback_continues_from_the_best_version_and_patience_bounds_it(tmp_path: Path, spoil: Spoil) -> None:
    def bad_in_two_and_from_four(call: AgentCall, reply: Reply) -> bool:
        return call.id.round == 2 or call.id.round >= 4

    spoil(bad_in_two_and_from_four)
    result = run_job(
        small(tmp_path, *BIGGER, "job.rounds=20", "plateau.patience=2", "health.action=rollback", QUICK[0])
    )
    first, second, third = result.history[1:4]
    assert first.scores.pass_at_1.value > result.history[0].scores.pass_at_1.value
    assert (second.version, second.scores, second.rows) == (first.version, first.scores, 0)
    assert outcome(second) == "rolled back to round-001"
    assert second.accepted_prompts > 0
    versions = tmp_path / "jobs" / "scripted" / "versions"
    assert not (versions / "round-002").exists()
    assert third.version.round == 3
    assert read_manifest(versions / "round-003").parent == 1
    assert read_traits(versions / "round-003").skill > read_traits(versions / "round-001").skill
    assert rows_in_ledger(tmp_path) == {1, 3}
    assert (result.stop, rounds_with_alarm(result)) == (StopReason.PLATEAU, [2, 4, 5])
    assert result.best.round == 3


def test_a_warning_is_recorded_and_the_job_continues(tmp_path: Path, spoil: Spoil) -> None:
    spoil(always_yes)
    result = run_job(small(tmp_path, *QUICK, "health.action=warn", "plateau.patience=9"))
    assert result.stop is StopReason.ROUND_LIMIT
    assert rounds_with_alarm(result) == [1, 2]
    assert [str(alarm_action(record)) for record in result.history[1:]] == ["warn", "warn"]
    assert rows_in_ledger(tmp_path) == {1, 2}


@pytest.mark.parametrize("seed", range(2))
def test_a_good_judge_raises_no_alarm_in_ten_rounds(tmp_path: Path, seed: int) -> None:
    result = run_job(
        small(tmp_path, f"job.seed={seed}", "cascade.votes=3", "job.rounds=10", "plateau.patience=10", *QUICK)
    )
    assert len(result.history) == 11
    assert all(metrics_of(record)["health.false_accept"] < 0.1 for record in result.history[1:])
    assert rounds_with_alarm(result) == []


def test_a_judge_that_seldom_gives_a_verdict_raises_the_alarm_of_its_stages(tmp_path: Path) -> None:
    vague = ("engine.invalid=0.65", "cascade.votes=1", "cascade.stages=[factuality, correctness]", "job.rounds=1")
    result = run_job(small(tmp_path, *QUICK, *BIGGER[:2], *vague))
    metrics = metrics_of(result.history[1])
    assert result.stop is StopReason.JUDGE_UNHEALTHY and "invalid.factuality" in names_of(result.history[1])
    asked = metrics["votes.factuality.invalid"] + metrics["votes.factuality.yes"] + metrics["votes.factuality.no"]
    assert metrics["health.invalid.factuality"] == metrics["votes.factuality.invalid"] / asked
    assert 0.3 < metrics["health.invalid.factuality"] < 0.55  # 0.65 squared: every one of them was asked twice
    assert metrics["fact_checker.calls"] > asked


def test_controls_are_not_watched(tmp_path: Path) -> None:
    config = small(tmp_path, *QUICK, "job.rounds=1")
    result = run_job(config, control=control_of(RandomControl(), config))
    assert not any(name.startswith(("health.", "canary.")) for name in metrics_of(result.history[1]))


def test_no_canaries_leave_the_figures_that_need_none(tmp_path: Path) -> None:
    metrics = metrics_of(run_job(small(tmp_path, *QUICK, "health.canaries=0", "job.rounds=1")).history[1])
    assert metrics["health.entropy"] > 0
    assert metrics["health.alarms"] == 0
    assert "health.false_accept" not in metrics and not any(name.startswith("canary.") for name in metrics)


@pytest.mark.parametrize("action", ["stop", "rollback"])
def test_a_job_interrupted_among_its_canaries_ends_as_if_it_had_not_been(
    tmp_path: Path, spoil: Spoil, monkeypatch: pytest.MonkeyPatch, action: str
) -> None:
    spoil(always_yes)
    overrides = (f"health.action={action}", "job.rounds=2", *QUICK)
    run_job(small(tmp_path / "whole", *overrides))
    generate, left = DurablePolicy.generate, [5]

    def interrupted(self: DurablePolicy, calls: Sequence[AgentCall]) -> list[Reply]:
        if calls and calls[0].id.purpose == "canary":
            left[0] -= 1
            if not left[0]:
                raise JobInterrupted("stopped in the middle of the canaries")
        return generate(self, calls)

    monkeypatch.setattr(DurablePolicy, "generate", interrupted)
    with pytest.raises(JobInterrupted):
        run_job(small(tmp_path / "cut", *overrides))
    run_job(small(tmp_path / "cut", *overrides))
    assert outcome_of(tmp_path / "cut" / "jobs" / "scripted") == outcome_of(tmp_path / "whole" / "jobs" / "scripted")


def test_a_stopped_job_stays_stopped_and_can_be_forked_from_its_bad_round(tmp_path: Path, spoil: Spoil) -> None:
    spoil(always_yes)
    assert run_job(small(tmp_path, *QUICK)).stop is StopReason.JUDGE_UNHEALTHY
    again = run_job(small(tmp_path, *QUICK))
    assert (again.stop, len(again.history)) == (StopReason.JUDGE_UNHEALTHY, 2)
    tolerant = small(tmp_path, *QUICK, "job.name=other", "health.action=warn", "plateau.patience=9")
    forked = run_job(tolerant, fork_from="scripted@1")
    assert forked.stop is StopReason.ROUND_LIMIT
    assert forked.history[1] == again.history[1]
    assert forked.history[2].version.round == 2
