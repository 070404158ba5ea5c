"""Conversion factors between units, and what has none."""

from __future__ import annotations

import pytest

from envs.domains.science import score_all
from envs.domains.units import factor
from svd_loop.contracts import Domain, Outcome, Problem


@pytest.mark.parametrize(
    ("given", "wanted", "expected"),
    [
        ("km", "m", 1000.0),
        ("m/s", "km/h", 3.6),
        ("g", "kg", 0.001),
        ("kW*h", "J", 3.6e6),
        ("m", "m", 1.0),
        ("min", "s", 60.0),
    ],
)
def test_same_quantity_converts(given: str, wanted: str, expected: float) -> None:
    assert factor(given, wanted) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("kg", "m"),
        ("", "m"),
        ("m", ""),
        ("apples", "m"),
        ("m^9^9^9^9", "m"),
        ("m^99999999", "m"),
        ("x" * 500, "m"),
        ("(", "m"),
        ("degC", "K"),
        ("import", "m"),
    ],
)
def test_anything_else_does_not(given: str, wanted: str) -> None:
    assert factor(given, wanted) is None


def test_a_converted_answer_scores_as_right() -> None:
    problem = Problem("id", "How far?", Domain.SCIENCE, answer="1000 m")
    solutions = ["\\boxed{1 km}", "\\boxed{1 kg}", "\\boxed{0.5 km}", "\\boxed{100000 cm}"]
    found = score_all([(text, problem) for text in solutions], seconds=5.0)
    assert found == [Outcome.of(right) for right in (True, False, False, True)]
