from __future__ import annotations

import pytest

from envs.domains import DOMAINS
from envs.domains.coding import Expectation, split
from svd_loop.contracts import Domain, Outcome, Problem
from svd_loop.errors import DataError

CODING = DOMAINS[Domain.CODING]
TESTS = ("assert f(1) == 2", "assert 3 == f(2)", "assert f(0) is not None", "assert abs(f(0.5) - 1.5) < 1e-9")


def problem(*tests: str) -> Problem:
    return Problem("/".join(tests), "Write f.", Domain.CODING, tests=tests or TESTS, source="held.jsonl:3")


def score(program: str, *tests: str) -> bool:
    return Outcome.RIGHT is CODING.score(f"Here:\n```python\n{program}\n```", problem(*tests), seconds=2.0)


def test_a_right_program_passes_and_a_wrong_one_does_not() -> None:
    assert score("def f(x):\n    return x + 1")
    assert not score("def f(x):\n    return x + 2")
    assert not score("def f(x):\n    return {1: 2, 2: 3}.get(x, 9)")
    assert CODING.score("no code at all", problem()) is Outcome.WRONG


def test_many_solutions_are_scored_in_order() -> None:
    pairs = [(f"```python\ndef f(x):\n    return x + {n % 3}\n```", problem()) for n in range(30)]
    assert CODING.score_all(pairs, seconds=2.0) == [Outcome.of(n % 3 == 1) for n in range(30)]


FORGERIES = {
    "exit": "import sys\nsys.exit(0)",
    "hard exit": "import os\nos._exit(0)",
    "says so": "print('OK')\nprint('all tests passed')",
    "equal to everything": "class E:\n    def __eq__(self, other): return True\ndef f(x): return E()",
    "equal number": "class E(int):\n    def __eq__(self, other): return True\ndef f(x): return E(7)",
    "patched assertion": "import builtins\nbuiltins.AssertionError = SystemExit\ndef f(x): return 0",
    "patched eval": "import builtins\nbuiltins.eval = lambda *a: 2\ndef f(x): return 0",
    "patched encoder": "import sys\nsys.modules['sandbox.runner'].encode = lambda v: 2\ndef f(x): return 0",
    "token read early": (
        "import json, os\ntoken = os.read(4, 64).decode()\n"
        "os.write(3, json.dumps({'values': [0], 'token': token}).encode())\nos._exit(0)"
    ),
    "runner's locals": "import sys\nsys._getframe(1).f_locals['request']['steps'].clear()\ndef f(x): return 0",
    "search of memory": (
        "import gc\ndef f(x):\n    found = [o for o in gc.get_objects() if isinstance(o, dict) and 'expected' in o]\n"
        "    return found[0]['expected'] if found else 0"
    ),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_success_cannot_be_forged_where_values_are_compared_outside(name: str) -> None:
    assert not score(FORGERIES[name], "assert f(1) == 20231")


@pytest.mark.parametrize("name", ["exit", "hard exit", "says so", "patched assertion", "patched eval"])
def test_plain_cheats_do_not_pass_whole_statements_either(name: str) -> None:
    assert not score(FORGERIES[name], "assert f(1) > 20231")


@pytest.mark.parametrize(
    ("test", "expected"),
    [
        ("assert f(1) == 2", Expectation("f(1)", 2)),
        ("assert [1, (2,)] == f([3])", Expectation("f([3])", [1, (2,)])),
        ("assert f(1) == -1, 'message'", Expectation("f(1)", -1)),
        ("assert f(1) is None", Expectation("f(1)", None, identical=True)),
        ("assert f() == g()", None),
        ("assert f(1) != 2", None),
        ("assert f(1) is 2", None),
        ("assert f(1) == f(2) == 3", None),
        ("assert f(1)", None),
        ("assert 1 == 1", None),
        ("x = f(1)\nassert x == 2", None),
    ],
)
def test_a_test_is_split_where_its_form_allows(test: str, expected: Expectation | None) -> None:
    assert split(test) == (expected or test)


def test_identity_and_equality_differ() -> None:
    identical = Expectation("f()", True, identical=True)
    assert identical.met_by(True) and not identical.met_by(1)
    assert Expectation("f()", True).met_by(1) and not Expectation("f()", None, identical=True).met_by(0)


def test_statements_of_several_lines_work() -> None:
    assert score("def f(x):\n    x.sort()", "x = [2, 1]\nf(x)\nassert x == [1, 2]")
    assert not score("def f(x):\n    sorted(x)", "x = [2, 1]\nf(x)\nassert x == [1, 2]")


@pytest.mark.parametrize("tests", [(), ("assert f(1 == 2",)])
def test_problems_without_usable_tests_are_named(tests: tuple[str, ...]) -> None:
    bad = Problem("p", "Write f.", Domain.CODING, tests=tests, source="held.jsonl:3")
    with pytest.raises(DataError, match=r"held\.jsonl:3"):
        CODING.score("```python\nx = 1\n```", bad)
