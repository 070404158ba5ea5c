from __future__ import annotations

import math
import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from svd_loop.contracts import PolicyVersion, RoundRecord, Scores
from svd_loop.mlflow_store.metrics import (
    flat_params,
    round_metrics,
    score_metrics,
    story_metrics,
    without_bounds,
)

SECTIONS = ("pass_at_1", "accepted", "judge", "training", "cost")


def test_scores_carry_their_intervals(history: list[RoundRecord]) -> None:
    metrics = score_metrics(history[0].scores, "test/")
    assert metrics["test/pass_at_1/overall"] == 0.40
    assert metrics["test/pass_at_1/overall.low"] == pytest.approx(0.35)
    assert metrics["test/pass_at_1/math.high"] == pytest.approx(0.55)


def test_a_played_round_has_acceptance_cost_and_judge_health(history: list[RoundRecord]) -> None:
    metrics = round_metrics(history[1])
    assert metrics["play/accepted_fraction"] == 0.9
    assert metrics["cost/votes"] == 700 + 500 + 300
    assert metrics["cost/output_tokens"] == 6000
    assert metrics["funnel/factuality"] == 380
    assert metrics["let_through/factuality"] == 380 / 500
    assert metrics["invalid_rate/factuality"] == 20 / 500
    assert "invalid_rate/correctness" not in metrics
    assert metrics["seconds/total"] == 10.0
    assert metrics["solver/calls"] == 800
    assert metrics["update/loss"] == 0.5


def test_the_charts_of_a_job_are_few_and_begin_with_the_score(history: list[RoundRecord]) -> None:
    story = story_metrics(history[1])
    assert next(iter(story)) == sorted(story)[0] == "1_pass_at_1/all_domains"
    assert story["1_pass_at_1/all_domains"] == 0.52
    assert story["2_accepted/passed_factuality"] == 380 / 500
    assert story["4_training/loss"] == 0.5
    assert {name.partition("/")[0] for name in story} <= {f"{n}_{s}" for n, s in enumerate(SECTIONS, 1)}
    assert len(story) < 20
    assert not [name for name in story if name.endswith((".low", ".high"))]
    assert set(story_metrics(history[0])) < set(story)


def test_the_health_of_the_judge_is_among_the_charts(alarmed: list[RoundRecord]) -> None:
    story = story_metrics(alarmed[2])
    assert story["3_judge/alarms"] == 1
    assert 0 < story["3_judge/false_accept"] <= 1


def test_bounds_are_left_out_and_nothing_else(history: list[RoundRecord]) -> None:
    metrics = round_metrics(history[1])
    left_out = metrics.keys() - without_bounds(metrics).keys()
    assert {f"pass_at_1/{group}.{side}" for group in ("overall", "math") for side in ("low", "high")} <= left_out
    assert all(name.rpartition(".")[0] in metrics for name in left_out)


def test_the_baseline_played_nothing(history: list[RoundRecord]) -> None:
    assert not [name for name in round_metrics(history[0]) if name.startswith(("play/", "funnel/", "let_through/"))]


@given(st.dictionaries(st.text(min_size=1, max_size=12), st.floats(allow_nan=True, allow_infinity=True), max_size=5))
def test_whatever_a_round_measured_becomes_finite_numbers_under_names_mlflow_takes(extra: dict[str, float]) -> None:
    record = RoundRecord(1, PolicyVersion(1, "ab"), Scores("development", 1, (), (), ()), update=extra)
    for name, value in round_metrics(record).items():
        assert re.fullmatch(r"[\w\-./ ]+", name)
        assert math.isfinite(value)


def test_a_stage_nobody_reached_has_no_share(history: list[RoundRecord]) -> None:
    empty = replace(history[1], funnel={"generated": 10, "complete": 0, "factuality": 0, "accepted": 0})
    assert "let_through/factuality" not in round_metrics(empty)


def test_parameters_are_dotted_keys() -> None:
    config = {"job": {"name": "demo", "seed": 0}, "empty": {}, "stages": ["a", "b"], "none": None}
    assert flat_params(config) == {"job.name": "demo", "job.seed": "0", "stages": "['a', 'b']", "none": "None"}
