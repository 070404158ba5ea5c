"""Math families: an unknown in an equation, a pair of numbers, and two kinds of story."""

from __future__ import annotations

from random import Random

from envs.problems.nano.base import Family, PlanStep, addend, factor


def _linear(rng: Random, level: int) -> dict[str, int]:
    a, x, b = factor(rng, level), factor(rng, level), addend(rng, level)
    return {"a": a, "b": b, "c": a * x + b}


def _pair(rng: Random, level: int) -> dict[str, int]:
    small, difference = addend(rng, level) // 2 + 1, addend(rng, level) // 2 + 1
    return {"s": 2 * small + difference, "d": difference}


def _boxes(rng: Random, level: int) -> dict[str, int]:
    n, m = factor(rng, level), factor(rng, level)
    return {"n": n, "m": m, "g": rng.randint(1, min(n * m - 1, 20 * level))}


def _share(rng: Random, level: int) -> dict[str, int]:
    k, each = factor(rng, level), factor(rng, level)
    first = rng.randint(1, k * each - 1)
    return {"p": first, "q": k * each - first, "k": k}


FAMILIES: tuple[Family, ...] = (
    Family(
        name="linear",
        domain="math",
        topic="x",
        phrasings=("What is x if {a}x+{b}={c}?", "Solve {a}x+{b}={c}.", "Find x: {a}x+{b}={c}"),
        derive=(PlanStep("Rest: ", "c", "-", "b"), PlanStep(". So x: ", "#0", "/", "a")),
        leap=(PlanStep("x. Check: ", "a", "*", "ans"), PlanStep(", then ", "#0", "+", "b")),
        target="c",
        draw=_linear,
        words={},
    ),
    Family(
        name="pair",
        domain="math",
        topic="larger",
        phrasings=(
            "Two numbers add to {s} and differ by {d}. What is the larger?",
            "The sum of two numbers is {s}, the difference {d}. Find the larger one.",
        ),
        derive=(PlanStep("Twice it: ", "s", "+", "d"), PlanStep(". The larger: ", "#0", "/", "2")),
        leap=(PlanStep("the larger. Other: ", "ans", "-", "d"), PlanStep(", sum ", "ans", "+", "#0")),
        target="s",
        draw=_pair,
        words={},
    ),
    Family(
        name="boxes",
        domain="math",
        topic="left",
        phrasings=(
            "There are {n} boxes of {m} {thing} and {g} are given away. How many {thing} are left?",
            "Eva had {n} boxes with {m} {thing} each. She gave away {g}. How many {thing} has she left?",
        ),
        derive=(PlanStep("All {thing}: ", "n", "*", "m"), PlanStep(". Left: ", "#0", "-", "g")),
        leap=(PlanStep("{thing} left. Before: ", "ans", "+", "g"), PlanStep(", per box ", "#0", "/", "n")),
        target="m",
        draw=_boxes,
        words={"thing": ("pens", "eggs", "cups")},
    ),
    Family(
        name="share",
        domain="math",
        topic="each",
        phrasings=(
            "Ann has {p} {thing} and Bob {q}. They share all among {k} friends. How many {thing} for each?",
            "{k} friends share {p} {thing} from Ann and {q} from Bob. How many {thing} does each get?",
        ),
        derive=(PlanStep("Together {thing}: ", "p", "+", "q"), PlanStep(". Each: ", "#0", "/", "k")),
        leap=(PlanStep("{thing} each. All: ", "ans", "*", "k"), PlanStep(", Bob ", "#0", "-", "p")),
        target="q",
        draw=_share,
        words={"thing": ("coins", "nuts", "cards")},
    ),
)
