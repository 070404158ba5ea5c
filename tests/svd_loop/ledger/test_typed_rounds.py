"""The typed figures of a round: in and out of JSON, and out of a ledger that had them by name alone."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from svd_loop.contracts import (
    BUILT_IN_ROLES,
    BUILT_IN_STAGES,
    AlarmAction,
    Estimate,
    HealthAlarm,
    HealthFigure,
    HealthMeasure,
    HealthReport,
    PanelVotes,
    RoundRecord,
    StepChoice,
    StepFigure,
    StepRates,
    Usage,
    UsagePurpose,
    VoteValue,
)
from svd_loop.ledger.typed_rounds import Figures, from_json, from_names, to_json
from svd_loop.report.as_json import round_json
from svd_loop.report.round_metrics import metrics_of
from tests.svd_loop.ledger import samples

DATA = Path(__file__).parent / "data"
SHARES = [measure for measure in HealthMeasure if measure not in (HealthMeasure.DRIFT, HealthMeasure.LENGTH_RATIO)]

shares = st.floats(0.0, 1.0)
counts = st.integers(0, 10**9)
unknown = st.none() | shares
usages = st.builds(Usage, counts, counts, counts)
estimates = st.builds(Estimate, shares, shares, shares)
figures = st.builds(HealthFigure, st.sampled_from(SHARES), st.none() | st.sampled_from(BUILT_IN_STAGES))
alarms = st.lists(st.builds(HealthAlarm, figures, shares), max_size=3, unique_by=lambda alarm: alarm.figure).map(tuple)
reports = st.builds(
    HealthReport,
    st.dictionaries(figures, estimates, max_size=4),
    st.none() | shares,
    st.none() | shares,
    st.dictionaries(st.sampled_from(["cut", "foreign"]), shares, max_size=2),
    st.none() | estimates,
    alarms,
    st.none() | st.sampled_from(AlarmAction),
)
steps = st.builds(StepFigure, st.integers(1, 4000), st.integers(1, 8), shares, shares)
choices = st.builds(
    StepChoice,
    st.lists(steps, min_size=1, max_size=3).map(tuple),
    st.integers(1, 4000),
    st.integers(1, 4000),
    st.none() | estimates,
)
records = st.builds(
    lambda **typed: replace(samples.record(1), metrics={"order.correctness.0": 1.0, "loss": 0.5}, update={}, **typed),
    usage=st.dictionaries(
        st.sampled_from(UsagePurpose),
        st.dictionaries(st.sampled_from(BUILT_IN_ROLES), st.builds(Usage, counts, counts, counts), min_size=1),
    ),
    votes=st.dictionaries(
        st.sampled_from(BUILT_IN_STAGES), st.dictionaries(st.sampled_from(VoteValue), counts, min_size=1, max_size=3)
    ),
    health=st.none() | reports,
    audit=st.dictionaries(
        st.sampled_from(["complete", "correctness"]),
        st.builds(StepRates, shares, st.none() | shares, st.none() | shares),
    ),
)


def figures_of(record: RoundRecord) -> Figures:
    return Figures(record.usage, record.votes, record.health, record.audit)


@given(records, st.none() | choices)
def test_json_brings_back_what_was_written(record: RoundRecord, choice: StepChoice | None) -> None:
    assert from_json(to_json(replace(record, choice=choice))) == replace(figures_of(record), choice=choice)


def test_the_panel_and_the_search_come_back_and_only_their_figures_have_names() -> None:
    panel = PanelVotes(2, (("p1", 0), ("p2", 3)), 3, "ab", "yni", "nny")
    report = HealthReport(searched={"slip": (4, 1)}, panel=panel)
    record = replace(samples.record(1), health=report)
    assert from_json(to_json(record)).health == report
    named = metrics_of(record)
    assert (named["health.search.slip"], named["health.panel"]) == (0.25, 6.0)


def test_tokens_that_were_not_read_come_back_and_older_rounds_have_none() -> None:
    used = {UsagePurpose.ROUND: {"solver": Usage(4, 9, 7, 5), "grader": Usage(1, 2, 3)}}
    found = from_json(to_json(replace(samples.record(1), usage=used))).usage[UsagePurpose.ROUND]
    assert (found["solver"].read_tokens, found["grader"].read_tokens) == (4, 2)
    assert found["solver"].counts()["cached_tokens"] == 5 and "cached_tokens" not in found["grader"].counts()
    assert found["solver"] == Usage(4, 9, 7), "how batches fell is no difference between two runs"


@given(records)
def test_names_bring_back_the_types_they_were_derived_from(record: RoundRecord) -> None:
    """So a ledger of an older program, which kept the names alone, is read without loss."""
    assert from_names(metrics_of(record)) == (figures_of(record), record.metrics)


def test_an_old_round_with_an_alarm_says_what_it_said_before() -> None:
    """Of the rounds that version 0.1.0 printed under `--json`, the last one raised an alarm and was rolled back."""
    for said in json.loads((DATA / "rounds-0.1.0.json").read_text()):
        found, rest = from_names(said["metrics"])
        record = replace(
            samples.record(0),
            usage=found.usage,
            votes=found.votes,
            health=found.health,
            audit=found.audit,
            metrics=rest,
        )
        now = json.loads(json.dumps(round_json(record)))
        for key in ("metrics", "alarms", "alarm_action", "output_tokens"):
            assert now[key] == said[key], key
        assert set(rest) <= {"skill_before", "skill_after", "share_right"}, "the trainer's own"
    assert found.health is not None and found.health.action is AlarmAction.ROLLBACK
    assert found.health.alarms == (HealthAlarm(HealthFigure(HealthMeasure.ACCEPTED), 0.3),)
