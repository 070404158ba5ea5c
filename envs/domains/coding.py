"""Coding: a program is correct if it passes all tests of its problem in a sandboxed child process.

Three kinds of tests (`envs.prompts.program_tests`); a program can neither read them nor decide their result:

- *Assertions* run in a process of their own, which asks the program's process for values (`envs.sandbox.evaluator`).
- *Calls* of a function or of a method of `Solution` likewise, each in a new process, with the names that LeetCode has
  in scope.
- *Scripts* get a standard input, and what they write is compared here.

The limit is processor time, of all assertions together and of each call and script: beyond it a program is wrong. What
the machine caused (no end because it is busy, a process killed from outside) is undecided.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import json
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict

from envs.domains.program_block import program
from envs.domains.spec import DomainSpec, Pair
from envs.prompts.program_tests import CallTest, ProgramTest, ScriptTest, from_text
from envs.sandbox.pool import Check, Finding, Sandbox
from svd_loop.config.domains import CodingSection
from svd_loop.contracts import Outcome, Problem
from svd_loop.errors import DataError

extract = program


def make_domain(section: CodingSection) -> DomainSpec:
    """Build the domain; it has no settings."""
    return DomainSpec(extract, score_all)


def score_all(pairs: Sequence[Pair], *, seconds: float) -> list[Outcome]:
    """Whether each solution's program passes its problem's tests, `seconds` each.

    Equal programs for equal problems run once a process, unless they stayed undecided.

    Raises:
        DataError: a problem has no tests, or one is not Python.
        SandboxError: programs cannot be contained on this machine.
    """
    return [finding.outcome for finding in findings(pairs, seconds=seconds)]


def findings(pairs: Sequence[Pair], *, seconds: float) -> list[Finding]:
    """As `score_all`, with the reason where a program is not right."""
    problems = {problem.id: problem for _, problem in pairs}
    tests = {name: _tests_of(problem) for name, problem in problems.items()}
    keys = [(extract(solution), problem.id) for solution, problem in pairs]
    runs = list(dict.fromkeys((source, name) for source, name in keys if source is not None))
    digests = {run: _digest(run[0], problems[run[1]], seconds) for run in runs}
    by_run: dict[tuple[str | None, str], Finding] = {}
    by_run |= {run: _DECIDED[digest] for run, digest in digests.items() if digest in _DECIDED}
    new = [run for run in runs if run not in by_run]
    with Sandbox(seconds=seconds) as sandbox:
        found = sandbox.map(lambda run: _run(sandbox, run[0], problems[run[1]], tests[run[1]]), new)
    for run, finding in zip(new, found, strict=True):
        by_run[run] = finding
        _remember(digests[run], finding)
    return [by_run.get(key, Finding(Outcome.WRONG, "no complete program in a fenced block")) for key in keys]


_DECIDED: OrderedDict[bytes, Finding] = OrderedDict()
"""Findings of this process: the versions of a policy write many programs again that an earlier one wrote."""
_MOST_DECIDED = 100_000


def _digest(source: str, problem: Problem, seconds: float) -> bytes:
    """Identifies all that a program's result depends on."""
    return hashlib.sha256(json.dumps([source, problem.text, problem.tests, seconds]).encode()).digest()


def _remember(digest: bytes, finding: Finding) -> None:
    """Keep a finding, unless it is undecided: the machine's state decided that, and may be another next time."""
    if finding.outcome is not Outcome.UNDECIDED:
        _DECIDED[digest] = finding
        if len(_DECIDED) > _MOST_DECIDED:
            _DECIDED.popitem(last=False)


def _run(sandbox: Sandbox, source: str, problem: Problem, tests: Sequence[ProgramTest]) -> Finding:
    return _first_failure(step() for step in _steps(sandbox, source, problem, tests))


def _steps(
    sandbox: Sandbox, source: str, problem: Problem, tests: Sequence[ProgramTest]
) -> Iterator[Callable[[], Finding]]:
    for test in tests:
        if isinstance(test, ScriptTest):
            yield functools.partial(_run_script, sandbox, source, test)
        elif isinstance(test, CallTest):
            yield functools.partial(sandbox.check, Check(source, {"call": asdict(test)}, usual_names=True))
    if assertions := [test for test in tests if isinstance(test, str)]:
        yield functools.partial(sandbox.check, Check(source, {"tests": assertions, "given": _given(problem.text)}))


def _first_failure(results: Iterator[Finding]) -> Finding:
    """The result of the tests: wrong if one was wrong, else undecided if one was undecided."""
    undecided: Finding | None = None
    for number, finding in enumerate(results, start=1):
        if finding.outcome is Outcome.WRONG:
            return Finding(Outcome.WRONG, f"test {number}: {finding.detail}" if number > 1 else finding.detail)
        if finding.outcome is Outcome.UNDECIDED:
            undecided = undecided or finding
    return undecided or Finding(Outcome.RIGHT)


def _run_script(sandbox: Sandbox, source: str, test: ScriptTest) -> Finding:
    output = sandbox.run_script(source, test.input)
    if isinstance(output, Finding):
        return output
    return Finding(Outcome.RIGHT) if test.passed_by(output) else Finding(Outcome.WRONG, "another output")


@functools.lru_cache(maxsize=4096)
def _given(text: str) -> str:
    """Helpers that a question in Python defines in full (as in HumanEval), which a program must not replace."""
    try:
        body = ast.parse(text).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return ""
    helpers = [node for node in body if isinstance(node, ast.FunctionDef) and not all(map(_is_blank, node.body))]
    if not helpers:
        return ""
    imports = [node for node in body if isinstance(node, ast.Import | ast.ImportFrom)]
    return "\n".join(ast.unparse(node) for node in (*imports, *helpers))


def _is_blank(node: ast.stmt) -> bool:
    """Whether a statement leaves the function to be written: a docstring, an ellipsis, an import."""
    kinds = (ast.Pass, ast.Import, ast.ImportFrom)
    return isinstance(node, kinds) or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))


def _tests_of(problem: Problem) -> tuple[ProgramTest, ...]:
    where = problem.source or f"problem {problem.id}"
    if not problem.tests:
        raise DataError(
            f"{where}: a held-out coding problem needs `tests`: Python assert statements, or inputs and outputs"
        )
    try:
        tests = tuple(from_text(test.strip()) for test in problem.tests)
        for test in tests:
            if isinstance(test, str):
                ast.parse(test)
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError) as error:
        raise DataError(f"{where}: a test is not Python: {error}") from None
    return tests
