"""Science: choices, quantities and words. The names D1 to D5 are kinds of faults found once."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envs.domains import domain_of
from envs.domains.science import Quantity, quantity, same_text
from envs.domains.spelling import spelled
from svd_loop.contracts import Domain, Outcome, Problem

SCIENCE = domain_of(Domain.SCIENCE)
QUESTION = "What power? A) 12 W B) 14 W C) 15 W D) 16 W"


def score(answer: str, gold: str, question: str = "What?") -> Outcome:
    return SCIENCE.score(rf"\boxed{{{answer}}}", Problem("p", question, Domain.SCIENCE, gold))


SAME = [
    ("6 m/s", "6 m/s"),
    ("6 m/s", r"6\,\text{m/s}"),
    ("6 m/s", r"6.0\ \mathrm{m / s}"),
    ("6", "6 N"),
    ("1,200 kg", "1200 kg"),
    ("9.81 m/s^2", r"9.8\ \mathrm{m/s^{2}}"),
    ("9.81 m/s^2", "9.8 m/s²"),
    ("3e8 m/s", r"2.998 \times 10^{8}\,\mathrm{m/s}"),
    ("-40 °C", r"-40\,^{\circ}\text{C}"),
    ("4.7 kΩ", r"4.7\,\text{k}\Omega"),
    ("copper", "Copper"),
    ("the copper ion", "copper ion"),
    ("1/2", "0.5"),
    (r"\frac{mv^2}{2}", r"\frac{1}{2}mv^2"),
    ("6 apples", "6 apples"),
    ("20%", "0.2"),
    ("0.2", r"20\%"),
]
D4_UNITS = [
    ("5 J", "5 kg m^2/s^2"),
    ("5 μC", r"5\,\mu\text{C}"),
    ("4.7 μF", r"4.7 \mu F"),
    ("9.8 m/s^2", r"9.8 \frac{m}{s^2}"),
    ("8.31 J/(mol K)", "8.31 J mol^{-1} K^{-1}"),
    ("5 N", r"F = 5\text{ N}"),
    ("5 N", r"\approx 5\text{ N}"),
    ("5 N", r"F \approx 5\text{ N}"),
    ("25 °C", "25 degrees Celsius"),
    ("CO2", r"\text{CO}_2"),
    ("Na+", r"\text{Na}^+"),
    ("1e-7", r"10^{-7}"),
    ("5 m/s", "5 meters per second"),
    ("5 cm^3", "5 mL"),
    ("120 ft^2", "120 square feet"),
    ("75 W/m^2", r"75\ \mathrm{W\,m^{-2}}"),
    ("1.0 atm", "101325 Pa"),
]
OTHER = [
    ("20", "20 percent"),
    ("6 m/s", "6"),
    ("6 m/s", "6 m"),
    ("150 W", "151 W"),
    ("5 mW", "5 MW"),
    ("9.81 m/s^2", "9.6 m/s^2"),
    ("5 J", "5 x 10^99999 J"),
    ("5 J", "J"),
    ("copper", "zinc"),
    ("0.0", "0.001"),
    ("25 °C", "25 K"),
    ("x^2", "x2"),
]
D3_FALSE_ACCEPTS = [
    *(("3", answer) for answer in ("3 or 4", "not 3", "3 to 4", "at least 3", "3!", "3 m or 4 m")),
    ("0.5", r"0.5\%"),
    ("CO", "Co"),
    ("CO2", "Co2"),
    ("AA", "Aa"),
    ("NaCl", "NaCL"),
]


@pytest.mark.parametrize("pairs", [SAME, D4_UNITS], ids=["same", "D4"])
def test_the_same_quantity_or_expression_is_right(pairs: list[tuple[str, str]]) -> None:
    assert [pair for pair in pairs if score(pair[1], pair[0]) is not Outcome.RIGHT] == []


@pytest.mark.parametrize("pairs", [OTHER, D3_FALSE_ACCEPTS], ids=["other", "D3"])
def test_another_quantity_is_wrong(pairs: list[tuple[str, str]]) -> None:
    assert [pair for pair in pairs if score(pair[1], pair[0]) is not Outcome.WRONG] == []


BOMBS = [
    "1" + "a" * 990 + "!",
    "5 m^(9^(9^(9^9)))",
    "5 " + "(" * 400 + "m" + ")" * 400,
    "5 " + "m^9" * 300,
    "5 " + "m " * 450,
]


@pytest.mark.parametrize("answer", BOMBS, ids=["letters", "tower", "brackets", "powers", "factors"])
def test_a_unit_without_end_never_reaches_the_library(answer: str) -> None:
    """D5: it is refused by its size, before anything is computed."""
    found = quantity(spelled(answer))
    assert found is None and score(answer, "5 J") is Outcome.WRONG


@pytest.mark.parametrize("answer", ["B", "(B)", "B.", "b", "B)", "option B", r"\text{B}", "14 W", "B) 14 W", "B: 14 W"])
@pytest.mark.parametrize("gold", ["B", "(B)", "14 W"])
def test_a_choice_is_right_by_letter_or_text(answer: str, gold: str) -> None:
    assert score(answer, gold, QUESTION) is Outcome.RIGHT


@pytest.mark.parametrize("answer", ["A", "C) 14 W", "B) 15 W", "15 W", "A or B", "E", "Boron", "14 J"])
def test_another_choice_is_wrong(answer: str) -> None:
    assert score(answer, "B", QUESTION) is Outcome.WRONG


def test_a_letter_without_options_is_text() -> None:
    assert score("C", "C", "Which element?") is Outcome.RIGHT and score("D", "C", "Which element?") is Outcome.WRONG


@given(
    st.fractions(min_value=-1000, max_value=1000, max_denominator=1), st.sampled_from(["", "m*s^-1", "kg*m^2", "degC"])
)
def test_whole_numbers_are_read_exactly(value: Fraction, unit: str) -> None:
    assert quantity(f"{value} {unit}") == Quantity(value, exact=True, unit=unit)


@given(st.text(max_size=40), st.text(max_size=40))
def test_any_text_is_survived(one: str, other: str) -> None:
    assert same_text(spelled(one), spelled(other)) in (True, False)
