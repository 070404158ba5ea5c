"""Coding families: functions from examples, from a recipe, over lists, and with a bound to work out first."""

from __future__ import annotations

from random import Random

from envs.problems.nano.base import Family, PlanStep, Task, addend, factor, program

_LISTS: tuple[str, ...] = (
    "[]",
    "[1, 2, 3, 4, 5, 6]",
    "[20, 4, 9, 9, 1]",
    "[8, 7, 10, 2, 11, 3]",
    "list(range(30))",
    "list(range(40, 0, -1))",
)


def _line(rng: Random, level: int) -> dict[str, int]:
    slope, at, offset = factor(rng, level), factor(rng, level), addend(rng, level)
    return {"b": offset, "q": at, "w": slope * at + offset}


def _fold(rng: Random, level: int) -> dict[str, int]:
    a, m = factor(rng, level), factor(rng, level)
    return {"a": a, "m": m, "s": rng.randint(1, min(a * m - 1, 20 * level))}


def _select(rng: Random, level: int) -> dict[str, int]:
    a, k, b = factor(rng, level), factor(rng, level), addend(rng, level)
    return {"a": a, "b": b, "c": a * k + b}


def _bound(rng: Random, level: int) -> dict[str, int]:
    return {"n": factor(rng, level), "m": factor(rng, level), "g": addend(rng, level)}


_SELECT_CODE = {
    f"{reducer}/{side}": template.replace("?", sign)
    for side, sign in (("over", ">"), ("under", "<"))
    for reducer, template in (
        ("the sum of", "sum(n for n in xs if n?{ans})"),
        ("the count of", "len([n for n in xs if n?{ans}])"),
        ("a list of", "[n for n in xs if n?{ans}]"),
    )
}

FAMILIES: tuple[Family, ...] = (
    Family(
        name="line",
        domain="coding",
        topic="line",
        phrasings=(
            "Write f(x), a line with f(0)={b} and f({q})={w}.",
            "Code f(x) for the line through f(0)={b}, f({q})={w}.",
        ),
        derive=(PlanStep("Rise: ", "w", "-", "b"), PlanStep(". Slope: ", "#0", "/", "q")),
        leap=(PlanStep("Slope part: ", "ans", "*", "q"), PlanStep(", value ", "#0", "+", "b")),
        target="w",
        draw=_line,
        words={},
        code={"": "{ans}*x+{b}"},
    ),
    Family(
        name="fold",
        domain="coding",
        topic="steps",
        phrasings=(
            "Write f(x): add {a}, multiply by {m}, subtract {s}. Use one product.",
            "Code f(x) with one product: add {a}, times {m}, minus {s}.",
        ),
        derive=(PlanStep("Scaled: ", "a", "*", "m"), PlanStep(". Offset: ", "#0", "-", "s")),
        leap=(PlanStep("Scaled back: ", "ans", "+", "s"), PlanStep(", added ", "#0", "/", "m")),
        target="a",
        draw=_fold,
        words={},
        code={"": "{m}*x+{ans}"},
    ),
    Family(
        name="select",
        domain="coding",
        topic="items",
        phrasings=(
            "Write f(xs): {reducer} items {side} k, where {a}k+{b}={c}.",
            "With {a}k+{b}={c}, code f(xs): {reducer} items {side} k.",
        ),
        derive=(PlanStep("Rest: ", "c", "-", "b"), PlanStep(". So k: ", "#0", "/", "a")),
        leap=(PlanStep("Check k: ", "a", "*", "ans"), PlanStep(", then ", "#0", "+", "b")),
        target="c",
        draw=_select,
        words={"reducer": ("the sum of", "the count of", "a list of"), "side": ("over", "under")},
        code=_SELECT_CODE,
        argument="xs",
    ),
    Family(
        name="bound",
        domain="coding",
        topic="bound",
        phrasings=(
            "Write f(x): x, but {side} {n} times {m} plus {g}.",
            "Code f(x), which is x but {side} {n} times {m} plus {g}.",
        ),
        derive=(PlanStep("Product: ", "n", "*", "m"), PlanStep(". Bound: ", "#0", "+", "g")),
        leap=(PlanStep("Product back: ", "ans", "-", "g"), PlanStep(", factor ", "#0", "/", "n")),
        target="m",
        draw=_bound,
        words={"side": ("at most", "at least")},
        code={"at most": "min(x, {ans})", "at least": "max(x, {ans})"},
    ),
)


def tests_for(task: Task) -> tuple[str, ...]:
    """Assert lines on ``f``, on inputs both named and not named in the question.

    The expected values come from running the reference expression, so they are literals a child process can compare
    without seeing the reference.
    """
    scope: dict[str, object] = {}
    exec(program(task.final(task.ans), task.family.argument), scope)
    function = scope["f"]
    assert callable(function)
    if task.family.argument == "xs":
        k = task.ans
        inputs = [*_LISTS, f"[{k - 1}, {k}, {k + 1}]", f"[{k + 5}, {k - 2}, {k + 2}, {k}]"]
    else:
        inputs = ["0", "1", "2", "7", "13", "50", "300"]
        inputs += [str(task.givens["q"])] if "q" in task.givens else []
        inputs += [str(task.ans - 1), str(task.ans + 1)] if task.family.name == "bound" else []
    return tuple(f"assert f({text}) == {function(eval(text))!r}" for text in dict.fromkeys(inputs))
