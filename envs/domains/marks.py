r"""Marks that `math-verify` drops although they change an expression, and ratios and dates, which it computes.

It takes `f'(x)` for `f(x)`, `30'` for 30, `A^T` for `A`, `\not 3` for 3, and `3:4:5` for anything. Expressions are
therefore compared by it only if they have the same marks.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import Final

from envs.domains.numbers import number

_MARKS: Final = re.compile(
    r"(?P<prime>'|\\prime(?![a-zA-Z]))|(?P<not>\\(?:not|neg|lnot|cancel|bcancel|xcancel|sout|st)(?![a-zA-Z]))"
    r"|(?P<dangling>[+/=^_-]\s*$)"
    r"|(?P<transposed>\^\s*\{?\s*(?:T(?![a-zA-Z])|\\top(?![a-zA-Z])|\\intercal(?![a-zA-Z])|\\text\s*\{\s*T\s*\}))"
)
_DATE: Final = re.compile(
    r"(?:1[0-9]|20)[0-9]{2}(?P<mark>[-/.])[01]?[0-9](?P=mark)[0-3]?[0-9]|[0-3]?[0-9]/[0-3]?[0-9]/(?:1[0-9]|20)[0-9]{2}"
)
_RATIO: Final = re.compile(r"[^:=]+(?::[^:=]+){2,}")


def marks_of(text: str) -> Counter[str]:
    """How often each kind of mark stands in a normalised text."""
    return Counter(found.lastgroup or "" for found in _MARKS.finditer(text))


def same_ratio_or_date(gold: str, answer: str) -> bool | None:
    """Whether two ratios of three or more numbers are in proportion, or two dates equal; None if neither is one."""
    if _DATE.fullmatch(gold) or _DATE.fullmatch(answer):
        return gold == answer
    if not _RATIO.fullmatch(gold) and not _RATIO.fullmatch(answer):
        return None
    sides = [[number(part.strip()) for part in text.split(":")] for text in (gold, answer)]
    values = [[part.value for part in side if part is not None] for side in sides]
    if len(values[0]) != len(values[1]) or any(
        len(side) != len(kept) for side, kept in zip(sides, values, strict=True)
    ):
        return gold.replace(" ", "") == answer.replace(" ", "")
    pairs = list(zip(*values, strict=True))
    return any(one for one, _ in pairs) and all(
        one * pairs[0][1] == other * pairs[0][0] and bool(one) == bool(other) for one, other in pairs
    )
