"""How units are written, which words are none, and conversion factors."""

from __future__ import annotations

import pytest

from envs.domains.math_worker import factor
from envs.domains.science import score_all
from envs.domains.spelling import spelled
from envs.domains.units import counts_things, is_symbol, same_thing, unit
from svd_loop.contracts import Domain, Outcome, Problem


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("m/s^2", "m*s^-2"),
        (r"\frac{m}{s^2}", "m*s^-2"),
        (r"\mathrm{m\,s^{-2}}", "m*s^-2"),
        ("m/s/s", "m*s^-2"),
        ("meters per second squared", "meters*second^-2"),
        ("J/(mol K)", "J*K^-1*mol^-1"),
        (r"\text{ kg}\cdot\text{m}^2", "kg*m^2"),
        ("square feet", "feet^2"),
        ("µF", "μF"),
        ("degrees Celsius", "degC"),
        ("", ""),
        ("dollars", "dollar"),
    ],
)
def test_one_writing(text: str, plain: str) -> None:
    assert (unit(spelled(text)) or "").replace("µ", "μ") == plain


@pytest.mark.parametrize(
    "text", ["or 4", "m^99999999", "m^9^9", "m" * 500, "(", "m)", "^2", "not", "1", "m+s", "m " * 30]
)
def test_what_is_no_unit(text: str) -> None:
    assert unit(text) is None


def test_words_count_things_or_change_what_is_said() -> None:
    assert all(map(counts_things, (" apples", " red marbles per bag", r"\text{ cm}", " square feet", "%")))
    assert not any(map(counts_things, (" or more", " to 6", " x+1", " apples and 3 pears", r"\text{ or }6", "(mod 7)")))
    assert is_symbol("cm") and not is_symbol("ab") and not is_symbol("x")
    assert same_thing("Apples", "apple") and same_thing("boxes", "box") and not same_thing("apples", "pears")


@pytest.mark.parametrize(
    ("given", "wanted", "expected"),
    [
        ("km", "m", 1000.0),
        ("m*s^-1", "km*hour^-1", 3.6),
        ("g", "kg", 0.001),
        ("kW*hour", "J", 3.6e6),
        ("minute", "s", 60.0),
    ],
)
def test_same_quantity_converts(given: str, wanted: str, expected: float) -> None:
    assert factor(given, wanted) == pytest.approx(expected)


@pytest.mark.parametrize(("given", "wanted"), [("kg", "m"), ("apples", "m"), ("degC", "K"), ("import", "m")])
def test_anything_else_does_not(given: str, wanted: str) -> None:
    assert factor(given, wanted) is None


def test_a_converted_answer_scores_as_right() -> None:
    problem = Problem("id", "How far?", Domain.SCIENCE, answer="1000 m")
    solutions = ["\\boxed{1 km}", "\\boxed{1 kg}", "\\boxed{0.5 km}", "\\boxed{100000 cm}"]
    found = score_all([(text, problem) for text in solutions], seconds=5.0)
    assert found == [Outcome.of(right) for right in (True, False, False, True)]
