r"""Split an answer into parts: a name before an equals sign, brackets, lists and unions.

`math-verify` treats `(1,2)` as `\{1,2\}` and `5,5` as `5`. So an answer of several parts is split here, and
each part is compared separately: the kind of brackets and the number of parts must agree.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from envs.domains.numbers import number
from envs.domains.spelling import balanced_split

_BARE, _UNION, _SET = "", r"\cup", r"\{\}"
_OPENINGS: Final = {"(": 1, "[": 1, r"\{": 2, "{": 1, r"\langle ": 8}
_SEPARATOR: Final = re.compile(
    r"[,;]?\s*(?:\\text\s*\{\s*,?\s*(?:and|or)\s*,?\s*\}|(?<![a-zA-Z\\])(?:and|or)(?![a-zA-Z]))\s*|[,;]"
)
_UNION_SIGN: Final = re.compile(r"\\cup(?![a-zA-Z])")
_EQUALS: Final = re.compile(r"(?<![<>!:\\])=(?!=)|:=")
_ABOUT: Final = re.compile(r"\\(?:approx|simeq|doteq|sim)(?![a-zA-Z])")
_NAME: Final = re.compile(
    r"(?:\\(?:angle|overline|vec|hat|bar|mathbf|text|operatorname|triangle|frac|Delta|alpha|beta|gamma|theta|lambda|mu|phi"
    r"|omega|sigma|rho|pi|nabla|mathbb|mathcal|max|min|sin|cos|tan)|[a-zA-Z(){}_,'\s|:]|(?<=[a-zA-Z(_{,])[0-9]+)*"
)
_LETTER: Final = re.compile(r"[a-zA-Z]")
_WHOLE_TEXT: Final = re.compile(r"\\text\s*\{([^{}]*)\}")
_RELATION: Final = re.compile(
    r"[<>=]|\\(?:le|ge|neq|in|pm|mp|equiv|approx|cup|cap|setminus|mid)(?![a-zA-Z])|\||(?<!\\):"
)

_COMPARISON: Final = re.compile(r"[<>]|\\(?:le|ge|neq)(?![a-zA-Z])")
_ABOUT_WORD: Final = re.compile(
    r"(?:\\text\s*\{\s*)?(?:about|approximately|approx\.?|roughly|around)\s*\}?\s*(?=[\d$.-])"
)


_ROUGHLY: Final = 10
"""An approximation (`1/3 \\approx 0.3`) is off by at most one part in so many."""


@dataclass(frozen=True, slots=True)
class Parts:
    """An answer of several parts; `brackets` holds both of them, and is empty for a plain list."""

    brackets: str
    items: tuple[str, ...]

    @property
    def ordered(self) -> bool:
        """Whether the order of the parts matters."""
        return self.brackets not in (_BARE, _UNION, _SET)


def parts_of(text: str) -> Parts | str:
    """The parts of a normalised text; a text with one part only is returned without brackets around all of it."""
    text = text.strip()
    if whole := _WHOLE_TEXT.fullmatch(text):
        text = whole[1].strip()
    unions = _split(text, _UNION_SIGN)
    if len(unions) > 1:
        return Parts(_UNION, unions)
    items = _split(text, _SEPARATOR)
    if len(items) > 1:
        return Parts(_BARE, items)
    for opening in _OPENINGS:
        if text.startswith(opening) and (end := _closed_at(text, opening)) is not None:
            inner, closing = text[len(opening) : end[0]].strip(), text[end[0] : end[1]]
            if opening == "{" or (opening == "(" and closing == ")" and len(_split(inner, _SEPARATOR)) == 1):
                return parts_of(inner)
            if opening == r"\{" and _RELATION.search(inner):
                return text
            brackets = "()" if "langle" in opening else _SET if opening == r"\{" else opening + closing
            return Parts(brackets, _split(inner, _SEPARATOR))
    return text


def named(text: str) -> tuple[str, str]:
    r"""The name and the value: `x = 5` is `x` and `5`; the name is empty if there is none.

    In a chain (`x = 2 + 3 = 5`) the last value counts, but not an approximation (`1/3 \approx 0.3`). An equation whose
    left side is not a name stays whole.
    """
    text = _ABOUT_WORD.sub("", text, count=1) if _ABOUT_WORD.match(text) else text
    about = _split(text, _ABOUT)
    if len(about) > 1 and _are_far(about):
        return "", text
    if len(about) > 1 and not (len(about) == 2 and _is_name(about[0])):
        return named(about[0])
    sides = about if len(about) > 1 else _split(_ABOUT.sub("", text, count=1) if _ABOUT.match(text) else text, _EQUALS)
    if len(sides) < 2:
        return "", sides[0] if sides and (_ABOUT.match(text) or text.startswith("=")) else text
    if len(sides) == 2 and _LETTER.fullmatch(sides[1]) and not re.search(r"[a-zA-Z]", sides[0]):
        return sides[1], sides[0]  # 5 = x
    return (re.sub(r"[\s{}]", "", sides[0]), sides[-1]) if _NAME.fullmatch(sides[0]) else ("", text)


def _is_name(text: str) -> bool:
    r"""Whether a text names a value: neither a number (`\frac{1}{7}`) nor a constant."""
    return _NAME.fullmatch(text) is not None and number(text) is None and text.strip() not in (r"\pi", "e", "i")


def _are_far(sides: tuple[str, ...]) -> bool:
    r"""Whether two sides are numbers of which neither approximates the other (`5 \sim 6`)."""
    found = [each.value for side in sides if (each := number(side)) is not None]
    return len(found) > 1 and max(found) - min(found) > max(map(abs, found)) / _ROUGHLY


def is_equation(text: str) -> bool:
    """Whether an equals sign stands outside all brackets."""
    return len(_split(text, _EQUALS)) > 1


def relates(text: str) -> bool:
    """Whether a text is a relation, such as an inequality, and so may stand for an interval or a list."""
    return _RELATION.search(text) is not None


def compares(text: str) -> bool:
    r"""Whether a text holds an inequality sign (`<`, `\ge`, `\neq`)."""
    return _COMPARISON.search(text) is not None


def _split(text: str, separator: re.Pattern[str]) -> tuple[str, ...]:
    def width(whole: str, place: int) -> int:
        found = separator.match(whole, place)
        return found.end() - place if found else 0

    return tuple(part.strip() for part in balanced_split(text, width) if part.strip())


def _closed_at(text: str, opening: str) -> tuple[int, int] | None:
    """The position of the bracket that closes the text's opening bracket, if the text ends there."""
    depth, place = 0, 0
    while place < len(text):
        if text[place] == "\\":
            mark = text[place : place + 2]
            if text.startswith((r"\langle", r"\rangle"), place):
                depth += 1 if text[place + 1] == "l" else -1
                width = len(r"\langle")
            else:
                depth += (mark == r"\{") - (mark == r"\}")
                width = 2
        else:
            depth += (text[place] in "([{") - (text[place] in ")]}")
            width = 1
        if depth == 0:
            return (place, place + width) if place + width == len(text) else None
        place += width
    return None
