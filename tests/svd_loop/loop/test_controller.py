"""The loop, driven by the scripted policy: what it records, when it stops, and what it does again after a stop."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from policies.scripted import read_traits
from svd_loop.config.controls import AnyControl, GoldControl, RandomControl
from svd_loop.contracts import JobState, StopReason, UsagePurpose
from svd_loop.errors import ConfigError, JobConflictError, JobInterrupted
from svd_loop.evaluation.evaluation import Evaluator
from svd_loop.experiments.controls import control_of
from svd_loop.jobs import run_job
from svd_loop.ledger import LedgerReader, content_digest
from tests.svd_loop.jobs_support import small


def test_a_job_gets_better_and_says_why_it_stopped(tmp_path: Path) -> None:
    seen: list[int] = []
    result = run_job(small(tmp_path), on_round=lambda state: seen.append(state.last.round))
    assert result.stop is StopReason.ROUND_LIMIT
    assert seen == [0, 1, 2]
    base, best = result.history[0].scores.pass_at_1.value, result.best.scores.pass_at_1.value
    assert best > base + 0.15
    last = result.history[-1]
    assert set(last.seconds) == {"sample", "judge", "canaries", "update", "evaluate"}
    assert last.usage[UsagePurpose.ROUND]["fact_checker"].calls > 0
    assert last.funnel["generated"] >= last.funnel["complete"] >= last.funnel["accepted"] >= last.accepted_prompts > 0
    assert (tmp_path / "jobs" / "scripted" / "report.html").exists()


def test_the_best_round_is_kept_when_the_last_is_worse(tmp_path: Path) -> None:
    # A judge that prefers wrong answers teaches them: the skill falls round by round, and the base stays best.
    config = small(
        tmp_path,
        "engine.true_positive=0.05",
        "engine.false_positive=1.0",
        "engine.skill=0.9",
        "cascade.votes=1",
        "job.rounds=5",
        "plateau.regression=0.02",
        "data.development.count=30",
        "health.action=warn",
    )
    result = run_job(config)
    assert result.stop is StopReason.REGRESSION
    assert result.best.round == 0
    assert result.history[-1].scores.pass_at_1.value < result.best.scores.pass_at_1.value


def test_nothing_accepted_is_a_declared_stop_without_an_update(tmp_path: Path) -> None:
    result = run_job(small(tmp_path, "engine.true_positive=0.0", "engine.false_positive=0.0"))
    assert result.stop is StopReason.NOTHING_ACCEPTED
    assert [record.round for record in result.history] == [0, 1]
    assert result.history[1].version == result.history[0].version
    assert not (tmp_path / "jobs" / "scripted" / "versions" / "round-001").exists()


def test_a_plateau_is_a_declared_stop(tmp_path: Path) -> None:
    result = run_job(small(tmp_path, "engine.gain=0.0", "job.rounds=9"))
    assert result.stop is StopReason.PLATEAU
    assert "progress" in result.notes[0]


@pytest.mark.parametrize("override", ["job.tokens=1000", "job.hours=0.0000001"])
def test_a_spent_budget_is_a_declared_stop(tmp_path: Path, override: str) -> None:
    assert run_job(small(tmp_path, override)).stop is StopReason.BUDGET


def test_zero_rounds_measure_the_base(tmp_path: Path) -> None:
    result = run_job(small(tmp_path, "job.rounds=0"))
    assert [record.round for record in result.history] == [0]


def test_the_test_split_is_measured_for_base_and_best_alone(tmp_path: Path) -> None:
    result = run_job(small(tmp_path, "data.test={type: arithmetic, count: 5}"))
    assert set(result.test) == {"round-000", result.best.version.name}
    assert result.test["round-000"].split == "test"


def test_the_same_job_again_asks_nothing_and_ends_the_same(tmp_path: Path) -> None:
    first = run_job(small(tmp_path))
    folder = tmp_path / "jobs" / "scripted"
    with LedgerReader.open_for_reading(folder) as reader:
        before = content_digest(reader)
    assert run_job(small(tmp_path)).best.version == first.best.version
    with LedgerReader.open_for_reading(folder) as reader:
        assert content_digest(reader) == before


def test_raised_limits_go_on_where_the_job_stopped(tmp_path: Path) -> None:
    short = run_job(small(tmp_path / "a"))
    longer = run_job(small(tmp_path / "a", "job.rounds=3"))
    whole = run_job(small(tmp_path / "b", "job.rounds=3"))
    assert [r.version for r in longer.history] == [r.version for r in whole.history]
    assert longer.history[:3] == short.history


def test_a_changed_configuration_is_refused_by_key(tmp_path: Path) -> None:
    run_job(small(tmp_path))
    with pytest.raises(JobConflictError, match=r"cascade\.votes: 2 -> 3"):
        run_job(small(tmp_path, "cascade.votes=3"))


def test_a_fork_takes_over_rounds_and_may_change_the_rest(tmp_path: Path) -> None:
    origin = run_job(small(tmp_path))
    forked = run_job(small(tmp_path, "job.name=other", "cascade.votes=3"), fork_from="scripted@1")
    assert forked.history[:2] == origin.history[:2]
    assert forked.history[2].usage != origin.history[2].usage
    again = run_job(small(tmp_path, "job.name=other", "cascade.votes=3"), fork_from="scripted@1")
    assert again.history == forked.history  # the same command goes on, it does not start over
    with pytest.raises(JobConflictError, match="a job of this name"):
        run_job(small(tmp_path, "job.name=other", "cascade.votes=3"), fork_from="scripted@0")


@pytest.mark.parametrize("copied", [0, 1])
def test_a_fork_that_was_killed_leaves_no_half_of_a_job(
    copied: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_job(small(tmp_path))
    copies, copy = [], shutil.copytree

    def killed(*arguments: object) -> None:
        if len(copies) == copied:
            raise KeyboardInterrupt
        copies.append(copy(*arguments))  # type: ignore[call-overload]

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("svd_loop.assembly.forking.shutil.copytree", killed)
        run_job(small(tmp_path, "job.name=other"), fork_from="scripted@1")
    assert not (tmp_path / "jobs" / "other").exists()
    forked = run_job(small(tmp_path, "job.name=other"), fork_from="scripted@1")
    assert forked.history[1].version == run_job(small(tmp_path)).history[1].version
    assert sorted(path.name for path in (tmp_path / "jobs").iterdir()) == ["other", "scripted"]


def test_seeds_decide_everything(tmp_path: Path) -> None:
    results = [run_job(small(tmp_path / str(n), f"job.seed={seed}")) for n, seed in enumerate((3, 3, 4))]
    one, same, other = ([record.version for record in result.history] for result in results)
    assert one == same != other


def test_a_frozen_judge_votes_with_the_base(tmp_path: Path) -> None:
    run_job(small(tmp_path, "cascade.frozen_judge=true"))
    with LedgerReader.open_for_reading(tmp_path / "jobs" / "scripted") as reader:
        rows = list(
            reader.query("SELECT DISTINCT role, policy_round FROM replies WHERE purpose = 'train' AND round = 2")
        )
    rounds = {row["role"]: row["policy_round"] for row in rows}
    assert rounds["solver"] == 1
    assert {rounds[role] for role in rounds if role != "solver"} == {0}


def test_the_best_checkpoint_of_an_update_is_what_the_next_round_plays_with(tmp_path: Path) -> None:
    # The judge likes wrong answers, so every step makes the skill worse: the first checkpoint of each update is kept.
    bad = ("engine.true_positive=0.05", "engine.false_positive=1.0", "engine.skill=0.9", "health.action=warn")
    result = run_job(
        small(tmp_path, *bad, "update.choose_from=4", "data.development.count=20", "plateau.regression=1.0")
    )
    versions = tmp_path / "jobs" / "scripted" / "versions"
    for record in result.history[1:]:
        assert record.choice is not None and record.choice.confirmed is not None
        assert (record.choice.best, record.choice.kept) == (1, 1)
        assert [figure.step for figure in record.choice.steps] == [1, 2, 3, 4]
        assert read_traits(versions / record.version.name).skill > record.update["skill_after"] + 0.1
        assert record.usage[UsagePurpose.CHOICE]["solver"].calls > 0
    assert result.history[2].update["skill_before"] == read_traits(versions / "round-001").skill
    assert sorted(path.name for path in versions.iterdir()) == ["round-000", "round-001", "round-002"]


def test_a_choice_killed_between_two_looks_goes_on_to_the_same_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    several = ("engine.skill=0.5", "job.rounds=1", "update.choose_from=4", "data.development.count=20")
    whole = run_job(small(tmp_path / "whole", *several)).history[1]
    count, made = Evaluator.count, []

    def killed(*arguments: Any) -> Any:
        if len(made) == 3:
            raise KeyboardInterrupt
        made.append(count(*arguments))
        return made[-1]

    with monkeypatch.context() as patch, pytest.raises(JobInterrupted):
        patch.setattr(Evaluator, "count", killed)
        run_job(small(tmp_path / "killed", *several))
    assert len(made) == 3
    resumed = run_job(small(tmp_path / "killed", *several)).history[1]
    assert (resumed.choice, resumed.version, resumed.usage) == (whole.choice, whole.version, whole.usage)


def test_a_choice_needs_problems_to_choose_and_to_confirm_on(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"update\.choose_from: 4 needs at least 20 .*, and there are 18;"):
        run_job(small(tmp_path, "update.choose_from=4", "data.development.count=6"))


def test_controls_train_on_what_they_say(tmp_path: Path) -> None:
    def gain(name: str, section: AnyControl) -> float:
        config = small(tmp_path / name, "data.development.count=60")
        result = run_job(config, control=control_of(section, config))
        return result.history[-1].scores.pass_at_1.value - result.history[0].scores.pass_at_1.value

    unverified, gold = gain("random", RandomControl()), gain("gold", GoldControl())
    assert abs(unverified) < 0.12
    assert gold > unverified + 0.2


def test_a_state_knows_its_next_round(tmp_path: Path) -> None:
    states: list[JobState] = []
    run_job(small(tmp_path), on_round=states.append)
    assert [state.next_round for state in states] == [1, 2, 3]
