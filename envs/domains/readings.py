r"""Other readings of a gold and an answer, compared only where the first reading differs.

A notation belongs here if it is ambiguous by itself and clear beside the other side: `12,34,567` is one number where
one number is wanted, `c` is the constant of integration where gold has `+C`, `k` is the integer where gold's solutions
are numbered by `n`. A reading never drops anything that could make an answer wrong.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from envs.domains.notations import interval_of, union_of, variable_of, without_builder
from envs.domains.numbers import number
from envs.domains.parts import Parts, parts_of
from envs.domains.units import NOT_UNITS

_GROUPED: Final = re.compile(
    r"(?<![\d.,])\d{1,3}(?:(?P<mark>[.,_'])\d{2,3})(?:(?P=mark)\d{2,3})*(?P<decimals>\.\d+)?(?![\d.,])"
)
_GROUPS: Final = {
    "_": r"\d{1,3}(?:_\d{3}){2,}",
    "'": r"\d{1,3}(?:'\d{3})+",
    ".": r"\d{1,3}(?:\.\d{3}){2,}",
    ",": r"\d{1,2}(?:,\d{2})+,\d{3}",
}
"""By mark the forms that are one number, among them the Indian groups of two."""
_CONSTANT: Final = re.compile(r"(?P<before>.*[^\s+])\s*\+\s*(?P<name>[a-zA-Z])")
_INTEGERS: Final = "nkmN"
_OVER_INTEGERS: Final = re.compile(
    r"(?P<values>.+?)[\s,;(]*(?:\\text\s*\{\s*,?\s*)?(?:where|for|with|,)?[\s}]*(?P<name>[a-zA-Z])\s*"
    r"(?:\\in(?![a-zA-Z])\s*(?:\\mathbb\s*\{?\s*Z\s*\}?|Z)|(?:\\text\s*\{)?\s*(?:is\s+)?(?:an|any)\s+integer\s*\}?)[\s)]*"
)
_LABEL: Final = re.compile(
    r"(?P<label>\\text\s*\{\s*[A-Za-z][A-Za-z ]*:\s*\}"
    r"|(?:\\text\s*\{\s*[A-Za-z][A-Za-z ]*\s*\}|[A-Za-z]{2,}(?: [A-Za-z]+){0,4})\s*:)\s*(?P<value>.+)"
)
_ROWS: Final = re.compile(r"\[\s*(?P<rows>\[[^\[\]]*\](?:\s*,\s*\[[^\[\]]*\])*)\s*\]")
_DEGREES: Final = re.compile(r"(?P<sign>-?)\s*(?P<count>\d+(?:\.\d+)?)\s*\^\s*\{\s*\\circ\s*\}")
_OF_ANGLES: Final = re.compile(r"\\(?:sin|cos|tan|cot|sec|csc)(?![a-zA-Z])")
_PLUS_MINUS: Final = re.compile(r"\\(?:pm|mp)(?![a-zA-Z])")
_RESIDUE: Final = re.compile(
    r"(?:[a-zA-Z]\s*)?(?:\\equiv(?![a-zA-Z])|=)?\s*(?P<value>-?\d+)\s*"
    r"(?:\\p?mod(?![a-zA-Z])|\\bmod(?![a-zA-Z])|\(?\s*mod(?:ulo)?(?![a-zA-Z])|\\text\s*\{\s*\(?\s*mod(?:ulo)?(?![a-zA-Z])\s*\}?)"
    r"\s*\{?\s*(?P<modulus>\d+)\s*\}?\s*\)?\s*\}?"
)
_CLOCK: Final = re.compile(
    r"(?P<hour>\d{1,2}):(?P<minute>\d{2})\s*(?:\\text\s*\{)?\s*(?P<half>[apAP])?\.?\s*(?(half)[mM]\.?)\s*\}?"
)
_UNITS_TEXT: Final = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
)
_SMALL: Final = {word: value for value, word in enumerate(_UNITS_TEXT.split())}
_TENS: Final = {
    word: 10 * value
    for value, word in enumerate(
        ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"], start=2
    )
}
_ORDINALS: Final = "third fourth fifth sixth seventh eighth ninth tenth"
_PORTIONS: Final = {
    **{"half": 2, "halves": 2, "quarter": 4, "quarters": 4, "hundredth": 100, "hundredths": 100},
    **{name + end: below for below, name in enumerate(_ORDINALS.split(), start=3) for end in ("", "s")},
}
_ALONE: Final = frozenset(("half", "third", "quarter", "fourth", "fifth"))  # "sixth" alone is most often a place
_POWERS: Final = {"million": 1_000_000, "thousand": 1_000}
_NUMERAL: Final = re.compile(r"(?P<sign>(?:minus|negative)\s+)?(?P<words>[a-z]+(?:[\s-]+[a-z]+){0,12})")
_AND_PORTION: Final = re.compile(
    r"(?P<whole>\d+|[a-z-]+)\s+and\s+(?:(?P<above>\d+)\s*/\s*(?P<below>\d+)|(?P<words>[a-z ]+))"
)


def readings(gold: str, answer: str) -> Iterator[tuple[str, str]]:
    """Pairs of normalised texts that mean the same as gold and answer; equal ones make the answer right."""
    for read in (
        _from_words,
        without_builder,
        _as_interval,
        _as_matrix,
        _without_integers,
        _without_label,
        _in_functions,
    ):
        pair = read(gold), read(answer)
        if read is _as_interval and pair[0] != gold and pair[1] != answer and variable_of(gold) != variable_of(answer):
            continue
        if pair != (gold, answer):
            yield pair
    if (unions := (union_of(gold) or gold, union_of(answer) or answer)) != (gold, answer):
        yield unions
    for change in (_one_number, _with_constant, _with_parameter, _with_imaginary_unit, _in_radians):
        changed = change(gold, answer)
        if changed is not None:
            yield changed
    if _PLUS_MINUS.search(gold) or _PLUS_MINUS.search(answer):
        yield _both_signs(gold), _both_signs(answer)


def same_residue(gold: str, answer: str) -> bool | None:
    r"""Whether two numbers modulo another are equal (`3 \pmod 7`); None if neither text is one.

    The modulus may be left out on one side, since the question names it; then the values have to be equal.
    """
    one, other = _RESIDUE.fullmatch(gold), _RESIDUE.fullmatch(answer)
    if one and other:
        modulus = int(one["modulus"])
        return (
            modulus == int(other["modulus"]) and modulus > 0 and not (int(one["value"]) - int(other["value"])) % modulus
        )
    residue, bare = (one, answer) if one else (other, gold)
    if residue is None:
        return None
    found = number(bare)
    return found is not None and found.value == int(residue["value"])


def same_time_of_day(gold: str, answer: str) -> bool:
    """Whether two texts are the same time; one that does not say which half of the day is before noon, or gold's."""
    times = [_CLOCK.fullmatch(text) for text in (gold, answer)]
    if times[0] is None or times[1] is None or not any(time and time["half"] for time in times):
        return False
    readings = [_minutes(time) for time in times if time]
    return bool(readings[0] & readings[1])


def _minutes(time: re.Match[str]) -> set[int]:
    """Minutes since midnight that a time may mean."""
    hour, minute = int(time["hour"]), int(time["minute"])
    if hour > 23 or minute > 59 or (time["half"] and not 1 <= hour <= 12):
        return set()
    if time["half"]:
        return {60 * (hour % 12 + (12 if time["half"].lower() == "p" else 0)) + minute}
    return {60 * hour + minute} | ({60 * (hour % 12 + half) + minute for half in (0, 12)} if 1 <= hour <= 12 else set())


def _one_number(gold: str, answer: str) -> tuple[str, str] | None:
    """Grouped digits of the answer as one number, where gold is one number."""
    if number(gold) is None:
        return None

    def joined(found: re.Match[str]) -> str:
        mark, decimals = found["mark"], found["decimals"] or ""
        whole = found[0].removesuffix(decimals)
        if not re.fullmatch(_GROUPS[mark], whole) or (decimals and mark == "."):
            return found[0]
        return whole.replace(mark, "") + decimals

    changed = _GROUPED.sub(joined, answer)
    return (gold, changed) if changed != answer else None


def _with_constant(gold: str, answer: str) -> tuple[str, str] | None:
    """The answer's constant of integration under gold's name."""
    wanted, given = _CONSTANT.fullmatch(gold), _CONSTANT.fullmatch(answer)
    if not wanted or not given or wanted["name"].upper() != "C" or given["name"].upper() not in ("C", "K"):
        return None
    if wanted["name"] == given["name"] or given["name"] in re.sub(r"\\[a-zA-Z]+", "", given["before"]):
        return None
    if wanted["name"] in re.sub(r"\\[a-zA-Z]+", "", wanted["before"]):
        return None
    return gold, f"{given['before']}+{wanted['name']}"


def _with_parameter(gold: str, answer: str) -> tuple[str, str] | None:
    """The answer's integer under gold's name, in solutions that repeat with a period."""
    gold, answer = _without_integers(gold), _without_integers(answer)
    names = [[name for name in _INTEGERS if _letter(name).search(text)] for text in (gold, answer)]
    if r"\pi" not in gold + answer or len(names[0]) != 1 or len(names[1]) != 1 or names[0] == names[1]:
        return None
    return gold, _letter(names[1][0]).sub(names[0][0], answer)


def _with_imaginary_unit(gold: str, answer: str) -> tuple[str, str] | None:
    """An answer with `j` for the imaginary unit, as engineers and Python write it."""
    if not _letter("i").search(gold) or _letter("i").search(answer) or _letter("j").search(gold):
        return None
    changed = _letter("j").sub(" i ", answer)
    return (gold, changed) if changed != answer else None


def _in_radians(gold: str, answer: str) -> tuple[str, str] | None:
    r"""Degrees in radians where the other side is a multiple of `\pi`."""
    for one, other in ((gold, answer), (answer, gold)):
        degrees = _DEGREES.fullmatch(one)
        if degrees and r"\pi" in other:
            radians = rf"{degrees['sign']}\frac{{{degrees['count']}\pi }}{{180}}"
            return (radians, answer) if one is gold else (gold, radians)
    return None


def _in_functions(text: str) -> str:
    r"""Degrees in radians in a text with functions of angles (`\sin(30^{\circ})`)."""
    if not _OF_ANGLES.search(text):
        return text
    return _DEGREES.sub(lambda found: rf"{found['sign']}\frac{{{found['count']}\pi }}{{180}}", text)


def _both_signs(text: str) -> str:
    r"""Each item with one `\pm` or `\mp` as two."""
    parts = parts_of(text)
    items = [text] if isinstance(parts, str) else list(parts.items)
    if isinstance(parts, Parts) and parts.ordered:
        return text
    signs = [
        _PLUS_MINUS.sub(sign, item) for item in items for sign in (("+", "-") if _PLUS_MINUS.search(item) else ("",))
    ]
    return ", ".join(signs)


def _as_interval(text: str) -> str:
    """An inequality as an interval."""
    found = interval_of(text)
    return text if found is None else f"{found.brackets[0]}{','.join(found.items)}{found.brackets[1]}"


def _as_matrix(text: str) -> str:
    """Rows in brackets as a matrix."""
    found = _ROWS.fullmatch(text)
    if found is None:
        return text
    rows = [row.replace(",", "&") for row in re.findall(r"\[([^\[\]]*)\]", found["rows"])]
    return r"\begin{pmatrix}" + r"\\".join(rows) + r"\end{pmatrix}"


def _without_integers(text: str) -> str:
    r"""The text without "where n is an integer"."""
    found = _OVER_INTEGERS.fullmatch(text)
    return found["values"].strip() if found and _letter(found["name"]).search(found["values"]) else text


def _without_label(text: str) -> str:
    """The value behind a label ("Total: 12"); a text with two labels or with words that change a meaning as it is."""
    found = _LABEL.fullmatch(text)
    if found is None or re.search(r"[A-Za-z]{2,}\s*:", found["value"]):
        return text
    words = {word.lower() for word in re.findall(r"[A-Za-z]+", found["label"])}
    return text if words & (NOT_UNITS | {"wrong", "incorrect", "false", "never"}) else found["value"].strip()


def _from_words(text: str) -> str:
    """A number that is written in words, in digits; any other text as it is."""
    plain = " ".join(re.sub(r"\\text\s*\{([^{}]*)\}", r" \1 ", text).split()).lower()
    mixed = _AND_PORTION.fullmatch(plain)
    if mixed:
        whole = int(mixed["whole"]) if mixed["whole"].isdigit() else _counted(mixed["whole"])
        part = (int(mixed["above"]), int(mixed["below"])) if mixed["above"] else _portion(mixed["words"])
        return text if whole is None or part is None else rf"{whole}\frac{{{part[0]}}}{{{part[1]}}}"
    found = _NUMERAL.fullmatch(plain)
    if found is None:
        return text
    sign = "-" if found["sign"] else ""
    if (count := _counted(found["words"])) is not None:
        return f"{sign}{count}"
    part = _portion(found["words"])
    return text if part is None else rf"{sign}\frac{{{part[0]}}}{{{part[1]}}}"


def _counted(words: str) -> int | None:
    """A number below a billion in words."""
    split = [word for word in re.split(r"[\s-]+", words) if word != "and"]
    if not split:
        return None
    if split[0] == "a" and len(split) > 1 and split[1] in ("hundred", *_POWERS):
        split[0] = "one"
    for name, power in _POWERS.items():
        if name in split:
            place = split.index(name)
            many = _counted(" ".join(split[:place]))
            rest = _counted(" ".join(split[place + 1 :])) if split[place + 1 :] else 0
            return None if not many or many >= 1000 or rest is None or rest >= power else power * many + rest
    if len(split) >= 2 and split[1] == "hundred" and 0 < _SMALL.get(split[0], 0) < 10:
        rest = _counted(" ".join(split[2:])) if len(split) > 2 else 0
        return None if rest is None or rest >= 100 else 100 * _SMALL[split[0]] + rest
    if len(split) == 1:
        return _SMALL.get(split[0], _TENS.get(split[0]))
    if len(split) == 2 and split[0] in _TENS and 0 < _SMALL.get(split[1], 0) < 10:
        return _TENS[split[0]] + _SMALL[split[1]]
    return None


def _portion(words: str) -> tuple[int, int] | None:
    """A fraction in words ("two thirds", "a half")."""
    split = re.split(r"[\s-]+", words.strip())
    if split[-1] not in _PORTIONS or len(split) > 2 or (len(split) == 1 and split[0] not in _ALONE):
        return None
    above = 1 if len(split) == 1 or split[0] in ("a", "an") else _SMALL.get(split[0])
    return None if above is None else (above, _PORTIONS[split[-1]])


def _letter(name: str) -> re.Pattern[str]:
    """A single letter that is a symbol of its own."""
    return re.compile(rf"(?<![a-zA-Z\\]){name}(?![a-zA-Z])|(?<=\\pi ){name}(?![a-zA-Z])")
