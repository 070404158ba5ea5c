"""Near misses: right-looking solutions with one error whose consequences are carried through to the conclusion.

A corrupted solution contradicts itself: its changed number no longer fits the next line. A near miss does not. One step
of the arithmetic is changed (a result, a value or an operator), and everything that follows from it is computed again,
so that only a judge that checks this step against the question or against arithmetic can find it. Where a solution has
no arithmetic, one word with a meaning of its own is changed throughout: a quantifier, a comparison, a unit, a sign.

The change is made in the text, without understanding it. So a near miss can, rarely, be right, as when a corrupted
solution repairs a wrong one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from random import Random

_NUMBER = r"\d+(?:\.\d+)?"
_EQUATION = re.compile(
    rf"(?<![\w.])(?P<left>{_NUMBER})(?P<a>\s*)(?P<op>[-+*/×÷])(?P<b>\s*)(?P<right>{_NUMBER})(?P<c>\s*=\s*)"
    rf"(?P<result>{_NUMBER})(?![\w]|\.\d)"
)
_TOKEN = re.compile(rf"{_EQUATION.pattern}|(?<![\w.])(?P<number>{_NUMBER})(?![\w]|\.\d)")
_ANY_NUMBER = re.compile(rf"(?<![\w.]){_NUMBER}(?![\w]|\.\d)")
_CHOICE = re.compile(r"(?:####|boxed\{|[Aa]nswer(?: is)?:?)\s*\(?(?P<letter>[A-D])(?![\w'])")
_OTHERS = {"+": "-*", "-": "+", "*": "+", "×": "+", "/": "*-", "÷": "×-"}

_SWAPS: tuple[tuple[str, str], ...] = (
    *(("all", "some"), ("every", "some"), ("always", "sometimes"), ("at least", "at most"), ("at most", "at least")),
    *(("more than", "less than"), ("less than", "more than"), ("increases", "decreases"), ("positive", "negative")),
    *(("decreases", "increases"), ("greater", "smaller"), ("smaller", "greater"), ("and", "or"), ("or", "and")),
    *(("meters", "kilometers"), ("kg", "g"), ("km", "m"), ("hours", "minutes"), ("minutes", "seconds"), ("J", "W")),
    *(("max", "min"), ("min", "max"), ("sum", "len"), ("<=", "<"), (">=", ">"), ("==", "!="), ("True", "False")),
)
_SIGNS: tuple[tuple[str, str], ...] = (("<", ">"), (">", "<"), ("-", "+"), ("+", "-"))


def near_miss(text: str, draw: Random) -> str | None:
    """The solution with one error carried through; None if there is nothing to change.

    Args:
        text: a solution.
        draw: decides what is changed; it is advanced by a number of draws that depends on the text.
    """
    changed = changed_step(text, draw)
    if changed is None:
        changed = changed_word(text, draw)
    return None if changed is None else _other_choice(changed, draw)


def changed_step(
    text: str, draw: Random, kinds: Sequence[str] = ("slip", "other_value", "other_operator")
) -> str | None:
    """One equation changed and the rest computed again; None if there is none, or if the conclusion would stay.

    Args:
        text: a solution.
        draw: decides what is changed.
        kinds: of change, of those in the default.
    """
    equations = list(_EQUATION.finditer(text))
    draw.shuffle(equations)
    for equation in equations:
        changes = [_STEP_CHANGES[kind] for kind in kinds]
        draw.shuffle(changes)
        for change in changes:
            new = change(equation, draw)
            if new is None:
                continue
            written, result = new
            values = {equation["result"]: result}
            rest = _carried(text[equation.end() :], values)
            changed = text[: equation.start()] + written + rest
            if _conclusion(changed) != _conclusion(text):
                return changed
    return None


def _slip(equation: re.Match[str], draw: Random) -> tuple[str, str] | None:
    """Another result, as of an arithmetical slip."""
    off = draw.choice((-10, -2, -1, 1, 2, 10))
    result = _written(float(equation["result"]) + off)
    return None if result is None else (_equation(equation, result=result), result)


def _other_value(equation: re.Match[str], draw: Random) -> tuple[str, str] | None:
    """Another value on one side, and its result."""
    side = draw.choice(("left", "right"))
    value = _written(float(equation[side]) + draw.choice((-2, -1, 1, 2, 3)))
    return None if value is None else _computed(equation, {side: value})


def _other_operator(equation: re.Match[str], draw: Random) -> tuple[str, str] | None:
    """Another operator, and its result."""
    return _computed(equation, {"op": draw.choice(_OTHERS[equation["op"]])})


_STEP_CHANGES: Mapping[str, Callable[[re.Match[str], Random], tuple[str, str] | None]] = {
    "slip": _slip,
    "other_value": _other_value,
    "other_operator": _other_operator,
}


def _computed(equation: re.Match[str], parts: Mapping[str, str]) -> tuple[str, str] | None:
    """The equation with other parts and its own result; None if that result cannot be written, or stays."""
    left, op, right = (parts.get(name, equation[name]) for name in ("left", "op", "right"))
    result = _result(left, op, right)
    if result is None or result == equation["result"]:
        return None
    return _equation(equation, **{**parts, "result": result}), result


def _equation(equation: re.Match[str], **parts: str) -> str:
    """The equation as it was written, with other parts."""
    return "".join(parts.get(name, equation[name]) for name in ("left", "a", "op", "b", "right", "c", "result"))


def _carried(text: str, values: dict[str, str]) -> str:
    """The text with every changed value replaced and every equation that uses one computed again."""

    def replaced(found: re.Match[str]) -> str:
        if (number := found["number"]) is not None:
            return values.get(number, number)
        left, right = values.get(found["left"], found["left"]), values.get(found["right"], found["right"])
        if (left, right) == (found["left"], found["right"]):
            return _equation(found, result=values.get(found["result"], found["result"]))
        result = _result(left, found["op"], right)
        if result is None:  # it does not come out even: leave the result, the step is wrong either way
            return _equation(found, left=left, right=right)
        values[found["result"]] = result
        return _equation(found, left=left, right=right, result=result)

    return _TOKEN.sub(replaced, text)


def _result(left: str, op: str, right: str) -> str | None:
    """The result of an operation; None if it is negative or has more than two decimals."""
    a, b = float(left), float(right)
    operations: Mapping[str, Callable[[], float]] = {
        "+": lambda: a + b,
        "-": lambda: a - b,
        "*": lambda: a * b,
        "×": lambda: a * b,
        "/": lambda: a / b,
        "÷": lambda: a / b,
    }
    if op in "/÷" and b == 0:
        return None
    return _written(operations[op]())


def _written(value: float) -> str | None:
    rounded = round(value, 2)
    if value < 0 or abs(value - rounded) > 1e-9:
        return None
    return f"{rounded:.2f}".rstrip("0").rstrip(".")


def _conclusion(text: str) -> str | None:
    """The last number of a text, which is where solutions conclude."""
    found = _ANY_NUMBER.findall(text)
    return found[-1] if found else None


def _other_choice(text: str, draw: Random) -> str:
    """The text with another letter as its answer, where the answer is one of A to D."""
    found = list(_CHOICE.finditer(text))
    if not found:
        return text
    start, end = found[-1].span("letter")
    return text[:start] + draw.choice([letter for letter in "ABCD" if letter != found[-1]["letter"]]) + text[end:]


def changed_word(text: str, draw: Random) -> str | None:
    """One word or sign replaced throughout; None if there is none to replace."""
    found = [(old, new) for old, new in _SWAPS if _bounded(old).search(text)]
    found = found or [(old, new) for old, new in _SIGNS if old in text]
    if not found:
        return None
    old, new = draw.choice(found)
    return _bounded(old).sub(new, text) if (old, new) in _SWAPS else text.replace(old, new)


def _bounded(word: str) -> re.Pattern[str]:
    edge = r"\b" if word[0].isalpha() else ""
    return re.compile(f"{edge}{re.escape(word)}{edge}")
