"""Coding: a program is right when all of its problem's tests pass in a contained child process.

Tests are Python assert statements. One of the form `assert EXPRESSION == LITERAL` (either way round, or `is` with
None, True or False) is split: the program's process only evaluates the expression, and the value is compared here, so
a program never sees what is expected of it. Any other test runs as a whole in the program's own process
(`envs.sandbox.pool.Program` says what that means for a hostile one).
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Sequence
from dataclasses import dataclass

from envs.domains.extraction import code_block
from envs.domains.spec import Pair
from envs.sandbox import pool
from envs.sandbox.pool import Program, Sandbox
from envs.sandbox.values import decode
from svd_loop.contracts import Outcome, Problem
from svd_loop.errors import DataError

extract = code_block


@dataclass(frozen=True, slots=True)
class Expectation:
    """A split test: the expression a program evaluates, and what must come out (compared with `==`, or `is`)."""

    expression: str
    value: object
    identical: bool = False

    def met_by(self, data: object) -> bool:
        """Whether a reported value is the expected one; a report that cannot be read is not."""
        try:
            value = decode(data)
            return value is self.value if self.identical else bool(value == self.value)
        except (ValueError, TypeError, RecursionError):
            return False


Test = Expectation | str
"""A split test, or the text of one that cannot be split."""


def score_all(pairs: Sequence[Pair], *, seconds: float) -> list[Outcome]:
    """Whether each solution's program passes its problem's tests within `seconds`; equal programs run once.

    Raises:
        DataError: a problem has no tests, or one is not Python.
        SandboxError: programs cannot be contained on this machine.
    """
    tests = {problem.id: _tests_of(problem) for _, problem in pairs}
    keys = [(extract(solution), problem.id) for solution, problem in pairs]
    programs = {key: _program(key[0], tests[key[1]]) for key in keys if key[0] is not None}
    with Sandbox(seconds=seconds) as sandbox:
        outcomes = dict(zip(programs, sandbox.run(list(programs.values())), strict=True))
    return [Outcome.of(key in outcomes and _passed(outcomes[key], tests[key[1]])) for key in keys]


@functools.lru_cache(maxsize=65536)
def split(test: str) -> Test:
    """Separate what a test evaluates from what it expects, where its form allows.

    Raises:
        SyntaxError: the test is not Python.
    """
    body = ast.parse(test.strip()).body
    if len(body) != 1 or not isinstance(body[0], ast.Assert) or not isinstance(body[0].test, ast.Compare):
        return test
    comparison = body[0].test
    if len(comparison.ops) != 1:
        return test
    sides = (comparison.left, comparison.comparators[0])
    for subject, expected in (sides, sides[::-1]):
        literal = _literal(expected)
        if literal is None or _literal(subject) is not None:
            continue
        if isinstance(comparison.ops[0], ast.Eq):
            return Expectation(ast.unparse(subject), literal[0])
        if isinstance(comparison.ops[0], ast.Is) and isinstance(literal[0], bool | None):
            return Expectation(ast.unparse(subject), literal[0], identical=True)
    return test


def _literal(node: ast.expr) -> tuple[object] | None:
    try:
        return (ast.literal_eval(node),)
    except (ValueError, TypeError, SyntaxError, RecursionError):
        return None


def _tests_of(problem: Problem) -> tuple[Test, ...]:
    where = problem.source or f"problem {problem.id}"
    if not problem.tests:
        raise DataError(f"{where}: a held-out coding problem needs `tests`, a list of Python assert statements")
    try:
        return tuple(split(test) for test in problem.tests)
    except (SyntaxError, ValueError) as error:
        raise DataError(f"{where}: a test is not Python: {error}") from None


def _program(source: str, tests: Sequence[Test]) -> Program:
    return Program(
        source,
        tuple(("statement", test) if isinstance(test, str) else ("value", test.expression) for test in tests),
    )


def _passed(outcome: pool.Outcome, tests: Sequence[Test]) -> bool:
    if outcome.error is not None:
        return False
    expectations = [test for test in tests if isinstance(test, Expectation)]
    return all(test.met_by(value) for test, value in zip(expectations, outcome.values, strict=True))
