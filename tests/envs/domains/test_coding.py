from __future__ import annotations

import json

import pytest

from benchmarks.hostile_programs import score as score_hostile
from benchmarks.scorers_programs import made, mutants
from envs.domains import domain_of
from envs.domains.coding import findings
from envs.prompts.program_tests import CallTest, ScriptTest, to_text
from envs.sandbox.pool import Sandbox
from svd_loop.contracts import Domain, Outcome, Problem
from svd_loop.errors import DataError

CODING = domain_of(Domain.CODING)
TESTS = ("assert f(1) == 2", "assert 3 == f(2)", "assert f(0) is not None", "assert abs(f(0.5) - 1.5) < 1e-9")


def problem(*tests: str, text: str = "Write f.") -> Problem:
    return Problem("/".join(tests), text, Domain.CODING, tests=tests or TESTS, source="held.jsonl:3")


def score(program: str, *tests: str) -> bool:
    return CODING.score(f"Here:\n```python\n{program}\n```", problem(*tests), seconds=2.0) is Outcome.RIGHT


def test_a_right_program_passes_and_a_wrong_one_does_not() -> None:
    assert score("def f(x):\n    return x + 1")
    assert not score("def f(x):\n    return x + 2")
    assert not score("def f(x):\n    return {1: 2, 2: 3}.get(x, 9)")
    assert CODING.score("no code at all", problem()) is Outcome.WRONG


def test_many_solutions_are_scored_in_order() -> None:
    pairs = [(f"```python\ndef f(x):\n    return x + {n % 3}\n```", problem()) for n in range(30)]
    assert CODING.score_all(pairs, seconds=2.0) == [Outcome.of(n % 3 == 1) for n in range(30)]


def test_statements_of_several_lines_and_tests_that_share_names() -> None:
    assert score("def f(x):\n    x.sort()", "x = [2, 1]\nf(x)\nassert x == [1, 2]")
    assert not score("def f(x):\n    sorted(x)", "x = [2, 1]\nf(x)\nassert x == [1, 2]")
    assert score("def f(x):\n    return x", "x = 3", "assert f(x) == 3")


def test_a_problem_of_inputs_and_outputs_needs_all_of_them() -> None:
    tests = tuple(to_text(ScriptTest(f"{n}\n", f"{n + 1}\n")) for n in range(3))
    assert score("print(int(input()) + 1)", *tests)
    assert not score("print(min(int(input()) + 1, 2))", *tests)
    assert not score("def f(x):\n    return x + 1", *tests)


def test_a_problem_of_calls_needs_all_of_them() -> None:
    tests = tuple(to_text(CallTest("f", [n], [n + 1])) for n in range(3))
    assert score("class Solution:\n    def f(self, x):\n        return x + 1", *tests)
    assert not score("def f(x):\n    return min(x + 1, 2)", *tests)


def test_wrong_outweighs_undecided_and_the_reason_is_told() -> None:
    missing = "import not_a_module\nassert f(1)"
    [found] = findings([("```python\ndef f(x): return 0\n```", problem(missing))], seconds=2.0)
    assert found.outcome is Outcome.UNDECIDED and "not_a_module" in found.detail
    [wrong] = findings(
        [("```python\nprint(1)\n```", problem(*map(to_text, [ScriptTest("", "1"), ScriptTest("", "2")])))], seconds=2.0
    )
    assert wrong.outcome is Outcome.WRONG and wrong.detail == "test 2: another output"
    [none] = findings([("no code", problem())], seconds=2.0)
    assert none.outcome is Outcome.WRONG and "no complete program" in none.detail


HUMANEVAL = '''
import math


def poly(xs: list, x: float):
    """Evaluate a polynomial."""
    return sum([c * math.pow(x, i) for i, c in enumerate(xs)])


def find_zero(xs: list):
    """Find a zero of it."""
'''


def test_a_helper_that_the_question_gives_is_the_questions() -> None:
    check = "def check(candidate):\n    assert math.fabs(poly([1, 2], candidate([1, 2]))) < 1e-4\n\ncheck(find_zero)"
    pairs = [
        (
            f"```python\ndef poly(xs, x):\n    return 0\ndef find_zero(xs):\n    return {zero}\n```",
            problem(check, text=HUMANEVAL),
        )
        for zero in (-0.5, 3)
    ]
    assert CODING.score_all(pairs, seconds=2.0) == [Outcome.RIGHT, Outcome.WRONG]


@pytest.mark.parametrize("tests", [(), ("assert f(1 == 2",), ('{"call": {}}',)])
def test_problems_without_usable_tests_are_named(tests: tuple[str, ...]) -> None:
    bad = Problem("p", "Write f.", Domain.CODING, tests=tests, source="held.jsonl:3")
    with pytest.raises(DataError, match=r"held\.jsonl:3"):
        CODING.score("```python\nx = 1\n```", bad)


def test_programs_for_problems_in_published_shapes() -> None:
    """Two tasks in every shape; `benchmarks/scorers_programs.py` scores all twenty."""
    cases = [case for case in made() if case.name.split()[0].endswith(("/best_run", "/shifted"))]
    found = findings([(case.solution, case.problem) for case in cases], seconds=5.0)
    off = [(case.name, got) for case, got in zip(cases, found, strict=True) if got.outcome is not case.expected]
    assert off == [] and {case.expected for case in cases} == {Outcome.RIGHT, Outcome.WRONG}


def test_a_sample_of_hostile_programs_neither_scores_nor_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """`benchmarks/hostile_programs.py` runs 2,000 of them."""
    # A sandbox of its own, whose servers end with it: tests of jobs share theirs for the length of a session.
    monkeypatch.setattr("envs.domains.coding.Sandbox", Sandbox)
    result = score_hostile(60, seed=5, seconds=0.3)
    assert result["failed"] == [] and result["processes_left"] == []
    assert json.dumps(result["outcomes"])


def test_a_mutant_differs_in_one_place() -> None:
    program = "def f(x):\n    if x < 3 and x != 1:\n        return x * 2\n    return -1"
    found = mutants(program, 20, "seed")
    assert len(found) == len(set(found)) > 5 and program not in found
    assert mutants(program, 20, "seed") == found and len(mutants(program, 20, "seed", first_line=4)) == 2
