"""The dotted names of figures; a whole old round is compared in `tests/svd_loop/ledger/test_typed_rounds.py`."""

from __future__ import annotations

from dataclasses import replace

from svd_loop.contracts import (
    AlarmAction,
    Estimate,
    HealthReport,
    RoundRecord,
    StepChoice,
    StepRates,
    Usage,
    UsagePurpose,
)
from svd_loop.report.round_metrics import metrics_of


def test_an_alarm_names_its_figure_its_limit_and_what_it_did(alarmed: list[RoundRecord]) -> None:
    named = {name: value for name, value in metrics_of(alarmed[2]).items() if name.startswith("health.")}
    assert named == {
        "health.false_accept": 0.5,
        "health.false_accept.low": 0.35,
        "health.false_accept.high": 0.65,
        "health.alarms": 1.0,
        "health.alarm.false_accept": 0.1,
        f"health.action.{AlarmAction.ROLLBACK.value}": 1.0,
    }


def test_usage_is_named_by_purpose_and_role_and_the_update_by_its_own_names(history: list[RoundRecord]) -> None:
    record = replace(
        history[0],
        usage={UsagePurpose.ROUND: {"grader": Usage(1, 2, 3)}, UsagePurpose.CANARY: {"grader": Usage(4, 5, 6)}},
        update={"loss": 0.25},
        metrics={"order.factuality.0": 2.0},
        audit={"complete": StepRates(precision=0.5, recall=None, false_positive=0.0)},
    )
    assert metrics_of(record) == {
        "grader.calls": 1,
        "grader.prompt_tokens": 2,
        "grader.output_tokens": 3,
        "canary.grader.calls": 4,
        "canary.grader.prompt_tokens": 5,
        "canary.grader.output_tokens": 6,
        "order.factuality.0": 2.0,
        "loss": 0.25,
        "precision.complete": 0.5,
        "false_positive.complete": 0.0,
    }


def test_a_choice_names_its_steps_and_what_was_confirmed(history: list[RoundRecord]) -> None:
    sure = StepChoice((), 10, 10)
    assert metrics_of(replace(history[0], health=None, choice=sure)) == {"choice.kept": 10, "choice.best": 10}
    found = metrics_of(replace(history[0], health=None, choice=StepChoice((), 5, 10, Estimate(-0.01, -0.03, 0.02))))
    assert found == {
        "choice.kept": 10,
        "choice.best": 5,
        "choice.difference": -0.01,
        "choice.difference.low": -0.03,
        "choice.difference.high": 0.02,
    }


def test_what_was_not_measured_has_no_name(history: list[RoundRecord]) -> None:
    assert metrics_of(replace(history[0], health=None)) == {}
    assert metrics_of(replace(history[0], health=HealthReport(entropy=0.0))) == {
        "health.entropy": 0.0,
        "health.alarms": 0.0,
    }
