"""The tests' side: run the tests of one problem in a process that the program cannot reach.

The tests' own code runs here, and so do all comparisons. They reach the program through `remote`: names that a
test uses and does not define are looked up in the program's process, calls run there, and values come back.

Names of the program are all that a test does not bind itself, except built-ins, `module.name` of a standard
module, and the comparison helpers of `math`. A test with built-in names only (`assert sum(1, 2) == 3`) is about
the one called innermost, so that a program may be asked to define `sum`, but cannot replace `abs` in
`assert abs(f(0.5) - 1.5) < 1e-9`.
"""

from __future__ import annotations

import ast
import builtins
import importlib
import math
import sys
from collections.abc import Iterator, Sequence
from typing import Any, Final

from .remote import CannotHandOver, ProgramFailed, Remote
from .values import decode

RIGHT, WRONG, UNDECIDED = "right", "wrong", "undecided"
_HELPERS: Final = frozenset({"isclose", "isnan", "isinf", "isfinite", "fabs", "inf", "nan", "pi"})
_DETAIL: Final = 300
_ASSERTING: Final = "__asserting__"


def evaluate(request: dict[str, Any], requests: int, replies: int) -> dict[str, str]:
    """Run tests against the program at the other end of two pipes.

    Args:
        request: `call` (one call and its accepted values), or `tests` and the code `given` by the problem.
        requests: descriptor to write requests to the program.
        replies: descriptor to read its replies from.

    Returns:
        `outcome`, and `detail`: the reason if it is not right.
    """
    remote = Remote(requests, replies)
    try:
        remote.loaded()
        if "call" in request:
            passed = _call(remote, request["call"])
        else:
            _run(remote, request["tests"], request["given"])
            passed = True
        found = {"outcome": RIGHT if passed else WRONG, "detail": "" if passed else "another value"}
    except ImportError as error:
        found = {"outcome": WRONG if remote.raised_by_program(error) else UNDECIDED, "detail": _describe(error)}
    except BaseException as error:
        found = {"outcome": WRONG, "detail": _describe(error)}
    if remote.failure is not None:
        outcome = UNDECIDED if isinstance(remote.failure, CannotHandOver) else WRONG
        found = {"outcome": outcome, "detail": _describe(remote.failure)}
    return found


def _run(remote: Remote, tests: Sequence[str], given: str) -> None:
    """Run all tests in one scope, after the code given by the problem; returns if all of them pass."""
    trees = [ast.parse(text) for text in (given, *tests)]
    scope = _Scope(remote, _program_names(trees))
    scope[_ASSERTING] = remote.asserting
    remote.expects_stop = any(getattr(node, "id", "") == "StopIteration" for tree in trees for node in ast.walk(tree))
    for tree in trees:
        code = compile(ast.fix_missing_locations(_MarkAssertions().visit(tree)), "test", "exec", dont_inherit=True)
        exec(code, scope)


def _call(remote: Remote, test: dict[str, Any]) -> bool:
    """Whether a function, or a method of the class `Solution`, returns an accepted value."""
    name = test["function"]
    try:
        solution: Any = remote.look_up("Solution")
        function = getattr(solution(), name)
    except (NameError, AttributeError):
        function = remote.look_up(name)
    args: Any = decode(test["args"])
    with remote.asserting():
        value = _plain(function(*args))
    return any(_equal(value, _plain(decode(wanted)), test["tolerance"]) for wanted in test["expected"])


def _plain(value: Any) -> Any:
    """Convert a tuple or another kind of sequence to a list, since JSON has only lists."""
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value


def _equal(value: Any, wanted: Any, tolerance: float | None) -> bool:
    if isinstance(value, list) and isinstance(wanted, list):
        return len(value) == len(wanted) and all(map(_equal, value, wanted, [tolerance] * len(wanted)))
    if isinstance(value, dict) and isinstance(wanted, dict):
        return value.keys() == wanted.keys() and all(_equal(value[key], wanted[key], tolerance) for key in wanted)
    if tolerance is not None and isinstance(value, int | float) and isinstance(wanted, int | float):
        return math.isclose(value, wanted, rel_tol=tolerance, abs_tol=tolerance)
    return bool(value == wanted)


class _Scope(dict[str, Any]):
    """The tests' globals: a name that no test has bound is looked up in the program, if it is a name of the program."""

    def __init__(self, remote: Remote, names: frozenset[str]) -> None:
        super().__init__(__name__="tests", __builtins__=builtins)
        self._remote, self._names = remote, names

    def __missing__(self, name: str) -> Any:
        if name in self._names:
            self[name] = found = self._remote.look_up(name)
        elif name in _HELPERS:
            self[name] = found = getattr(math, name)
        elif name in sys.stdlib_module_names and not hasattr(builtins, name):
            self[name] = found = importlib.import_module(name)
        else:
            raise KeyError(name)
        return found


class _MarkAssertions(ast.NodeTransformer):
    def visit_Assert(self, node: ast.Assert) -> ast.With:
        return ast.With([ast.withitem(ast.Call(ast.Name(_ASSERTING, ast.Load()), [], []))], [node])


def _program_names(trees: Sequence[ast.Module]) -> frozenset[str]:
    """The names that tests use and take from the program."""
    free = {name for tree in trees for name in _free(tree)}
    ours = {name for name in free if hasattr(builtins, name) or name in _HELPERS}
    modules = {name for name in free - ours if name in sys.stdlib_module_names and _is_module(name, trees)}
    names = free - ours - modules
    return frozenset(names or {name for tree in trees for name in _innermost(tree) if name in ours})


def _free(tree: ast.Module) -> set[str]:
    bound: set[str] = set()
    used: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            (used if isinstance(node.ctx, ast.Load) else bound).add(node.id)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            bound.add(node.name)
        elif isinstance(node, ast.arg):
            bound.add(node.arg)
        elif isinstance(node, ast.alias):
            bound.add((node.asname or node.name).partition(".")[0])
        elif isinstance(node, ast.ExceptHandler) and node.name:
            bound.add(node.name)
    return used - bound


def _is_module(name: str, trees: Sequence[ast.Module]) -> bool:
    """Whether a name is used only as the standard module of that name, with attributes that the module has."""
    uses = sum(isinstance(node, ast.Name) and node.id == name for tree in trees for node in ast.walk(tree))
    attributes = [
        node.attr
        for tree in trees
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == name
    ]
    return len(attributes) == uses and all(hasattr(importlib.import_module(name), attr) for attr in attributes)


def _innermost(tree: ast.Module) -> Iterator[str]:
    """Names called with arguments that contain no further call."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            inner = [*node.args, *(keyword.value for keyword in node.keywords)]
            if not any(isinstance(part, ast.Call) for arg in inner for part in ast.walk(arg)):
                yield node.func.id


def _describe(error: BaseException) -> str:
    try:
        text = f"{type(error).__name__}: {error}" if not isinstance(error, ProgramFailed) else str(error)
    except Exception:
        text = type(error).__name__
    return text[:_DETAIL].encode("ascii", "backslashreplace").decode()
