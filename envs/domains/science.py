r"""Science: options by label or text, quantities by number and unit, anything else as mathematics.

- *Multiple choice*, where the question lists options: gold and answer each mean one option (`envs.domains.choices`),
  and must agree.
- *Quantity*, where gold is a number, perhaps with a unit. A whole number written as such must be met exactly; gold
  with a decimal point or an exponent is a rounded measurement and is met within 1%. A unit that gold names must be
  given, or another unit of the same quantity (`1 km` answers `1000 m`, and `0.5` answers `50\%`); where gold names
  none, the answer's is ignored, but for a percentage, which is its hundredth.
- *Words and formulas* after normalisation. Case matters in formulas (`Co` is not `CO`) and not in words.
- Otherwise the answer must equal gold by `envs.domains.math`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

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
from envs.domains.units import counts_things, same_thing, unit
from svd_loop.config.domains import ScienceSection
from svd_loop.contracts import Outcome, Problem

_TOLERANCE: Final = Fraction(1, 100)
_FINEST: Final = 10**12
"""Largest denominator of a converted value: takes off the float's last bits, so that whole numbers stay whole."""
_LONGEST: Final = 1000
"""Characters; a longer answer is no answer."""
_TEXT: Final = re.compile(r"\\(?:text|ce)\s*\{((?:[^{}]|\{[^{}]*\})*)\}")
_ABOUT: Final = re.compile(
    r"(?:\\(?:approx|sim|simeq)(?![a-zA-Z])|about|approximately|approx\.?|roughly|around|ca\.?|~)\s*"
)
_CURRENCY: Final = re.compile(r"([+-]?)\s*[$€£¥₹]\s*(?=[\d.])")
_DIRECTION: Final = re.compile(
    r",?\s+(?:(?:to|toward|towards)\s+the\s+)?(?:(?:up|down|left|right|north|south|east|west)(?:wards?|ern)?)\s*$"
)
_CONVERTED: Final = Fraction(1, 10**6)
"""Relative error that a conversion may have: factors such as 760 mmHg in 1 atm are rounded by definition."""
_FORMULA_WORD: Final = 3
"""Letters; shorter words are symbols, whose case matters."""

extract = final_answer


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number as written; `exact` if it is without decimal point or power of ten; `unit` empty for none."""

    value: Fraction
    exact: bool
    unit: str


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
        name = " ".join(_TEXT.sub(r" \1", behind).split())
    return Quantity(found[0].value, not found[0].measured, name)


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
            in_percent = asks_for_percent(problem.text)
            return Outcome.of(_same_quantity(wanted_quantity, given_quantity, library, in_percent=in_percent))
        except UndecidedError:
            return Outcome.UNDECIDED
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


def _same_quantity(gold: Quantity, given: Quantity, library: Library, *, in_percent: bool) -> bool:
    value = given.value
    if gold.unit == "%" and not given.unit:
        return _met(gold, value) or _met(gold, value * 100)
    if not gold.unit and given.unit == "%":
        return _met(gold, value / 100) or (in_percent and abs(gold.value) > 1 and _met(gold, value))
    if gold.unit and gold.unit != given.unit:
        per_unit = 1.0 if _same_word(gold.unit, given.unit) else library.factor(given.unit, gold.unit)
        if per_unit is None or not math.isfinite(per_unit):
            return False
        if per_unit != 1.0:
            value = (value * Fraction(per_unit)).limit_denominator(_FINEST)
            value = gold.value if abs(gold.value - value) <= _CONVERTED * abs(gold.value) else value
    return _met(gold, value)


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
    return _TEXT.sub(r"\1", text).strip()


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
