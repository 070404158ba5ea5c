from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envs.domains.numbers import leading_number, number, same_number


@pytest.mark.parametrize("text", ["", "-", "x", "1 2", ".", "1.2.3", "1/0", "5!", "5x", "1e99999", "e5", "10^{999999}"])
def test_what_is_no_number(text: str) -> None:
    assert number(text) is None


@pytest.mark.parametrize(
    ("text", "value", "behind"),
    [
        ("12 apples", Fraction(12), " apples"),
        (r"2.5 \times 10^{6} J", Fraction(2_500_000), " J"),
        (r"7\frac{3}{4} cups", Fraction(31, 4), " cups"),
        ("7 3/4", Fraction(31, 4), ""),
        ("10^{-7}", Fraction(1, 10**7), ""),
        ("5 thousand dollars", Fraction(5000), "dollars"),
        ("1,234.5", Fraction("1234.5"), ""),
    ],
)
def test_a_number_is_read_with_what_stands_behind_it(text: str, value: Fraction, behind: str) -> None:
    found = leading_number(text)
    assert found is not None and (found[0].value, found[1]) == (value, behind)


@given(st.integers(1, 10**9), st.integers(2, 999), st.integers(7, 12))
def test_a_long_decimal_is_the_rounding_of_a_fraction_and_its_neighbour_is_not(
    above: int, below: int, places: int
) -> None:
    exact = number(f"{above}/{below}")
    rounded = round(Fraction(above, below) * 10**places)
    near, far = (number(f"{digits // 10**places}.{digits % 10**places:0{places}}") for digits in (rounded, rounded + 2))
    assert exact is not None and near is not None and far is not None
    if near.digits >= 6:
        assert same_number(exact, near)
    if near.digits < 15:
        assert not same_number(exact, far)


def test_a_short_decimal_is_exact() -> None:
    third, short = number("1/3"), number("0.33333")
    assert third is not None and short is not None and not same_number(third, short)
