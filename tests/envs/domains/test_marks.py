"""Marks that change an expression, ratios and dates."""

from __future__ import annotations

import pytest

from envs.domains.marks import marks_of, same_ratio_or_date


@pytest.mark.parametrize(
    "one, other",
    [
        ("f'(x)", "f(x)"),
        ("f''", "f'"),
        (r"f^{\prime}", "f"),
        ("30'", "30"),
        ("A^T", "A"),
        (r"A^{\top}", "A"),
        (r"\not 3", "3"),
        (r"\cancel{3} 4", "34"),
        ("3 +", "3"),
    ],
)
def test_marks_tell_expressions_apart(one: str, other: str) -> None:
    assert marks_of(one) != marks_of(other)


@pytest.mark.parametrize(
    "one, other", [("f'(x)", r"f^{\prime}(x)"), ("A^T", r"A^{\text{T}}"), ("-3", "3"), ("x^2", "x")]
)
def test_what_is_no_mark_or_the_same_one(one: str, other: str) -> None:
    assert marks_of(one) == marks_of(other)


@pytest.mark.parametrize(
    "gold, answer, expected",
    [
        ("3:4:5", "6 : 8 : 10", True),
        ("3:4:5", "3:5:4", False),
        ("3:4:5", "3:4", False),
        ("0:0:0", "1:2:3", False),
        ("0:1:2", "0:2:4", True),
        ("a:b:c", "a : b:c", True),
        ("a:b:c", "a:c:b", False),
        ("2020-01-02", "2017", False),
        ("2017", "2020-01-02", False),
        ("2020-01-02", "2020-01-02", True),
        ("1/2/2020", "2/1/2020", False),
        ("3:4", "6:8", None),
        ("V_{1}:V_{2}=11:21", "11:21", None),
        ("2020", "2020", None),
        ("1/2", "0.5", None),
    ],
)
def test_ratios_are_in_proportion_and_dates_are_not_computed(gold: str, answer: str, expected: bool | None) -> None:
    assert same_ratio_or_date(gold, answer) is expected
