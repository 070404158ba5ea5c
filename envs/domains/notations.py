r"""Convert notations that mean the same but have another structure: decimal commas, inequalities, words for sets.

A comma between digits separates two numbers in English and is the decimal point in most other languages. It is taken
for a decimal point only where a list makes no sense (`with_decimal_points`), and `envs.domains.math` compares both
readings only if the first one differs.
"""

from __future__ import annotations

import re
from typing import Final

from envs.domains.parts import Parts, named

_DECIMAL_COMMA: Final = re.compile(r"(?<![\d.,])(?P<whole>\d{1,3}(?:[. ]\d{3})+|\d+),(?P<decimals>\d+)(?![\d,.])")
_SETS: Final = {
    **dict.fromkeys(
        (
            *("all real numbers", "all reals", "any real number", "every real number", "the real numbers"),
            *("the set of all real numbers", "all real values", r"(-\infty,\infty)", r"\mathbb{R}"),
        ),
        r"\mathbb{R}",
    ),
    **dict.fromkeys(
        (
            *("no solution", "no solutions", "no real solution", "no real solutions", "there is no solution"),
            *("there are no solutions", "empty set", "the empty set", r"\{\}", r"\emptyset", "none"),
            *("no real roots", "no roots", "no real solution exists", "no solution exists", "there are none"),
        ),
        r"\emptyset",
    ),
    **dict.fromkeys(("dne", "does not exist", "undefined", "not defined", "it does not exist"), "undefined"),
}
_SIGN: Final = r"<|>|\\le(?![a-zA-Z])|\\ge(?![a-zA-Z])"
_CHAIN: Final = re.compile(
    r"(?P<low>[^<>=]+?)\s*(?P<first><|\\le(?![a-zA-Z]))\s*(?:[a-zA-Z]|\\[a-z]+)\s*(?P<second><|\\le(?![a-zA-Z]))"
    r"\s*(?P<high>[^<>=]+)"
)
_FALLING: Final = re.compile(
    r"(?P<high>[^<>=]+?)\s*(?P<first>>|\\ge(?![a-zA-Z]))\s*(?P<name>[a-zA-Z]|\\[a-z]+)\s*"
    r"(?P<second>>|\\ge(?![a-zA-Z]))\s*(?P<low>[^<>=]+)"
)
_UNEQUAL: Final = re.compile(r"[a-zA-Z]\s*\\neq(?![a-zA-Z])\s*(?P<value>[^<>=,]+)")
_OPEN: Final = re.compile(
    r"(?P<left>[\[\](])\s*(?P<low>[^\[\]()]+?)\s*[;,]\s*(?P<high>[^\[\]()]+?)\s*(?P<right>[\[\])])"
)
_BUILDER: Final = re.compile(
    r"\\?\{\s*(?P<name>[a-zA-Z])\s*(?:\\in(?![a-zA-Z])\s*(?:\\mathbb\s*\{\s*R\s*\}|R)\s*)?"
    r"(?::|\||\\mid(?![a-zA-Z])|\\text\s*\{\s*such that\s*\})\s*(?P<condition>.+?)\s*\\?\}"
)
_OR: Final = re.compile(r"\s+or\s+|\s*\\text\s*\{\s*or\s*\}\s*|\s*\\vee(?![a-zA-Z])\s*")
_BOUND: Final = re.compile(rf"[a-zA-Z]\s*(?P<sign>{_SIGN})\s*(?P<bound>[^<>=]+)")
_BOUND_FIRST: Final = re.compile(rf"(?P<bound>[^<>=]+?)\s*(?P<sign>{_SIGN})\s*(?P<name>[a-zA-Z])")
_BOTH: Final = re.compile(
    r"(?P<one>.+?)\s*(?:,|(?<![a-zA-Z\\])and(?![a-zA-Z])|\\text\s*\{\s*and\s*\}|\\wedge(?![a-zA-Z]))\s*(?P<other>.+)"
)
_TURNED: Final = {"<": ">", ">": "<", r"\le": r"\ge", r"\ge": r"\le"}
_VARIABLE: Final = re.compile(r"(?<![a-zA-Z\\])[a-zA-Z](?![a-zA-Z])")
_WITHIN: Final = re.compile(r"\|\s*[a-zA-Z]\s*\|\s*(?P<sign><|\\le(?![a-zA-Z]))\s*(?P<bound>[^<>=|]+)")
_MEMBER: Final = re.compile(r"(?:[a-zA-Z]|\\[a-z]+)\s*\\in(?![a-zA-Z])\s*(?P<set>.+)")
_GROUP: Final = re.compile(r";|\s+or\s+|\\text\s*\{\s*or\s*\}")
_COMMA: Final = re.compile(r",|\s+and\s+|\\text\s*\{\s*and\s*\}")
_COLUMN: Final = re.compile(r"\\begin\{pmatrix\}\s*((?:(?!\\begin|\\end)[^&])*?)\s*\\end\{pmatrix\}")


def set_name(text: str) -> str:
    r"""The symbol of a normalised text that names a set or says that nothing exists; other texts as they are."""
    if len(text) > 60:
        return text
    plain = " ".join(re.sub(r"\\text\s*\{([^{}]*)\}", r" \1 ", text).split()).lower()
    for spelling in (plain, plain.replace(" ", "").replace("+", "")):
        if spelling in _SETS or spelling == r"\mathbb{r}":
            return _SETS.get(spelling, r"\mathbb{R}")
    return text


def with_decimal_points(text: str) -> str:
    """A normalised text with its decimal commas as points.

    Three digits behind a comma are a thousand (`1,234`), unless the number begins with 0 or has other thousands marks.
    """

    def pointed(number: re.Match[str]) -> str:
        whole, decimals = number["whole"], number["decimals"]
        grouped = not whole.isdigit()
        if len(decimals) == 3 and not grouped and len(whole) <= 3 and whole != "0":
            return number[0]
        return f"{re.sub('[. ]', '', whole)}.{decimals}"

    return _DECIMAL_COMMA.sub(pointed, text)


def with_comma_lists(text: str) -> str:
    """A list separated by semicolons (`(1,5; 2)`) with decimal points and commas."""
    return with_decimal_points(text).replace(";", ",") if ";" in text else text


def is_decimal_comma_for_certain(text: str) -> bool:
    """Whether a comma in a text that holds one number is a decimal comma: `0,5` and `3,14`, but not `2,5`."""
    found = _DECIMAL_COMMA.fullmatch(text.lstrip("+- "))
    return found is not None and (len(found["decimals"]) > 1 or found["whole"] == "0")


def interval_of(text: str) -> Parts | None:
    r"""An inequality of one variable as the interval it describes (`1 < x \le 2`, `x > 3`); None for other texts."""
    if (falling := _FALLING.fullmatch(text)) is not None:
        signs = ["<" if falling[place] == ">" else r"\le" for place in ("second", "first")]
        return interval_of(f"{falling['low']} {signs[0]} {falling['name']} {signs[1]} {falling['high']}")
    if chain := _CHAIN.fullmatch(text):
        opening, closing = "(" if chain["first"] == "<" else "[", ")" if chain["second"] == "<" else "]"
        return Parts(opening + closing, (chain["low"].strip(), chain["high"].strip()))
    if within := _WITHIN.fullmatch(text):
        value = within["bound"].strip()
        return Parts("()" if within["sign"] == "<" else "[]", (f"-({value})", value))
    if bound := _BOUND.fullmatch(text):
        value = bound["bound"].strip()
        if bound["sign"] in (">", r"\ge"):
            return Parts("()" if bound["sign"] == ">" else "[)", (value, r"\infty"))
        return Parts("()" if bound["sign"] == "<" else "(]", (r"-\infty", value))
    if turned := _BOUND_FIRST.fullmatch(text):
        return interval_of(f"{turned['name']} {_TURNED[turned['sign']]} {turned['bound']}")
    return _of_both_bounds(text)


def _of_both_bounds(text: str) -> Parts | None:
    """A lower and an upper bound of one variable (`x > 1 and x < 3`) as an interval; None for other texts."""
    both = _BOTH.fullmatch(text)
    if both is None or variable_of(both["one"]) != variable_of(both["other"]):
        return None
    found = [interval_of(both[name]) for name in ("one", "other")]
    low, high = sorted(found, key=lambda part: part is None or part.items[-1] != r"\infty")
    if low is None or high is None or low.items[-1] != r"\infty" or high.items[0] != r"-\infty":
        return None
    return Parts(low.brackets[0] + high.brackets[1], (low.items[0], high.items[1]))


def variable_of(text: str) -> str:
    """The single letters of a text, sorted."""
    return "".join(sorted(set(_VARIABLE.findall(text))))


def with_round_brackets(text: str) -> str:
    """An interval whose open ends have outward brackets (`]0,1[`) with round ones; any other text as it is."""
    found = _OPEN.fullmatch(text)
    if found is None or (found["left"] != "]" and found["right"] != "["):
        return text
    left, right = "(" if found["left"] == "]" else found["left"], ")" if found["right"] == "[" else found["right"]
    return f"{left}{found['low']},{found['high']}{right}"


def union_of(text: str) -> str | None:
    r"""Inequalities of one variable that are joined by "or", and `x \neq 2`, as a union of intervals."""
    if unequal := _UNEQUAL.fullmatch(text):
        value = unequal["value"].strip()
        return rf"(-\infty,{value})\cup ({value},\infty)"
    found = [interval_of(part.strip()) for part in _OR.split(text)]
    if len(found) < 2:
        return None
    written = [f"{one.brackets[0]}{','.join(one.items)}{one.brackets[1]}" for one in found if one is not None]
    return r"\cup ".join(written) if len(written) == len(found) else None


def without_builder(text: str) -> str:
    r"""The condition of a set of real numbers (`\{x \mid 2 < x\}`); any other text as it is."""
    found = _BUILDER.fullmatch(text)
    return found["condition"] if found else text


def member_of(text: str) -> str | None:
    r"""The set of a text that says where a variable lies (`x \in [0,1]`); None for other texts."""
    found = _MEMBER.fullmatch(text)
    return found["set"] if found else None


def assigned_tuples(text: str) -> str | None:
    """Groups of assignments (`p=5, q=2; p=7, q=2`) as a list of tuples; None for other texts."""
    groups = [[named(item) for item in _COMMA.split(group)] for group in _GROUP.split(text)]
    names = {tuple(name for name, _ in group) for group in groups}
    if len(groups) < 2 or len(names) != 1 or not all(len(name) > 1 and all(name) for name in names):
        return None
    return ",".join(f"({','.join(value for _, value in group)})" for group in groups)


def column(text: str) -> Parts | None:
    """A matrix of one column as a tuple; None for other texts."""
    found = _COLUMN.fullmatch(text)
    items = [item.strip() for item in found[1].split(r"\\")] if found else []
    return Parts("()", tuple(item for item in items if item)) if len(items) > 1 else None
