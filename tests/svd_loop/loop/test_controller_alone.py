"""The controller played with fake parts: no ledger file, no engine, no cascade."""

from __future__ import annotations

from dataclasses import replace

import pytest

from svd_loop.contracts import (
    Candidate,
    Episode,
    Estimate,
    HealthFigure,
    HealthMeasure,
    HealthReport,
    PolicyVersion,
    Rejection,
    StepChoice,
    StepRates,
    StopReason,
    Usage,
    UsagePurpose,
    Verdict,
)
from svd_loop.loop.controller import Controller
from svd_loop.loop.limits import Limits
from svd_loop.loop.parts import Plan
from tests.svd_loop.loop.fakes import FakeJob, version

FOOLED = HealthReport({HealthFigure(HealthMeasure.FALSE_ACCEPT): Estimate(0.9, 0.8, 1.0)})


def plan(rounds: int = 2, **limits: float) -> Plan:
    return Plan("fake", 0, Limits(rounds, hours=limits.get("hours")), frozen_judge=bool(limits.get("frozen")))


def test_rounds_are_played_to_the_limit_and_the_best_one_wins() -> None:
    job = FakeJob({0: 20, 1: 60, 2: 58})
    result = Controller(job.parts(), plan()).run()
    assert (result.stop, result.best.round) == (StopReason.ROUND_LIMIT, 1)
    assert [record.scores.pass_at_1.value for record in result.history] == [0.2, 0.6, 0.58]
    assert [record.accepted_prompts for record in result.history] == [0, 2, 2]
    assert job.ledger.result == result
    assert job.tracker.told == ["start", "0 rounds", "1 rounds", "2 rounds", "3 rounds", "finish round_limit"]


def test_a_record_says_by_type_what_the_round_took_and_found() -> None:
    job = FakeJob({0: 20})
    record = Controller(job.parts(), plan(1)).run().history[1]
    assert record.usage[UsagePurpose.ROUND] == {"grader": Usage(4, 0, 4), "solver": Usage(4, 0, 4)}
    assert record.usage[UsagePurpose.EVALUATION] == {"solver": Usage(1, 0, 1)}
    assert record.output_tokens == 9
    assert (record.audit, record.update) == ({"complete": StepRates(precision=0.5)}, {"loss": 1.0})
    assert record.metrics == {"rows_refused.long": 0.0} and record.health is None


def test_a_policy_is_closed_before_its_successor_is_trained_and_opened() -> None:
    job = FakeJob({0: 20})
    Controller(job.parts(), plan(1)).run()
    assert job.events == [
        "open 0",
        "close 0",
        "open 0",
        "close 0",
        "train 1 from 0 on 2",
        "open 1",
        "close 1",
        "register 0",
    ]


def test_the_chosen_checkpoint_is_the_version_of_the_round_and_the_choice_is_on_record() -> None:
    job = FakeJob({0: 20}, candidates=(5, 10))
    record = Controller(job.parts(), plan(1)).run().history[1]
    assert record.version == PolicyVersion(1, "weights 1 at 5")
    assert record.choice == StepChoice((), 5, 5)
    assert record.usage[UsagePurpose.CHOICE] == {"solver": Usage(7)}
    assert "choose" in record.seconds


def test_a_frozen_judge_is_the_base_beside_the_newest_version() -> None:
    job = FakeJob({0: 20, 1: 30, 2: 40})
    Controller(job.parts(), plan(frozen=True)).run()
    second = job.events[job.events.index("close 1") + 1 :]
    assert second[:4] == ["open 1", "open 0", "close 0", "close 1"]


@pytest.mark.parametrize(
    "action, stop, in_force", [("stop", StopReason.JUDGE_UNHEALTHY, 0), ("rollback", StopReason.ROUND_LIMIT, 0)]
)
def test_nothing_is_learned_from_a_judge_that_is_fooled(action: str, stop: StopReason, in_force: int) -> None:
    job = FakeJob({0: 20, 1: 60}, health=FOOLED, action=action)
    result = Controller(job.parts(), plan(1)).run()
    record = result.history[1]
    assert (result.stop, record.version, record.rows) == (stop, version(in_force), 0)
    assert record.health is not None and [alarm.figure.name for alarm in record.health.alarms] == ["false_accept"]
    assert job.ledger.rows == [] and not any("train" in event for event in job.events)
    played = job.ledger.episodes[1]
    assert played is not None and played.selected == ()
    assert len(result.notes) == 2 and "canaries accepted" in result.notes[1]


def test_a_warning_lets_the_round_teach() -> None:
    job = FakeJob({0: 20, 1: 60}, health=FOOLED, action="warn")
    record = Controller(job.parts(), plan(1)).run().history[1]
    assert record.version == version(1) and record.health is not None and record.health.alarms


def test_a_round_that_accepts_nothing_ends_the_job_untrained() -> None:
    job = FakeJob({0: 20}, accepts=0)
    result = Controller(job.parts(), plan(5)).run()
    assert result.stop is StopReason.NOTHING_ACCEPTED and len(result.history) == 2
    assert not any("train" in event for event in job.events)


def test_a_job_goes_on_from_what_its_ledger_holds() -> None:
    whole = FakeJob({0: 20, 1: 30, 2: 40})
    Controller(whole.parts(), plan()).run()
    first = FakeJob({0: 20, 1: 30, 2: 40})
    Controller(first.parts(), plan(1)).run()
    again = FakeJob({0: 20, 1: 30, 2: 40}, ledger=first.ledger)
    Controller(again.parts(), plan()).run()
    assert [(r.version, r.rows) for r in again.ledger.history] == [(r.version, r.rows) for r in whole.ledger.history]
    assert again.events[0] == "open 1", "rounds 0 and 1 are not played again"


def test_time_that_is_used_up_ends_the_job_after_the_round() -> None:
    job = FakeJob({0: 20})
    job.ledger.spent = 3.0
    assert Controller(job.parts(), plan(5, hours=2.0)).run().stop is StopReason.BUDGET


def test_a_refused_candidate_that_holds_a_held_out_problem_is_dropped_like_an_accepted_one() -> None:
    candidates = tuple(Candidate(f"p{i}", 0, "leak" if i > 1 else "fine") for i in range(4))
    verdicts = tuple(Verdict(f"p{i}", 0, i % 2 == 0, Rejection.STATIC if i % 2 else None) for i in range(4))
    episode = Episode(1, 4, candidates, verdicts, candidates[::2])

    def firewall(played: Episode) -> Episode:
        return replace(played, selected=tuple(one for one in played.selected if one.text != "leak"))

    parts = replace(FakeJob({0: 20}).parts(), firewall=firewall)
    clean, refused = Controller(parts, replace(plan(), learns_from_refused=True)).without_leaks(episode)
    assert (clean.selected, refused) == (candidates[:1], [candidates[1]])
    assert Controller(parts, plan()).without_leaks(episode) == (clean, [])
