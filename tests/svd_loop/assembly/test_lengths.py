"""What fits the context is known before a job begins: for the solver, and for everything a judge is asked later."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from svd_loop.assembly.backends import make_backend
from svd_loop.assembly.job import template_set
from svd_loop.assembly.lengths import budgets, refuse_long, room_for_question, too_long
from svd_loop.config import Config, load_config
from svd_loop.contracts import Domain, Problem, Role, RoleName
from svd_loop.errors import ConfigError, DataError, ModelError

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


def test_a_context_too_small_for_any_question_names_the_role_and_the_keys(tmp_path: Path) -> None:
    config = nano(tmp_path, "cascade.judge.max_tokens=400")
    with pytest.raises(ConfigError, match=r"as question comparer the template.*sampling\.max_tokens.*cascade\.judge"):
        check_of(config, tmp_path)


def test_a_solver_that_thinks_leaves_its_judges_the_room_its_final_answer_does_not_need(tmp_path: Path) -> None:
    def rooms(*overrides: str) -> dict[RoleName, int]:
        config = nano(tmp_path, "sampling.max_tokens=300", *overrides)
        found = budgets(config, make_backend(config, tmp_path), template_set(config))
        return {budget.role: budget.room for budget in found}

    whole, answers = rooms(), rooms("sampling.max_answer=60")
    shown = rooms("sampling.max_answer=60", "cascade.show_thought=true")
    assert whole[Role.SOLVER] == answers[Role.SOLVER] == shown[Role.SOLVER]
    assert answers[Role.GRADER] == whole[Role.GRADER] + 240 and shown[Role.GRADER] == whole[Role.GRADER]
    assert shown[Role.QUESTION_INFERRER] == answers[Role.QUESTION_INFERRER] == whole[Role.QUESTION_INFERRER] + 240


def test_measuring_and_training_have_lengths_of_their_own(tmp_path: Path) -> None:
    def room(*overrides: str) -> int:
        config = nano(tmp_path, *overrides)
        found = budgets(config, make_backend(config, tmp_path), template_set(config))
        return min(budget.room for budget in found if budget.role == Role.SOLVER)

    plain = room()
    assert room("evaluation.sampling={max_tokens: 200}") == plain - 104
    assert room("update.max_length=400") == plain - 112
    config = nano(tmp_path, "update.max_length=100")
    with pytest.raises(ConfigError, match=r"update\.max_length: 100 leaves no room for a question: as solver"):
        room_for_question(config, make_backend(config, tmp_path), template_set(config))


def test_a_context_beyond_the_models_positions_is_refused(tmp_path: Path) -> None:
    config = nano(tmp_path, "model.max_context=600", "update.max_length=600")
    with pytest.raises(ConfigError, match=r"model\.max_context: 600 is more than the 512 positions that nano was made"):
        room_for_question(config, make_backend(config, tmp_path), template_set(config))


def test_thinking_needs_a_template_that_knows_it(tmp_path: Path) -> None:
    config = nano(tmp_path, "cascade.roles={grader: {max_tokens: 64, thinking: true}}")
    with pytest.raises(ModelError, match=r"a role has thinking: true .*, but the chat template has no switch"):
        room_for_question(config, make_backend(config, tmp_path), template_set(config))


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


@pytest.mark.parametrize("asking", ["two_turns", "solve_first"])
def test_a_question_that_fits_fits_every_turn_about_it(tmp_path: Path, asking: str) -> None:
    config = nano(tmp_path, f"cascade.asking={asking}", "cascade.judge.max_tokens=40", "sampling.max_tokens=50")
    backend, templates = make_backend(config, tmp_path), template_set(config)
    room = room_for_question(config, backend, templates)
    assert room is not None
    of_verdict = [budget for budget in budgets(config, backend, templates) if budget.role == Role.VERDICT_GIVER]
    assert room == min(budget.room for budget in of_verdict)  # the last turn is the longest
    written = 40 if asking == "two_turns" else 80  # findings, and the own solution
    assert {budget.others for budget in of_verdict} == {
        50 + written,
        40 + 40,
    }  # inferred, findings
    assert all(budget.answer == 16 for budget in of_verdict)


def test_a_template_that_opens_every_thought_is_refused_before_any_work(tmp_path: Path) -> None:
    config = nano(tmp_path, "cascade.asking=two_turns")

    class Thinker:
        """The embedded model with a template that cannot limit an answer."""

        def __init__(self) -> None:
            self._backend = make_backend(config, tmp_path)

        def __getattr__(self, name: str) -> Any:
            return getattr(self._backend, name)

        def check_two_turns(self, texts: tuple[str, ...]) -> None:
            raise ModelError(f"begins every answer with a thought, not with {texts}")

    with pytest.raises(ModelError, match="begins every answer with a thought"):
        budgets(config, Thinker(), template_set(config))
