"""What fits the context is known before a job begins: for the solver, and for everything a judge is asked later."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from svd_loop.build.backends import make_backend
from svd_loop.build.job import template_set
from svd_loop.build.lengths import refuse_long, room_for_question, too_long
from svd_loop.config import Config, load_config
from svd_loop.contracts import Domain, Problem, Role
from svd_loop.errors import ConfigError, DataError

NANO = Path(__file__).parents[3] / "configs" / "nano.yaml"


def nano(tmp_path: Path, *overrides: str) -> Config:
    return load_config(NANO, [f"job.root={tmp_path}", *overrides])


def check_of(config: Config, folder: Path) -> Callable[[str], bool]:
    backend, templates = make_backend(config, folder), template_set(config)
    check = too_long(room_for_question(config, backend, templates), backend, templates)
    assert check is not None
    return check


def test_a_question_that_fits_fits_every_call_about_it(tmp_path: Path) -> None:
    """The longest question let in, with a solution of full length, asked as every judge."""
    config = nano(tmp_path)
    backend, templates = make_backend(config, tmp_path), template_set(config)
    room = room_for_question(config, backend, templates)
    assert room is not None and room > 50
    check = check_of(config, tmp_path)
    question = max((f"What is x if {'5' * size}+x=9?" for size in range(room)), key=lambda q: (not check(q), len(q)))
    assert not check(question)
    assert check(question + "5" * 40)
    solution = "7" * config.sampling.max_tokens  # digits are single tokens
    for role in (Role.FACT_CHECKER, Role.GRADER):
        messages = templates.render(role, Domain.MATH, question=question, solution=solution)
        assert backend.prompt_tokens(messages) + config.cascade.judge.max_tokens <= config.model.max_context


def test_controls_have_no_judge_to_leave_room_for(tmp_path: Path) -> None:
    judged, unjudged = nano(tmp_path), nano(tmp_path, "cascade.mode=random")
    rooms = [
        room_for_question(config, make_backend(config, tmp_path), template_set(config)) for config in (judged, unjudged)
    ]
    assert rooms[0] is not None and rooms[1] is not None and rooms[0] < rooms[1]


def test_a_context_too_small_for_any_question_names_the_role_and_the_keys(tmp_path: Path) -> None:
    config = nano(tmp_path, "cascade.judge.max_tokens=400")
    with pytest.raises(ConfigError, match=r"as question comparer the template.*sampling\.max_tokens.*cascade\.judge"):
        check_of(config, tmp_path)


def test_held_out_problems_that_do_not_fit_are_refused_with_a_count(tmp_path: Path) -> None:
    problems = [
        Problem("a", "What is x if x+1=2?", Domain.MATH, source="dev.jsonl:1"),
        Problem("b", "What is x if x+1=2? " * 60, Domain.MATH, source="dev.jsonl:2"),
    ]
    with pytest.raises(DataError, match=r"dev\.jsonl:2: 1 held-out problems.*model\.max_context"):
        refuse_long(problems, check_of(nano(tmp_path), tmp_path))


def test_a_script_reads_anything(tmp_path: Path) -> None:
    config = load_config(NANO.with_name("scripted.yaml"), [f"job.root={tmp_path}"])
    backend, templates = make_backend(config, tmp_path), template_set(config)
    assert too_long(room_for_question(config, backend, templates), backend, templates) is None
