r"""Parse numbers as people write them, exactly, and compare them with their rounding in mind.

Parsed are whole numbers and decimals, with digits grouped or not, powers of ten (`2.5e6`, `2.5 \times 10^{6}`,
`10^{-7}`), fractions (`\frac{3}{4}`, `3/4`) and mixed numbers (`7\frac{3}{4}`, `7 3/4`). Everything else is an
expression.

A decimal of at least six digits may be the rounding of the other number: it equals a number that rounds to it. Shorter
ones are exact, so that 0.33 is not a third. The last digits of a number as computers print it (15 digits and more) are
rounding errors and are ignored.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

_DIGITS: Final = r"(?:[1-9][0-9]{0,2}(?:,[0-9]{3})+|[0-9]+)(?:\.[0-9]*)?|\.[0-9]+"
_POWER: Final = r"10\s*\^\s*(?:\{\s*(?P<{0}>[+-]?[0-9]+)\s*\}|(?P<{0}b>[+-]?[0-9]+))"
_NUMBER: Final = re.compile(
    r"(?P<sign>[+-]?)\s*(?:"
    rf"\\frac\s*\{{\s*(?P<above>-?[0-9]+(?:\.[0-9]+)?)\s*\}}\s*\{{\s*(?P<below>[0-9]+(?:\.[0-9]+)?)\s*\}}"
    r"|(?P<whole>[0-9]+)\s*\\frac\s*\{\s*(?P<part>[0-9]+)\s*\}\s*\{\s*(?P<of>[0-9]+)\s*\}"
    r"|(?P<plain_whole>[0-9]+)\s+(?P<plain_part>[0-9]+)\s*/\s*(?P<plain_of>[0-9]+)(?![0-9.])"
    rf"|(?P<over>{_DIGITS})\s*/\s*(?P<under>[0-9]+(?:\.[0-9]+)?)(?![0-9.])"
    + "|"
    + _POWER.replace("{0}", "power")
    + rf"|(?P<digits>{_DIGITS})(?:[eE](?P<exponent>[+-]?[0-9]+)(?![0-9a-zA-Z.])|\s*(?:\\times|\\cdot|\*|x|X)\s*"
    + _POWER.replace("{0}", "scale")
    + r")?)"
)
_LONGEST: Final = 400
"""Digits of an exponent's value: larger numbers are treated as expressions, because they only cost time."""
_ROUNDED: Final = 6
_PRINTED: Final = 15
_WORDS: Final = {"hundred": 2, "thousand": 3, "million": 6, "billion": 9, "trillion": 12}
_SCALE: Final = re.compile(rf"\s*(?:\\text\s*\{{\s*)?(?P<word>{'|'.join(_WORDS)})\b\s*\}}?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Number:
    """A number and how it was written.

    Attributes:
        value: exactly as written.
        places: decimal places a rounding may have left; None for numbers that are not decimals.
        digits: significant digits of a decimal; 0 for others.
        measured: written with a decimal point or a power of ten.
    """

    value: Fraction
    places: int | None = None
    digits: int = 0
    measured: bool = False


def leading_number(text: str) -> tuple[Number, str] | None:
    """The number at the start of a normalised text and the rest of the text; None if there is none."""
    match = _NUMBER.match(text)
    if match is None or len(match[0]) > _LONGEST:
        return None
    found = _read(match)
    rest = text[match.end() :]
    if found is None or (rest[:1] == "." and rest[1:2].isdigit()):
        return None
    scale = _SCALE.match(rest)
    if scale:
        power = Fraction(10) ** _WORDS[scale["word"].lower()]
        found = Number(found.value * power, None, 0, found.measured)
        rest = rest[scale.end() :]
    return found, rest


def number(text: str) -> Number | None:
    """Parse a normalised text that is a number and nothing more; None for all other texts."""
    while text.startswith("(") and text.endswith(")") and "(" not in text[1:-1]:
        text = text[1:-1].strip()
    found = leading_number(text)
    return found[0] if found and not found[1].strip() else None


def same_number(one: Number, other: Number) -> bool:
    """Whether two numbers are equal, or one is the rounding of the other."""
    if one.value == other.value:
        return True
    return _rounds_to(one, other.value) or _rounds_to(other, one.value)


def _rounds_to(rounded: Number, exact: Fraction) -> bool:
    if rounded.places is None or rounded.digits < _ROUNDED or rounded.places < _ROUNDED:
        return False
    difference = abs(rounded.value - exact)
    if rounded.digits >= _PRINTED and difference <= abs(exact) / 10 ** (_PRINTED - 1):
        return True
    return difference <= Fraction(1, 2 * 10**rounded.places)


def _read(match: re.Match[str]) -> Number | None:
    sign = -1 if match["sign"] == "-" else 1
    try:
        for whole, part, of in (("whole", "part", "of"), ("plain_whole", "plain_part", "plain_of")):
            if match[whole] is not None:
                return Number(sign * (int(match[whole]) + Fraction(int(match[part]), int(match[of]))))
        if match["above"] is not None:
            return Number(sign * Fraction(match["above"]) / Fraction(match["below"]))
        if match["over"] is not None:
            return Number(sign * Fraction(match["over"].replace(",", "")) / Fraction(match["under"]))
    except ZeroDivisionError:
        return None
    alone = match["power"] or match["powerb"]
    exponent = alone or match["exponent"] or match["scale"] or match["scaleb"] or "0"
    if len(exponent) > 5 or abs(int(exponent)) > _LONGEST:
        return None
    if alone:
        return Number(sign * Fraction(10) ** int(alone), measured=True)
    digits = match["digits"].replace(",", "")
    power = int(exponent)
    fraction = digits.partition(".")[2]
    measured = "." in digits or exponent != "0"
    significant = len(digits.replace(".", "").lstrip("0")) if measured else 0
    return Number(
        sign * Fraction(digits.rstrip(".") or "0") * Fraction(10) ** power,
        len(fraction) - power if measured else None,
        significant,
        measured,
    )
