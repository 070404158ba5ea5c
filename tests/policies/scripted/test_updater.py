from __future__ import annotations

from pathlib import Path

import pytest

from envs.problems.arithmetic import generate
from policies.scripted import ScriptedUpdater, Traits, encode, read_traits, write_traits
from policies.scripted.policy import STOP_ID
from policies.scripted.tasks import questions_in, stand_in
from policies.versions.weights import WeightStore
from svd_loop.contracts import TrainingRow
from svd_loop.errors import TrainingError, WeightsError


def rows(right: int, wrong: int, origin: str = "accepted") -> list[TrainingRow]:
    made = []
    for number, problem in enumerate(generate("train", 10, seed=0)[: right + wrong]):
        (task,) = questions_in(problem.text)
        answer = encode(task.solution(task.result + (number >= right)))
        question = encode(problem.text)
        made.append(TrainingRow((*question, *answer, STOP_ID), len(question), origin, problem.id, round=1))
    return made


@pytest.fixture
def base(tmp_path: Path) -> Path:
    folder = tmp_path / "round-000"
    write_traits(folder, Traits(skill=0.4, gain=0.5))
    return folder


@pytest.mark.parametrize("right, wrong, skill", [(8, 0, 0.7), (8, 8, 0.45), (0, 8, 0.2)])
def test_skill_moves_towards_the_share_of_right_rows(base: Path, right: int, wrong: int, skill: float) -> None:
    result = ScriptedUpdater(base.parent).fit(rows(right, wrong), round=1, parent=base)
    assert read_traits(result.path).skill == pytest.approx(skill)
    assert result.metrics["share_right"] == pytest.approx(right / (right + wrong))
    assert result.path == base.parent / "round-001"
    assert result.version.name == "round-001"


def test_repetition_is_bit_identical_and_other_rows_give_another_fingerprint(base: Path) -> None:
    updater = ScriptedUpdater(base.parent)
    first = updater.fit(rows(5, 1), round=1, parent=base)
    content = (first.path / "policy.json").read_bytes()
    assert updater.fit(rows(5, 1), round=1, parent=base) == first
    assert (first.path / "policy.json").read_bytes() == content
    assert updater.fit(rows(10, 2), round=1, parent=base).version != first.version
    assert sorted(path.name for path in first.path.iterdir()) == ["manifest.json", "policy.json"]


def test_checkpoints_move_the_skill_by_equal_parts(base: Path) -> None:
    result = ScriptedUpdater(base.parent, choose_from=2).fit(rows(8, 0), round=1, parent=base)
    assert (result.candidates, result.steps) == ((1, 2), 2)
    half, whole = (read_traits(WeightStore(base.parent).step_path(1, step)).skill for step in (1, 2))
    assert (half, whole) == (pytest.approx(0.55), read_traits(result.path).skill)


def test_versions_are_those_of_the_weight_store_which_finds_damage(base: Path) -> None:
    result = ScriptedUpdater(base.parent).fit(rows(5, 1), round=1, parent=base)
    store = WeightStore(base.parent)
    assert store.rounds() == [0, 1]
    assert store.load(1).version == result.version
    assert store.load(1).parent == 0
    (result.path / "policy.json").write_text("{}")
    with pytest.raises(WeightsError, match=r"policy\.json: damaged.*last good version is round-000"):
        store.load(1)


def test_rows_on_questions_of_unknown_form_are_right_by_their_stand_in(base: Path) -> None:
    task = stand_in("p1")
    row = TrainingRow((*b"Why?", *encode(task.solution(task.result))), 4, "accepted", "p1")
    assert ScriptedUpdater(base.parent).fit([row], round=1, parent=base).metrics["share_right"] == 1.0


def test_anchors_teach_the_solver_nothing(base: Path) -> None:
    with pytest.raises(TrainingError, match="round 1: 4 rows hold no accepted solution"):
        ScriptedUpdater(base.parent).fit(rows(4, 0, origin="anchor"), round=1, parent=base)
    assert not (base.parent / "round-001").exists()


@pytest.mark.parametrize("content", [None, "{", "[]", '{"skill": 1}', '{"skill": "high"}'])
def test_a_missing_or_damaged_parent_is_named(base: Path, content: str | None) -> None:
    if content is None:
        (base / "policy.json").unlink()
    else:
        (base / "policy.json").write_text(content)
    with pytest.raises(WeightsError, match=r"round-000/policy\.json: (needed by round-000|damaged)"):
        ScriptedUpdater(base.parent).fit(rows(4, 0), round=1, parent=base)
