r"""Science: choices by letter or by the option's text, quantities by number and unit, anything else as mathematics.

- *Multiple choice*, where the question lists options `A) ... B) ...` (or `(A)`, `A.`, `A:`): gold and answer are each
  read as a letter (`B`, `(B)`, `B.`, `option B`, `B) 12 J`) or as the text of exactly one option, and must agree.
- *Quantity*, where gold is a number, perhaps with a unit. A whole number written as such must be met exactly; gold
  with a decimal point or an exponent is a rounded measurement and is met within 1%. A unit that gold names must be
  given, or another one for the same quantity (`1 km` answers `1000 m`); where gold names none, the answer's is
  ignored.
- Otherwise the answer must equal gold by `envs.domains.math`.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from envs.domains.extraction import final_answer
from envs.domains.math import Comparer
from envs.domains.spec import Pair
from envs.domains.units import factor
from svd_loop.contracts import Outcome, Problem

_TOLERANCE: Final = Fraction(1, 100)
_FINEST: Final = 10**9
"""Largest denominator of a converted value: takes off the float's last bits, so that whole numbers stay whole."""
_LONGEST: Final = 1000
"""Characters; a longer answer is no answer."""
_LONGEST_EXPONENT: Final = 3
"""Digits: 10^999 is beyond physics, and larger powers only cost time."""

_OPTION: Final = re.compile(
    r"(?:(?<=\s)|^)\(?(?P<letter>[A-J])[).:]\s*(?P<text>.+?)(?=\s+\(?[A-J][).:]\s|\s*\Z)", re.DOTALL
)
_LETTER: Final = re.compile(
    r"(?:option|choice|answer)?\s*\(?(?P<letter>[A-J])\)?(?:[.:]|[).:]\s*(?P<text>.+))?", re.DOTALL | re.IGNORECASE
)
_QUANTITY: Final = re.compile(  # a unit: words and raised numbers, beginning with a letter, joined by space, * or /
    r"(?P<digits>[+-]?(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)?(?:\.[0-9]*)?)"
    r"(?:(?:\s*[×*x]\s*10\s*\^\s*|[eE])(?P<exponent>[+-]?[0-9]+))?"
    r"\s*(?P<unit>%|\(?[^\W\d_°]*[°Ω]?[^\W\d_]+[()\w°Ω*/^ -]*|°)?"
)
_SET_TEXT: Final = re.compile(r"\\(?:text|mathrm|rm|textbf|mathbf|operatorname)\s*\{([^{}]*)\}")
_SPACING: Final = re.compile(r"\\[,;:! ]|[~$]|\\left|\\right")
_SYMBOLS: Final = {
    "\\times": "×",
    "\\cdot": "*",
    "·": "*",
    "⋅": "*",
    "−": "-",
    "{,}": ",",
    "\\%": "%",
    "\\Omega": "Ω",
    "\\mu": "μ",
    "\\circ": "°",
    "\\degree": "°",
    "**": "^",
}
_SUPERSCRIPTS: Final = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺", "0123456789-+")
_RAISED: Final = re.compile(r"[⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺]+")

extract = final_answer


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number as written; `exact` if it is a whole number without point or exponent; `unit` empty for none."""

    value: Fraction
    exact: bool
    unit: str


def score_all(pairs: Sequence[Pair], *, seconds: float) -> list[Outcome]:
    """Whether each solution's final answer is its problem's; `seconds` is not used (see `DomainSpec`)."""
    with Comparer() as comparer:
        return [
            Outcome.WRONG if (answer := extract(solution)) is None else _found(answer, problem, comparer)
            for solution, problem in pairs
        ]


def options_of(question: str) -> dict[str, str]:
    """Options by letter, if the question lists at least two, from A on and in order; else none."""
    found = [(match["letter"], match["text"].strip()) for match in _OPTION.finditer(question)]
    letters = [letter for letter, _ in found]
    in_order = letters == [chr(ord("A") + place) for place in range(len(letters))]
    return dict(found) if len(found) > 1 and in_order else {}


def choice(answer: str, options: Mapping[str, str]) -> str | None:
    """The letter an answer means: itself, or that of the one option whose text it is; None if it means none."""
    text = normal(answer)
    letter = _LETTER.fullmatch(text)
    if letter and letter["letter"].upper() in options:
        named = letter["letter"].upper()
        beside = letter["text"]
        return named if beside is None or _same_text(beside, options[named]) else None
    matching = [letter for letter, option in options.items() if _same_text(text, option)]
    return matching[0] if len(matching) == 1 else None


def quantity(text: str) -> Quantity | None:
    """Read a number with or without a unit; None if `text` does not start with one."""
    match = _QUANTITY.fullmatch(normal(text))
    if match is None or not any(character.isdigit() for character in match["digits"]):
        return None
    exponent = match["exponent"] or "0"
    if len(exponent.lstrip("+-")) > _LONGEST_EXPONENT:
        return None
    value = Fraction(match["digits"].replace(",", "")) * Fraction(10) ** int(exponent)
    exact = "." not in match["digits"] and match["exponent"] is None
    return Quantity(value, exact, _normal_unit(match["unit"] or ""))


def normal(text: str) -> str:
    """Text without LaTeX's setting: spacing, text commands, symbols with a plain spelling, raised digits as `^n`."""
    text = _RAISED.sub(lambda raised: "^" + raised[0].translate(_SUPERSCRIPTS), text)
    text = unicodedata.normalize("NFKC", text)
    text = re.sub(r"\^\s*\{([^{}]*)\}", r"^\1", text)
    text = _SET_TEXT.sub(r" \1", _SPACING.sub(" ", text))
    for written, symbol in _SYMBOLS.items():
        text = text.replace(written, symbol)
    text = re.sub(r"\^?°\s*", "°", text)
    return " ".join(text.split()).removesuffix(".").strip("{} ")


def _found(answer: str, problem: Problem, comparer: Comparer) -> Outcome:
    if len(answer) > _LONGEST:
        return Outcome.WRONG
    if options := options_of(problem.text):
        wanted = choice(problem.answer, options)
        if wanted is not None:
            return Outcome.of(choice(answer, options) == wanted)
    gold, given = quantity(problem.answer), quantity(answer)
    if gold is not None and given is not None:
        return Outcome.of(_same_quantity(gold, given))
    if _same_text(answer, problem.answer):
        return Outcome.RIGHT
    if gold and gold.unit:
        return Outcome.WRONG
    return comparer.equal(problem.answer, answer)


def _same_quantity(gold: Quantity, given: Quantity) -> bool:
    value = given.value
    if gold.unit and gold.unit != given.unit:
        per_unit = factor(given.unit, gold.unit)
        if per_unit is None or not math.isfinite(per_unit):
            return False
        value = (given.value * Fraction(per_unit)).limit_denominator(_FINEST)
    if gold.exact:
        return gold.value == value
    return abs(gold.value - value) <= _TOLERANCE * abs(gold.value)


def _same_text(one: str, other: str) -> bool:
    first, second = quantity(one), quantity(other)
    if first is not None and second is not None:
        return first.value == second.value and first.unit == second.unit
    return normal(one).casefold() == normal(other).casefold()


def _normal_unit(unit: str) -> str:
    return re.sub(r"\s*([/*^])\s*", r"\1", unit.strip("{}() ")).replace(" ", "*")
