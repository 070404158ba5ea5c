from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envs.domains.notations import (
    assigned_tuples,
    column,
    interval_of,
    is_decimal_comma_for_certain,
    member_of,
    set_name,
    with_comma_lists,
    with_decimal_points,
)
from envs.domains.parts import Parts


@pytest.mark.parametrize(
    ("text", "pointed"),
    [
        ("3,14", "3.14"),
        ("-0,5 m", "-0.5 m"),
        ("0,125", "0.125"),
        ("1.234,5", "1234.5"),
        ("1 234 567,89", "1234567.89"),
        ("1,234", "1,234"),
        ("1,2,3", "1,2,3"),
        ("1, 2", "1, 2"),
        ("x,y", "x,y"),
    ],
)
def test_a_comma_between_digits_becomes_a_point_unless_it_groups_or_lists(text: str, pointed: str) -> None:
    assert with_decimal_points(text) == pointed


@given(st.integers(0, 9999), st.integers(0, 99))
def test_a_number_with_a_comma_is_the_number_with_a_point(whole: int, hundredths: int) -> None:
    assert with_decimal_points(f"{whole},{hundredths:02d}") == f"{whole}.{hundredths:02d}"
    assert is_decimal_comma_for_certain(f"{whole},{hundredths:02d}")


def test_semicolons_separate_numbers_with_commas() -> None:
    assert with_comma_lists("(1,5; 2)") == "(1.5, 2)"
    assert with_comma_lists("(1,5)") == "(1,5)"
    assert not is_decimal_comma_for_certain("2,5") and is_decimal_comma_for_certain("-0,5")


@pytest.mark.parametrize(
    ("text", "interval"),
    [
        (r"1 < x \le 2", Parts("(]", ("1", "2"))),
        ("x>3", Parts("()", ("3", r"\infty"))),
        (r"t \ge 0", Parts("[)", ("0", r"\infty"))),
        ("x < -1", Parts("()", (r"-\infty", "-1"))),
        (r"|x| \le 2", Parts("[]", ("-(2)", "2"))),
        ("x = 3", None),
        ("3", None),
        ("x+y > 3", None),
    ],
)
def test_an_inequality_of_one_variable_is_an_interval(text: str, interval: Parts | None) -> None:
    assert interval_of(text) == interval


def test_words_and_symbols_for_a_set() -> None:
    assert {set_name(text) for text in (r"\text{All real numbers}", r"(-\infty, +\infty)", r"\mathbb{R}")} == {
        r"\mathbb{R}"
    }
    assert {set_name(text) for text in (r"\{ \}", "no solution", r"\emptyset")} == {r"\emptyset"}
    assert set_name("a solution") == "a solution"
    assert member_of(r"x \in [0,1]") == "[0,1]" and member_of("[0,1]") is None


def test_columns_and_groups_of_assignments_are_tuples() -> None:
    assert column(r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}") == Parts("()", ("1", "2"))
    assert column(r"\begin{pmatrix} 1 & 2 \end{pmatrix}") is None
    assert assigned_tuples("p=5, q=2; p=7, q=2") == "(5,2),(7,2)"
    assert assigned_tuples("x=1, y=2 or x=3, y=4") == "(1,2),(3,4)"
    assert assigned_tuples("x=1; y=2") is None and assigned_tuples("p=5, q=2; q=7, p=2") is None
