from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envs.domains import DOMAINS
from envs.domains.science import Quantity, choice, normal, options_of, quantity
from svd_loop.contracts import Domain, Outcome, Problem

SCIENCE = DOMAINS[Domain.SCIENCE]
QUESTION = "What power? A) 12 W B) 14 W C) 15 W D) 16 W"


def score(answer: str, gold: str, question: str = "What?") -> bool:
    return Outcome.RIGHT is SCIENCE.score(rf"\boxed{{{answer}}}", Problem("p", question, Domain.SCIENCE, gold))


@pytest.mark.parametrize(
    ("gold", "answer"),
    [
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
        ("1/2", "0.5"),
        (r"\frac{mv^2}{2}", r"\frac{1}{2}mv^2"),
    ],
)
def test_the_same_quantity_or_expression_is_right(gold: str, answer: str) -> None:
    assert score(answer, gold)


@pytest.mark.parametrize(
    ("gold", "answer"),
    [
        ("6 m/s", "6"),
        ("6 m/s", "6 m"),
        ("150 W", "151 W"),
        ("5 mW", "5 MW"),
        ("9.81 m/s^2", "9.6 m/s^2"),
        ("5 J", "5 x 10^99999 J"),
        ("5 J", "J"),
        ("copper", "zinc"),
        ("0.0", "0.001"),
    ],
)
def test_another_quantity_is_wrong(gold: str, answer: str) -> None:
    assert not score(answer, gold)


@pytest.mark.parametrize("answer", ["B", "(B)", "B.", "b", "B)", "option B", r"\text{B}", "14 W", "B) 14 W", "B: 14 W"])
def test_a_choice_is_right_by_letter_or_text(answer: str) -> None:
    assert score(answer, "B", QUESTION) and score(answer, "(B)", QUESTION) and score(answer, "14 W", QUESTION)


@pytest.mark.parametrize("answer", ["A", "C) 14 W", "B) 15 W", "15 W", "A or B", "E", "Boron", "14 J"])
def test_another_choice_is_wrong(answer: str) -> None:
    assert not score(answer, "B", QUESTION)


def test_options_are_listed_from_a_in_order() -> None:
    assert options_of(QUESTION) == {"A": "12 W", "B": "14 W", "C": "15 W", "D": "16 W"}
    assert options_of("Which?\n(A) a red\nfox\n(B) a dog\n") == {"A": "a red\nfox", "B": "a dog"}
    assert options_of("Vitamin C. Plan B: no") == {} and options_of("A) only one") == {}


def test_options_of_one_text_name_none() -> None:
    assert choice("x", {"A": "x", "B": "x"}) is None and choice("A", {"A": "x", "B": "x"}) == "A"


def test_a_letter_without_options_is_text() -> None:
    assert score("C", "C", "Which element?") and not score("D", "C", "Which element?")


@given(st.fractions(min_value=-1000, max_value=1000, max_denominator=1), st.sampled_from(["", "m/s", "kg*m^2", "°C"]))
def test_whole_numbers_are_read_exactly(value: Fraction, unit: str) -> None:
    assert quantity(f"{value} {unit}") == Quantity(value, exact=True, unit=unit)


@given(st.text(max_size=40))
def test_any_text_is_survived(text: str) -> None:
    quantity(text)
    options_of(text)
    assert isinstance(normal(text), str)
