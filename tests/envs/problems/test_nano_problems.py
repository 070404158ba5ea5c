"""The generators' promises: disjoint splits, determinism, and gold that is right when worked out again."""

from __future__ import annotations

import ast

import pytest

from envs.problems.nano import DOMAINS, FAMILIES, SPLITS, Domain, Split, generate, generate_tasks, to_problem
from envs.problems.nano.base import compute, resolve


@pytest.mark.parametrize("domain", DOMAINS)
def test_splits_share_no_problem_whatever_the_seed(domain: Domain) -> None:
    seen: dict[str, Split] = {}
    for split in SPLITS:
        for seed in (0, 1):
            for task in generate_tasks(domain, split, 200, seed):
                assert seen.setdefault(task.key, split) == split


@pytest.mark.parametrize("domain", DOMAINS)
def test_a_seed_decides_the_problems(domain: Domain) -> None:
    first = generate(domain, "train", 50, seed=3)
    assert first == generate(domain, "train", 50, seed=3)
    assert first != generate(domain, "train", 50, seed=4)
    assert len({problem.id for problem in first}) == 50


@pytest.mark.parametrize("domain", DOMAINS)
def test_every_family_and_level_is_drawn(domain: Domain) -> None:
    problems = generate(domain, "development", 200, seed=0, levels=(1, 2, 3, 4))
    assert {problem.family for problem in problems} == {family.name for family in FAMILIES[domain]}
    assert {problem.level for problem in problems} == {1, 2, 3, 4}


@pytest.mark.parametrize("domain", DOMAINS)
def test_the_answer_leads_back_to_what_was_given(domain: Domain) -> None:
    for task in generate_tasks(domain, "test", 200, seed=5, levels=(1, 2, 3, 4)):
        numbers, results = {**task.givens, "ans": task.ans}, list[int]()
        for step in task.family.leap:
            value = compute(resolve(step.left, numbers, results), step.op, resolve(step.right, numbers, results))
            assert value is not None
            results.append(value)
        assert results[-1] == task.givens[task.family.target]


def test_reference_programs_pass_their_tests_and_a_constant_does_not() -> None:
    for problem in generate("coding", "train", 100, seed=1):
        assert len(problem.tests) >= 5
        scope: dict[str, object] = {}
        exec("\n".join((problem.answer, *problem.tests)), scope)
        with pytest.raises(AssertionError):
            exec("\n".join(("def f(x):\n    return -1", *problem.tests)), {})


def test_coding_tests_use_inputs_the_question_does_not_name() -> None:
    for problem in generate("coding", "test", 50, seed=2):
        arguments = [
            ast.unparse(node)
            for test in problem.tests
            for node in ast.walk(ast.parse(test, mode="exec"))
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "f"
        ]
        assert sum(argument not in problem.question for argument in arguments) >= 3


def test_choices_hold_the_answer_once() -> None:
    tasks = [task for task in generate_tasks("science", "train", 200, seed=0) if task.options]
    assert tasks
    for task in tasks:
        assert len(set(task.options)) == 4
        assert task.options["ABCD".index(to_problem(task).answer)] == task.ans


def test_asking_for_too_much_says_so() -> None:
    with pytest.raises(ValueError, match="levels must be within 1 to 4"):
        generate("math", "train", 1, 0, levels=(5,))
