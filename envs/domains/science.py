r"""Science: options by label or text, quantities by number and unit, anything else as mathematics.

- *Multiple choice*, where the question lists options: gold and answer each mean one option (`envs.domains.choices`),
  and must agree.
- *Quantity*, where gold is a number, perhaps with a unit. A whole number written as such must be met exactly; gold
  with a decimal point or an exponent is a rounded measurement and is met within 1%. A unit that gold names must be
  given, or another unit of the same quantity (`1 km` answers `1000 m`, `4.54 kg` is `10 lb` rounded, `0.5` answers
  `50\%`); where gold names none, the answer's is ignored, but for a percentage, which is its hundredth. Temperatures
  convert with their zeros, unless the question asks for a difference.
- *Words and formulas* after normalisation. Case matters in formulas (`Co` is not `CO`) and not in words; what
  chemistry writes is compared by `envs.domains.chemistry`.
- Otherwise the answer must equal gold by `envs.domains.math`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from envs.domains.chemistry import TEXT, same_species
from envs.domains.choices import choice, options_of
from envs.domains.extraction import final_answer
from envs.domains.library import Library, UndecidedError
from envs.domains.math import asks_for_percent, compare
from envs.domains.notations import with_decimal_points
from envs.domains.numbers import leading_number
from envs.domains.parts import named
from envs.domains.prose import words_of
from envs.domains.spec import DomainSpec, Pair
from envs.domains.spelling import spelled
from envs.domains.units import TEMPERATURES, counts_things, same_thing, temperature, unit
from svd_loop.config.domains import ScienceSection
from svd_loop.contracts import Outcome, Problem

_TOLERANCE: Final = Fraction(1, 100)
_LONGEST: Final = 1000
"""Characters; a longer answer is no answer."""
_ABOUT: Final = re.compile(
    r"(?:\\(?:approx|sim|simeq)(?![a-zA-Z])|about|approximately|approx\.?|roughly|around|ca\.?|~)\s*"
)
_CURRENCY: Final = re.compile(r"([+-]?)\s*[$€£¥₹]\s*(?=[\d.])")
_DIRECTION: Final = re.compile(
    r",?\s+(?:(?:to|toward|towards)\s+the\s+)?(?:(?:up|down|left|right|north|south|east|west)(?:wards?|ern)?)\s*$"
)
_CONVERTED: Final = Fraction(1, 10**6)
"""Relative error that a conversion may have: factors such as 760 mmHg in 1 atm are rounded by definition."""
_ROUNDED: Final = 3
"""Significant digits from which a converted number may be a rounding (4.54 kg for 10 lb)."""
_DIFFERENCE: Final = re.compile(
    r"change|differ|(?:de|in)crease|rise|raised|drop|warmer|hotter|cooler|colder|how (?:much|many)|per |\?[Dd]elta|Δ",
)
_FORMULA_WORD: Final = 3
"""Letters; shorter words are symbols, whose case matters."""

extract = final_answer


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number as written.

    Attributes:
        exact: without decimal point or power of ten.
        unit: empty for none.
        places: decimal places written; negative where a power of ten leaves fewer than the units.
        digits: significant digits; 0 for an exact number.
    """

    value: Fraction
    exact: bool
    unit: str
    places: int = 0
    digits: int = 0


def make_domain(section: ScienceSection) -> DomainSpec:
    """Build the domain; it has no settings."""
    return DomainSpec(extract, score_all)


def score_all(pairs: Sequence[Pair], *, seconds: float) -> list[Outcome]:
    """Whether each solution's final answer equals its problem's; `seconds` is not used (see `DomainSpec`)."""
    with Library() as library:
        return [_found(extract(solution), problem, library) for solution, problem in pairs]


def quantity(text: str) -> Quantity | None:
    """Parse a normalised text as a number with or without a unit; None if it is neither."""
    text = _ABOUT.sub("", named(text)[1], count=1) if _ABOUT.match(named(text)[1]) else named(text)[1]
    text = _CURRENCY.sub(r"\1", text)
    found = leading_number(text)
    if found is None:
        return None
    behind = re.sub(r"^\s*(?:\\cdot|\*)\s*(?=\\text)", " ", found[1])
    behind = re.sub(r"\s\([^()\d]*\)$", "", behind).strip()
    name = unit(behind)
    if name is None:
        if not counts_things(behind):
            return None
        name = " ".join(TEXT.sub(r" \1", behind).split())
    read = found[0]
    return Quantity(read.value, not read.measured, name, read.places or 0, read.digits)


def same_text(one: str, other: str) -> bool:
    """Whether two normalised texts are the same words, formula or quantity as written."""
    first, second = quantity(one), quantity(other)
    if first is not None and second is not None:
        return first.value == second.value and first.unit == second.unit
    plain = _plain(one), _plain(other)
    return plain[0] == plain[1] or (_is_prose(plain[0]) and _is_prose(plain[1]) and _folded(*plain))


def _found(answer: str | None, problem: Problem, library: Library) -> Outcome:
    if answer is None or len(answer) > _LONGEST:
        return Outcome.WRONG
    given, gold = spelled(answer), spelled(problem.answer)
    if options := options_of(problem.text):
        options = {label: spelled(text) for label, text in options.items()}
        wanted = choice(_unset(gold), options, same_text)
        if wanted is not None:
            return Outcome.of(choice(_unset(given), options, same_text) == wanted)
    wanted_quantity, given_quantity = _quantities(gold, given)
    if wanted_quantity is not None and given_quantity is not None:
        try:
            return Outcome.of(_same_quantity(wanted_quantity, given_quantity, library, problem.text))
        except UndecidedError:
            return Outcome.UNDECIDED
    if (same := same_species(gold, given)) is not None:
        return Outcome.of(same)
    if same_text(given, gold):
        return Outcome.RIGHT
    if (wanted_quantity is not None and wanted_quantity.unit) or words_of(gold) or words_of(given):
        return Outcome.WRONG
    return compare(problem.answer, answer, library, in_percent=asks_for_percent(problem.text))


def _quantities(gold: str, given: str) -> tuple[Quantity | None, Quantity | None]:
    """Both as quantities; a direction that only the answer names is ignored.

    A comma in the answer is a decimal point where gold is no whole number.
    """
    wanted, found = quantity(gold), quantity(given if _DIRECTION.search(gold) else _DIRECTION.sub("", given))
    if found is None and wanted is not None and (not wanted.exact or wanted.value.denominator > 1):
        found = quantity(with_decimal_points(given))
    return wanted, found


def _same_quantity(gold: Quantity, given: Quantity, library: Library, question: str) -> bool:
    value = given.value
    if gold.unit == "%" and not given.unit:
        return _met(gold, value) or _met(gold, value * 100)
    if not gold.unit and given.unit == "%":
        return _met(gold, value / 100) or (asks_for_percent(question) and abs(gold.value) > 1 and _met(gold, value))
    if not gold.unit or gold.unit == given.unit or _same_word(gold.unit, given.unit):
        return _met(gold, value)
    if {gold.unit, given.unit} <= TEMPERATURES.keys():
        factor, offset = temperature(given.unit, gold.unit)
        return _met_converted(gold, given, factor, Fraction(0) if _DIFFERENCE.search(question) else offset)
    per_unit = library.factor(given.unit, gold.unit)
    if per_unit is None or not math.isfinite(per_unit) or per_unit <= 0:
        return False
    return _met_converted(gold, given, Fraction(per_unit))


def _met_converted(gold: Quantity, given: Quantity, factor: Fraction, offset: Fraction = Fraction(0)) -> bool:
    """Whether `given * factor + offset` meets gold, or gold, converted to the unit of `given`, rounds to it."""
    value = given.value * factor + offset
    if abs(gold.value - value) <= _CONVERTED * abs(gold.value) or _met(gold, value):
        return True
    if not offset and (given.digits < _ROUNDED or round(math.log10(factor), 9).is_integer()):
        return False  # a number of metres needs no rounding to be one of kilometres
    return abs((gold.value - offset) / factor - given.value) <= Fraction(10) ** -given.places / 2


def _met(gold: Quantity, value: Fraction) -> bool:
    if gold.exact:
        return gold.value == value
    return abs(gold.value - value) <= _TOLERANCE * abs(gold.value)


def _same_word(one: str, other: str) -> bool:
    """Whether two units are the singular and plural of one word; the case of symbols (mW, MW) matters."""
    return min(len(one), len(other)) > _FORMULA_WORD and same_thing(one, other)


def _plain(text: str) -> str:
    """Text without LaTeX: formulas and ions written in one line."""
    text = _unset(text)
    text = re.sub(r"_\s*\{?\s*(\d+)\s*\}?", r"\1", text)
    text = re.sub(r"\^\s*\{?\s*(\d*)([+-])\s*\}?", r"\1\2", text)
    return " ".join(text.replace("{", "").replace("}", "").split()).strip(" .\"'")


def _unset(text: str) -> str:
    """Text without the commands that only format it as text."""
    return TEXT.sub(r"\1", text).strip()


def _is_prose(text: str) -> bool:
    """Whether a text is words and not a formula: each word long enough and without capitals in the middle."""
    words = re.findall(r"[^\W\d_]+", text)
    return bool(words) and all(
        len(word) >= _FORMULA_WORD and (word.isupper() or word.islower() or word.istitle())
        for word in words
        if word not in ("a", "of", "to", "in")
    )


def _folded(one: str, other: str) -> bool:
    stripped = [re.sub(r"^(?:the|an?)\s+", "", text.casefold()) for text in (one, other)]
    return stripped[0] == stripped[1]
