"""A judge that drifts by one point a round is seen by the panel within four rounds, and by nothing else."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from svd_loop.assembly.scripted_backend import ScriptedBackend
from svd_loop.contracts import AgentCall, JobResult, Policy, Reply, StopReason, UsagePurpose
from svd_loop.errors import JobInterrupted
from svd_loop.jobs import run_job
from svd_loop.ledger import DurablePolicy
from svd_loop.loop.health_rule import alarms_of
from svd_loop.report.round_metrics import metrics_of
from tests.svd_loop.job_outcome import outcome_of
from tests.svd_loop.jobs_support import small
from tests.svd_loop.unhealthy_judges import DriftingJudge

Drifts = Callable[[str], None]
WITH_PANEL = (
    "data.train.count=60",
    "data.prompts_per_round=60",
    "data.development.count=2",
    "cascade.votes=3",
    "sampling.n=3",
    "evaluation.resamples=100",
    "evaluation.samples=1",
    "evaluation.pass_at=[1]",
    "plateau.patience=9",
    "plateau.regression=1.0",
    "health.verify=0",
    "health.panel=1.0",
    "job.rounds=5",
)


@pytest.fixture
def drifts(monkeypatch: pytest.MonkeyPatch) -> Drifts:
    """Lets the judge of every scripted job drift to a verdict."""

    def install(verdict: str) -> None:
        opened = ScriptedBackend.open

        def open_drifting(self: ScriptedBackend, round: int) -> Policy:
            return DriftingJudge(opened(self, round), verdict)

        monkeypatch.setattr(ScriptedBackend, "open", open_drifting)

    return install


def alarms(result: JobResult) -> list[tuple[int, str]]:
    return [(record.round, alarm.figure.name) for record in result.history for alarm in alarms_of(record)]


@pytest.mark.parametrize("verdict, name", [("[[Y]]", "drift_to_yes"), ("[[N]]", "drift_to_no")])
def test_a_drift_of_one_point_a_round_is_caught_within_four_rounds(
    tmp_path: Path, drifts: Drifts, verdict: str, name: str
) -> None:
    drifts(verdict)
    result = run_job(small(tmp_path, *WITH_PANEL))
    assert result.stop is StopReason.JUDGE_UNHEALTHY
    [(round, figure)] = alarms(result)
    assert figure == name and 3 <= round <= 5  # round 2 is the first one judged by a version that drifted
    last = result.history[-1]
    assert metrics_of(last)[f"health.{name}.low"] > 0 and metrics_of(last)["health.panel"] > 600
    assert any("panel votes" in note for note in result.notes)
    without = run_job(small(tmp_path, *WITH_PANEL, "job.name=without", "health.panel=0"))
    assert without.stop is StopReason.ROUND_LIMIT and not alarms(without)


def test_every_round_asks_the_same_questions_and_pays_for_them(tmp_path: Path) -> None:
    result = run_job(small(tmp_path, *WITH_PANEL, "job.rounds=3"))
    panels = [record.health.panel for record in result.history[1:] if record.health]
    assert len({panel.digest for panel in panels if panel}) == 1 and {panel.round for panel in panels if panel} == {1}
    assert "health.drift_to_yes" not in metrics_of(result.history[1])
    assert metrics_of(result.history[2])["health.drift_to_yes"] == 0.0  # a scripted judge never changes
    spent = [sum(usage.calls for usage in record.usage[UsagePurpose.CANARY].values()) for record in result.history[1:]]
    assert all(calls > 800 for calls in spent)


def test_a_share_that_does_not_pay_for_a_panel_draws_none(tmp_path: Path) -> None:
    result = run_job(small(tmp_path, *WITH_PANEL, "job.rounds=1", "health.panel=0.05"))
    assert result.history[1].health is not None and result.history[1].health.panel is None


def test_a_job_interrupted_in_its_panel_ends_as_if_it_had_not_been(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = (*WITH_PANEL, "job.rounds=2")
    run_job(small(tmp_path / "whole", *settings))
    generate, rounds = DurablePolicy.generate, []

    def interrupted(self: DurablePolicy, calls: Sequence[AgentCall]) -> list[Reply]:
        if calls and calls[0].id.purpose == "panel" and self.version.round == 1 and not rounds:
            rounds.append(1)
            raise JobInterrupted("stopped in the middle of the panel")
        return generate(self, calls)

    monkeypatch.setattr(DurablePolicy, "generate", interrupted)
    with pytest.raises(JobInterrupted):
        run_job(small(tmp_path / "cut", *settings))
    run_job(small(tmp_path / "cut", *settings))
    assert rounds
    assert outcome_of(tmp_path / "cut" / "jobs" / "scripted") == outcome_of(tmp_path / "whole" / "jobs" / "scripted")
