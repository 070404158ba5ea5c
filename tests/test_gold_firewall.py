"""Gold is read by evaluation and by nobody else; code that trains cannot even reach it by imports."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("svd_loop", "envs", "policies")
SCORERS = ("envs.domains", "svd_loop.evaluation.evaluation")

READERS = ("envs.domains", "svd_loop.evaluation.evaluation")
"""Measurement: what gold is for."""
BUILDERS = tuple(
    f"svd_loop.assembly.{module}"
    for module in ("backends", "data", "forking", "inherited", "job", "lengths", "vocabulary")
)
MAKERS = ("envs.problems", "envs.prompts", "svd_loop.nano", *BUILDERS)
"""Whoever makes problems writes their gold: generators, the door that reads files, and nano's post-training."""
NAMESAKES = {"policies.scripted.tasks": "`form.answer` is a regular expression over replies"}
"""Attributes of the same name on things that are no problems."""
SCORING_CALLERS = ("svd_loop.evaluation.evaluation", "svd_loop.nano", "envs.domains")
EVALUATION_CALLERS = (
    *BUILDERS,
    "svd_loop.evaluation.audit",
    "svd_loop.jobs",
    "svd_loop.promotion.examination",
    "svd_loop.experiments",
    "svd_loop.preflight.checks",
    "svd_loop.cli",
    "svd_loop.nano",
    "svd_loop.evaluation.evaluation",
)

TRAINING = (
    "svd_loop.loop.controller",
    "svd_loop.loop.replay",
    "svd_loop.ledger",
    "policies",
    "envs.cascade",
    "envs.judge_rows",
    "envs.round_env",
)


def modules() -> dict[str, ast.Module]:
    found = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = ast.parse(path.read_text("utf-8"))
    return found


MODULES = modules()


def within(name: str, owners: tuple[str, ...]) -> bool:
    return any(name == owner or name.startswith(f"{owner}.") for owner in owners)


def imports(tree: ast.Module) -> Iterator[str]:
    """Modules imported anywhere in the tree, also inside functions; `from a import b` may name the module `a.b`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def gold_reads(tree: ast.Module) -> list[str]:
    """`x.answer` and `x.tests` where they are read and not called or taken from a configuration's field map."""
    called = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    return [
        f"line {node.lineno}: {ast.unparse(node)}"
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr in ("answer", "tests") and id(node) not in called
    ]


def reachable(start: str) -> set[str]:
    """Our modules that importing `start` can pull in."""
    seen: set[str] = set()
    todo = [start]
    while todo:
        name = todo.pop()
        if name in seen or name not in MODULES:
            continue
        seen.add(name)
        todo += imports(MODULES[name])
    return seen


def test_only_measurement_and_makers_of_problems_touch_gold() -> None:
    offenders = {
        name: reads
        for name, tree in MODULES.items()
        if not within(name, READERS + MAKERS) and name not in NAMESAKES and (reads := gold_reads(tree))
    }
    assert offenders == {}


@pytest.mark.parametrize(
    ("scorer", "callers"), [("envs.domains", SCORING_CALLERS), ("svd_loop.evaluation.evaluation", EVALUATION_CALLERS)]
)
def test_scoring_is_imported_by_its_declared_callers_only(scorer: str, callers: tuple[str, ...]) -> None:
    offenders = [
        name
        for name, tree in MODULES.items()
        if not within(name, callers) and any(within(target, (scorer,)) for target in imports(tree))
    ]
    assert offenders == []


@pytest.mark.parametrize("start", [name for name in MODULES if within(name, TRAINING)])
def test_code_that_trains_has_no_path_to_scoring(start: str) -> None:
    assert [name for name in reachable(start) if within(name, SCORERS)] == []


def builds_scorers(tree: ast.Module) -> bool:
    """Whether the tree imports a domain's scorer by its row: without an import that the checks above could see."""
    calls = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return any(
        isinstance(call, ast.Attribute) and call.attr in ("builder", "load") and ast.unparse(call.value) == "DOMAINS"
        for call in calls
    )


def test_scorers_are_built_from_their_rows_in_one_place_only() -> None:
    assert [name for name, tree in MODULES.items() if builds_scorers(tree)] == ["envs.domains"]


def test_the_check_sees_what_it_looks_for() -> None:
    tree = ast.parse("def f(p):\n    from envs.domains import math\n    p.answer(1)\n    return p.answer, p.tests[0]")
    assert [read.partition(": ")[2] for read in gold_reads(tree)] == ["p.answer", "p.tests"]
    assert "envs.domains.math" in set(imports(tree))
    assert within("envs.domains.math", SCORERS) and not within("envs.domains_x", SCORERS)
    assert len(MODULES) > 20 and any(within(name, TRAINING) for name in MODULES)
