r"""Mathematics: an answer is correct if it equals the gold answer mathematically.

Both are normalised (`envs.domains.spelling`) and split into parts (`envs.domains.parts`). Numbers, with or
without a unit, are compared here, exactly; other expressions by `math-verify` in a child process
(`envs.domains.library`).

Rules of the comparison:
- A unit behind a number is optional: where gold or the answer has none, the values decide. Where both have one,
  they must agree or convert. A percentage is its hundredth; 50 answers `50\%`, and `50\%` answers 50 if the question
  asks for a percentage (above 1, so that `0.5\%` is not 0.5).
- Words that change the meaning are part of the answer: `5 or more` is not 5. Of a sentence that holds one number, the
  number answers.
- A comma is a decimal point where a list makes no sense (`envs.domains.notations`).
- Inequalities and intervals, a column and a tuple, and words and symbols for a set are the same.
- `x = 5` answers 5, and 5 answers `x = 5`; under different names values differ.
- A bare list is unordered, a tuple is ordered; a tuple, a set and an interval differ. The number of parts must agree;
  a tuple that a list names twice counts once.
- Case matters for single letters and in products, not for words.
- A number with its base (`12_5`) equals only the same digits in the same base.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction
from typing import Final

from envs.domains.extraction import final_answer
from envs.domains.library import Library, UndecidedError
from envs.domains.marks import same_ratio_or_date
from envs.domains.notations import (
    assigned_tuples,
    column,
    interval_of,
    is_decimal_comma_for_certain,
    member_of,
    set_name,
    with_comma_lists,
    with_decimal_points,
    with_round_brackets,
)
from envs.domains.numbers import Number, leading_number, number, same_number
from envs.domains.parts import Parts, compares, is_equation, named, parts_of, relates
from envs.domains.prose import said_number, sentence_words, words_of
from envs.domains.readings import readings, same_residue, same_time_of_day
from envs.domains.spec import DomainSpec, Pair
from envs.domains.spelling import spelled
from envs.domains.units import counts_things, is_set_as_text, is_symbol, same_thing, unit
from svd_loop.config.domains import MathSection
from svd_loop.contracts import Outcome

_LONGEST: Final = 1000
"""Characters; a longer answer is no answer."""
_MOST_PARTS: Final = 64
_FINEST: Final = 10**12
"""Largest denominator of a converted value: takes off the float's last bits, so that whole numbers stay whole."""
_BASED: Final = re.compile(r"((?=[0-9A-Za-z]*[0-9])[0-9A-Za-z]+)_\s*\{?\s*([0-9]{1,2})\s*\}?")
_PREFIXES: Final = {"0b": "2", "0o": "8", "0x": "16"}
_COORDINATES: Final = ("xyz", "abcdef")
"""Names with a usual order; others stand in the order in which they are written."""
_GOES_ON: Final = re.compile(r"\.\.\.|\\[lc]?dots(?![a-zA-Z])")
_TEXT: Final = re.compile(r"\\text\s*\{((?:[^{}]|\{[^{}]*\})*)\}")
_CURRENCY: Final = re.compile(r"([+-]?)\s*(US\$|[$€£¥₹]|(?:USD|EUR|GBP)(?=\s))\s*(?=[\d.])")
_BEHIND: Final = re.compile(
    r"(?P<value>.*[\w)}\]])"
    r"(?P<unit>(?:\s*\\text\s*\{[^{}]*\}(?:\s*\^\s*\{?-?\d\}?)?|\^\{\\circ\}|\s*%|\s+[a-zA-Z]{2,}(?:\s+[a-zA-Z]+){0,3})+)"
)

extract = final_answer


def make_domain(section: MathSection) -> DomainSpec:
    """Build the domain; it has no settings."""
    return DomainSpec(extract, score_all)


def score_all(pairs: Sequence[Pair], *, seconds: float) -> list[Outcome]:
    """Whether each solution's final answer equals its problem's; `seconds` is not used (see `DomainSpec`)."""
    with Library() as library:
        return [
            compare(problem.answer, extract(solution), library, in_percent=asks_for_percent(problem.text))
            for solution, problem in pairs
        ]


def compare(gold: str, answer: str | None, library: Library, *, in_percent: bool = False) -> Outcome:
    """Whether `answer` equals `gold` mathematically; no answer is wrong. Not symmetric: see the module's rules.

    Args:
        gold: the right answer.
        answer: a solution's final answer.
        library: compares expressions.
        in_percent: the question asks for a percentage, so that a bare gold number may be one.
    """
    if answer is None or len(answer) > _LONGEST:
        return Outcome.WRONG
    wanted, given = spelled(gold), spelled(answer)
    if in_percent and _is_above_one(wanted):
        value, behind = split_unit(given)
        given = value if unit(behind) == "%" else given
    try:
        return Outcome.of(same(wanted, given, library) or _same_as_read_elsewhere(wanted, given, library))
    except UndecidedError:
        return Outcome.UNDECIDED


def asks_for_percent(question: str) -> bool:
    """Whether a question mentions a percentage."""
    return re.search(r"%|percent|\bper cent\b|\bpct\b", question, re.IGNORECASE) is not None


def _is_above_one(gold: str) -> bool:
    found = number(gold)
    return found is not None and abs(found.value) > 1


def _same_as_read_elsewhere(gold: str, answer: str, library: Library) -> bool:
    """Whether two normalised texts are equal if commas are decimal points, or assignments are tuples."""
    listed, pointed = with_comma_lists(answer), with_decimal_points(answer)
    value = number(split_unit(named(gold)[1])[0])
    if value is not None and (value.measured or value.value.denominator > 1) and pointed != answer:
        return same(gold, pointed, library)
    if listed != answer and same(gold, listed, library):
        return True
    if is_decimal_comma_for_certain(gold):
        return same(with_decimal_points(gold), pointed, library)
    tuples = assigned_tuples(gold) or gold, assigned_tuples(answer) or answer
    if tuples != (gold, answer) and same(*tuples, library):
        return True
    return same_time_of_day(gold, answer) or any(same(*pair, library) for pair in readings(gold, answer))


def same(gold: str, answer: str, library: Library) -> bool:
    """Whether two normalised texts are equal.

    Raises:
        UndecidedError: the libraries gave no result.
    """
    if not gold or not answer:
        return False
    gold, answer = with_round_brackets(set_name(gold)), with_round_brackets(set_name(answer))
    if gold == answer:
        return True
    if (residues := same_residue(gold, answer)) is not None:
        return residues
    if (written := same_ratio_or_date(gold, answer)) is not None:
        return written
    (gold_name, gold_value), (answer_name, answer_value) = _named(gold), _named(answer)
    if gold_name and answer_name and gold_name != answer_name:
        return library.equal(gold, answer)
    if bool(gold_name) != bool(answer_name) and is_equation(answer_value if gold_name else gold_value):
        return library.equal(gold, answer)
    if (gold_name or answer_name) and (gold, answer) != (gold_value, answer_value):
        return same(gold_value, answer_value, library)
    gold_set, answer_set = member_of(gold_value), member_of(answer_value)
    if gold_set or answer_set:
        return same(gold_set or gold_value, answer_set or answer_value, library)
    return _same_structure(gold_value, answer_value, library)


def _same_structure(gold_value: str, answer_value: str, library: Library) -> bool:
    """Compare two texts without names by their parts."""
    joined = {_joined_by(gold_value), _joined_by(answer_value)}
    if joined == {"and", "or"} and (compares(gold_value) or not re.search(r"[\d\\=]", gold_value)):
        return False  # both bounds or one of them, both names or one of them; of values, either word makes a list
    one, other = _parts(gold_value, answer_value), _parts(answer_value, gold_value)
    if isinstance(one, str) and isinstance(other, str):
        return _same_value(one, other, library)
    if isinstance(one, Parts) and isinstance(other, Parts):
        one, other = _in_order_of_names(one, other), _in_order_of_names(other, one)
        return _same_parts(one, other, library) if _alike(one, other) else _related(gold_value, answer_value, library)
    for parts, single in ((one, other), (other, one)):
        if single == r"\emptyset":
            return False
        if isinstance(parts, Parts) and isinstance(single, str) and len(parts.items) == 1 and not parts.ordered:
            return same(parts.items[0], single, library) if parts is one else same(single, parts.items[0], library)
    return _related(gold_value, answer_value, library)


def _in_order_of_names(parts: Parts, other: Parts) -> Parts:
    """Named coordinates (`y=2, x=1`) as a tuple in the order of their names where the other text is a tuple."""
    names = [named(item)[0] for item in parts.items]
    if parts.brackets or other.brackets != "()" or len(set(names)) < max(len(names), 2) or not all(names):
        return parts
    if not any(set(names) <= set(letters) for letters in _COORDINATES):
        return Parts(other.brackets, parts.items)
    return Parts(other.brackets, tuple(item for _, item in sorted(zip(names, parts.items, strict=True))))


def _joined_by(text: str) -> str:
    """The word that joins the conditions of a text."""
    words = set(re.findall(r"(?<![a-zA-Z])(?:and|or)(?![a-zA-Z])", text))
    return words.pop() if len(words) == 1 else ""


def _parts(text: str, other: str) -> Parts | str:
    """The parts of a text; those of an interval or a tuple where it stands for one and the other text is one."""
    found = parts_of(text)
    if isinstance(found, str) and isinstance(parts_of(other), Parts):
        return interval_of(found) or column(found) or found
    return found


def _named(text: str) -> tuple[str, str]:
    """Name and value of a text; a list has no name as a whole, its parts may have."""
    parts = parts_of(text)
    return ("", text) if isinstance(parts, Parts) and not parts.brackets else named(text)


def _alike(gold: Parts, answer: Parts) -> bool:
    """Whether the kinds of brackets fit: a bare list matches a set or a tuple, and a set matches a list."""
    if gold.brackets == answer.brackets:
        return True
    plain = (r"\{\}", "")
    return (gold.brackets in plain and answer.brackets in plain) or (gold.brackets == "()" and answer.brackets == "")


def _related(gold: str, answer: str, library: Library) -> bool:
    r"""Compare two texts of different structure: equal only if one of them is a relation (`1 < x < 2`, `\pm 3`)."""
    signs = [r"\pm" in text or r"\mp" in text for text in (gold, answer)]
    if any(signs) and any(isinstance(part, Parts) and part.ordered for part in map(parts_of, (gold, answer))):
        return False  # an ordered pair is not two values
    return (relates(gold) or relates(answer)) and library.equal(gold, answer)


def _same_parts(gold: Parts, answer: Parts, library: Library) -> bool:
    gold, answer = _distinct(gold), _distinct(answer)
    if len(gold.items) != len(answer.items) or len(gold.items) > _MOST_PARTS:
        return False
    names = {named(item)[0] for item in gold.items} - {""}
    if gold.ordered or (len(names) > 1 and not any(named(item)[0] for item in answer.items)):
        return all(same(one, other, library) for one, other in zip(gold.items, answer.items, strict=True))
    left = list(answer.items)
    for item in sorted(gold.items, key=lambda item: item not in left):  # equal texts first, which is cheap
        found = item if item in left else next((other for other in left if same(item, other, library)), None)
        if found is None:
            return False
        left.remove(found)
    return True


def _distinct(parts: Parts) -> Parts:
    """Parts without the tuples of an unordered list that were there before."""
    if parts.ordered or not all(item.startswith("(") for item in parts.items):
        return parts
    return Parts(parts.brackets, tuple({_without_spaces(item): item for item in parts.items}.values()))


def _same_value(gold: str, answer: str, library: Library) -> bool:
    """Whether two texts with one value each are equal."""
    if _without_spaces(gold) == _without_spaces(answer):
        return True
    bases = _based(gold), _based(answer)
    if any(bases) and (_BASED.fullmatch(gold) or _BASED.fullmatch(answer)):
        return bases[0] == bases[1]
    if bool(_GOES_ON.search(gold)) != bool(_GOES_ON.search(answer)):
        return False
    words = words_of(gold), words_of(answer)
    if words[0] or words[1]:
        return _same_product(gold, answer, library) if not all(words) else _same_words(*words)
    (gold_value, gold_unit), (answer_value, answer_unit) = split_unit(gold), split_unit(answer)
    numbers = number(gold_value), number(answer_value)
    if numbers[0] is not None and numbers[1] is not None:
        return same_quantity(numbers[0], gold_unit, numbers[1], answer_unit, library)
    if gold_unit and answer_unit and not _same_unit(gold_unit, answer_unit):
        return False
    beside = gold_value if unit(gold_unit) else gold, answer_value if unit(answer_unit) else answer
    if sentence_words(beside[0]) != sentence_words(beside[1]):
        said = said_number(answer) if numbers[0] is not None else None
        return said is not None and _same_value(gold, said, library)
    if _states(gold) != _states(answer) and (numbers[0] is not None or numbers[1] is not None):
        return False
    if _leftover(gold_value) != _leftover(answer_value):
        return False
    if (gold_value, answer_value) != (gold, answer) and _without_spaces(gold_value) == _without_spaces(answer_value):
        return True
    if _without_spaces(gold_value).casefold() == _without_spaces(answer_value).casefold():
        return False  # symbols that differ in case, which the library treats as equal
    return library.equal(gold_value, answer_value)


def _states(text: str) -> bool:
    """Whether a text holds an inequality, or an equation within brackets (`P(X=3)`), so that it is no number."""
    return compares(text) or ("=" in text and not is_equation(text))


def _based(text: str) -> tuple[str, str] | None:
    """Digits and base of a number that names its base (`1A_{16}`, `0x1A`); None for other texts."""
    if found := _BASED.fullmatch(text):
        return found[1].upper().lstrip("0"), found[2]
    base = _PREFIXES.get(text[:2].lower())
    return (text[2:].upper().lstrip("0"), base) if base and text[2:].isalnum() else None


def _same_product(gold: str, answer: str, library: Library) -> bool:
    r"""Whether a few letters without signs (`ab`) are the product that the other text writes out (`a \cdot b`)."""
    letters = [sorted(re.sub(r"\\[a-zA-Z]+|[^a-zA-Z]", "", text)) for text in (gold, answer)]
    if letters[0] != letters[1] or not 2 <= len(letters[0]) <= 4:
        return False
    return library.equal(*(" ".join(text) if text.isalpha() else text for text in (gold, answer)))


def split_unit(text: str) -> tuple[str, str]:
    """A value and the unit behind it; the unit is empty if there is none, also for a variable (`5x`, `5ab`)."""
    currency = _CURRENCY.match(text)
    if currency:
        text = currency[1] + text[currency.end() :]
        value, behind = split_unit(text)
        return value, behind or currency[2]
    found = leading_number(text)
    if found and not found[1].strip():
        return text, ""
    if found:
        behind = found[1]
        value = text[: len(text) - len(behind)]
        apart = behind[0] == " " and re.match(r"\s+[a-zA-Z]{3,}", behind) is not None
        glued_letter = behind[0].isalpha() and len(behind) == 1
        if counts_things(behind) and not glued_letter and (apart or is_symbol(behind) or is_set_as_text(behind)):
            return value.strip(), behind.strip()
    behind_value = _BEHIND.fullmatch(text)
    if behind_value and counts_things(behind_value["unit"]):
        set_apart = is_set_as_text(behind_value["unit"]) or is_symbol(behind_value["unit"])
        if set_apart:
            return behind_value["value"].strip(), behind_value["unit"].strip()
    return text, ""


def same_quantity(gold: Number, gold_unit: str, answer: Number, answer_unit: str, library: Library) -> bool:
    """Whether two numbers with units are equal; a missing unit matches any unit."""
    percents = unit(gold_unit) == "%", unit(answer_unit) == "%"
    if percents[0] != percents[1]:
        share, bare = (gold, answer) if percents[0] else (answer, gold)
        if gold_unit and answer_unit:
            return False
        hundredth = Number(share.value / 100, None if share.places is None else share.places + 2, share.digits)
        return same_number(hundredth, bare) or (percents[0] and abs(bare.value) > 1 and same_number(share, bare))
    if not gold_unit or not answer_unit or _same_unit(gold_unit, answer_unit):
        return same_number(gold, answer)
    one, other = unit(gold_unit), unit(answer_unit)
    per_unit = library.factor(other, one) if one and other else None
    if per_unit is None:
        return False
    return gold.value == (answer.value * Fraction(per_unit)).limit_denominator(_FINEST)


def _same_unit(one: str, other: str) -> bool:
    return (unit(one) is not None and unit(one) == unit(other)) or same_thing(one, other)


def _same_words(gold: str, answer: str) -> bool:
    if not gold or not answer:
        return False
    if max(len(gold), len(answer)) <= 2:
        return sorted(gold) == sorted(answer)
    return gold.casefold().strip(".") == answer.casefold().strip(".")


def _without_spaces(text: str) -> str:
    """The text without spaces, except those between two digits."""
    return re.sub(r"\s+(?!\d)|(?<!\d)\s+", "", text)


def _leftover(text: str) -> list[str]:
    """Words beside the symbols of an expression, in lower case; they must be equal on both sides."""
    return [" ".join(found.casefold().split()) for found in _TEXT.findall(text) if found.strip()]
