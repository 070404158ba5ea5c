"""The arithmetic of a forecast: where votes and blocks leave something to compute, by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from svd_loop.contracts import BUILT_IN_STAGES, Role, StageName
from svd_loop.preflight.work import Measured, Range, RoleMeans, forecast
from tests.svd_loop.jobs_support import small

ROLES = {
    Role.SOLVER: RoleMeans(10, 100),
    Role.QUESTION_INFERRER: RoleMeans(20, 5),
    Role.QUESTION_COMPARER: RoleMeans(20, 5),
    Role.FACT_CHECKER: RoleMeans(30, 7),
    Role.GRADER: RoleMeans(30, 9),
}
SURE = dict.fromkeys(BUILT_IN_STAGES, (10**9, 10**9))
NEVER = dict.fromkeys(BUILT_IN_STAGES, (0, 10**9))


def measured(yes: dict[StageName, tuple[int, int]], *, complete: int = 8) -> Measured:
    return Measured(8, complete, ROLES, yes, prompt_rate=1000.0, output_rate=100.0, rows=8)


def near(found: Range, value: float) -> bool:
    return all(end == pytest.approx(value, rel=1e-3) for end in (found.value, found.low, found.high))


def test_when_every_vote_is_yes_each_prompt_costs_a_block_and_every_vote(tmp_path: Path) -> None:
    """18 prompts, blocks of 2, two votes of 2 + 1 + 1 calls."""
    found = forecast(small(tmp_path), measured(SURE), prompts=30, held_out={"development": 8})
    assert near(found.round["candidates"], 36) and near(found.round["judge_calls"], 36 * 8)
    assert near(found.round["output_tokens"], 36 * (100 + 2 * (5 + 5 + 7 + 9)))
    assert near(found.round["accepted"], 18)


def test_a_choice_among_checkpoints_costs_samples_of_both_halves(tmp_path: Path) -> None:
    """Four checkpoints of two samples: all of them once, then three, and the two that are compared in the end."""
    plain, choosing = (
        forecast(
            small(tmp_path, f"update.choose_from={count}"), measured(SURE), prompts=30, held_out={"development": 20}
        )
        for count in (0, 4)
    )
    more = choosing.job["output_tokens"].value - plain.job["output_tokens"].value
    assert more == pytest.approx(2 * (4 + 3 + 2) * 20 / 2 * 100)


def test_when_no_vote_is_yes_all_candidates_are_tried_and_the_first_vote_ends_each(tmp_path: Path) -> None:
    found = forecast(small(tmp_path), measured(NEVER), prompts=10, held_out={})
    assert near(found.round["candidates"], 40) and near(found.round["judge_calls"], 80)
    assert found.round["accepted"].high < 0.01


def test_without_early_exit_every_vote_is_cast(tmp_path: Path) -> None:
    config = small(tmp_path, "cascade.early_exit=false", "sampling.block=null")
    found = forecast(config, measured(dict.fromkeys(BUILT_IN_STAGES, (1, 2))), prompts=10, held_out={})
    assert near(found.round["judge_calls"], 10 * 4 * 8)


def test_candidates_that_are_cut_off_are_sampled_and_not_judged(tmp_path: Path) -> None:
    found = forecast(small(tmp_path), measured(SURE, complete=0), prompts=10, held_out={})
    assert near(found.round["candidates"], 40) and near(found.round["judge_calls"], 0)


def test_fewer_votes_leave_more_uncertain(tmp_path: Path) -> None:
    few, many = (
        forecast(
            small(tmp_path), measured(dict.fromkeys(BUILT_IN_STAGES, (3 * size // 4, size))), prompts=10, held_out={}
        )
        for size in (4, 400)
    )
    for name in ("candidates", "judge_calls", "output_tokens"):
        assert few.round[name].low <= many.round[name].low <= many.round[name].high <= few.round[name].high
        assert few.round[name].low < few.round[name].value < few.round[name].high


def test_hours_are_reading_writing_and_training(tmp_path: Path) -> None:
    """One round, one candidate a prompt, one vote of one stage: 10 prompts of 110 tokens, trained on twice."""
    judged = ("cascade.votes=1", "cascade.stages=[factuality]", "health.canaries=0")
    config = small(tmp_path, "job.rounds=1", "sampling.n=1", "sampling.block=null", "update.replay.rounds=0", *judged)
    found = forecast(config, measured(SURE), prompts=10, held_out={"development": 8})
    generating = 10 * (10 + 30) / 1000 + 10 * (100 + 7) / 100
    training = 10 * 2 * 110 * 3 / 1000
    evaluating = 2 * 8 * 2 * (10 / 1000 + 100 / 100)
    assert near(found.round["hours"], (generating + training) / 3600)
    assert near(found.job["hours"], (generating + training + evaluating) / 3600)
    assert "hours" not in forecast(config, replace(measured(SURE), prompt_rate=None), prompts=10, held_out={}).round


@pytest.mark.parametrize(("kind", "passes"), [("sft", 0), ("dpo", 30 * 8), ("kto", 40 * 6), ("grpo", 40 * 4)])
def test_preferences_add_examples_to_an_update(tmp_path: Path, kind: str, passes: int) -> None:
    """10 prompts of 4 candidates, one of them selected: 10 rows of 3 forward passes, and the passes of the others."""
    keys = ("job.rounds=1", "sampling.block=null", "update.replay.rounds=0", f"update.algorithm.type={kind}")
    hours = [
        forecast(small(tmp_path, *keys, f"update.epochs={epochs}"), measured(SURE), prompts=10, held_out={})
        .round["hours"]
        .value
        for epochs in (1, 3)
    ]
    assert hours[1] - hours[0] == pytest.approx(2 * (10 * 3 + passes) * 110 / 1000 / 3600, rel=1e-3)


def test_a_role_that_was_never_asked_counts_at_its_longest(tmp_path: Path) -> None:
    solver = replace(measured({}), roles={Role.SOLVER: ROLES[Role.SOLVER]}, yes={})
    config = small(tmp_path, "cascade.judge.max_tokens=50")
    found = forecast(config, solver, prompts=10, held_out={})
    assert found.round["output_tokens"].high > 40 * (100 + 50) and found.round["candidates"].high == pytest.approx(40)
