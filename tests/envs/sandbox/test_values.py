from __future__ import annotations

import json
from collections import Counter, OrderedDict, defaultdict, deque, namedtuple
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import IntEnum, StrEnum
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envs.sandbox.values import base_of, decode, encode

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary()
    | st.complex_numbers(allow_nan=False)
)
KEYS = st.recursive(SCALARS, lambda inner: st.tuples(inner, inner) | st.frozensets(inner, max_size=3), max_leaves=4)
VALUES = st.recursive(
    KEYS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4) | st.sets(KEYS, max_size=4),
    max_leaves=12,
)


@given(VALUES)
def test_a_value_survives_the_way_through_json(value: object) -> None:
    back = decode(json.loads(json.dumps(encode(value))))
    assert back == value and type(back) is type(value)


Point = namedtuple("Point", "x y")


@pytest.mark.parametrize(
    "value",
    [
        *(Counter("aab"), OrderedDict(a=1), defaultdict(list, a=[1]), True, bytearray(b"x"), deque([1, (2,)])),
        *(Fraction(1, 3), Decimal("1.50"), range(1, 9, 2), 10**30, -(2**2000), float("inf"), {1: 2}.keys()),
        *({1: 2}.items(), datetime(2024, 2, 29, 12, tzinfo=UTC), date(2024, 2, 29), time(1, 2), timedelta(1, 2, 3)),
    ],
)
def test_values_of_the_library_arrive_as_equal_ones(value: object) -> None:
    assert decode(json.loads(json.dumps(encode(value)))) == value


class Word(str):
    def __str__(self) -> str:
        return "another"

    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = str.__hash__


class Number(int):
    def __int__(self) -> int:
        return 7

    __index__ = __int__


class Half(float):
    def __float__(self) -> float:
        return 7.0


class Items(list[int]):
    def __iter__(self) -> Iterator[int]:
        return iter([7])


class Table(dict[str, int]):
    def items(self) -> Any:
        return [("a", 7)]


Color = StrEnum("Color", {"RED": "red"})


@pytest.mark.parametrize(
    ("value", "base"),
    [
        *((Point(1, 2), (1, 2)), (Word("word"), "word"), (Number(3), 3), (Half(0.5), 0.5), (Items([1, 2]), [1, 2])),
        *((Table(a=1), {"a": 1}), (Color("red"), "red"), (IntEnum("N", "A")(1), 1)),
    ],
)
def test_the_base_of_an_instance_is_what_it_holds_and_not_what_it_says(value: object, base: object) -> None:
    found = base_of(value)
    assert type(found) is type(base) and found == base
    assert encode(value, lambda foreign: {"seen": True}) == {"seen": True}


@pytest.mark.parametrize("value", [object(), [object()], lambda: 0, iter([1]), Point(1, 2)])
def test_other_values_have_no_encoding(value: object) -> None:
    with pytest.raises(TypeError, match="not a plain value"):
        encode(value)
    if not isinstance(value, tuple | list):
        with pytest.raises(TypeError, match="no plain base"):
            base_of(value)


def test_a_value_that_holds_itself_has_no_encoding() -> None:
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(RecursionError):
        encode(loop)


@pytest.mark.parametrize(
    "data", [{}, {"a": 1, "b": 2}, {"class": []}, {"dict": [[1]]}, {"set": [[1]]}, {"complex": 3}, {"int": "z"}]
)
def test_forged_data_is_refused(data: object) -> None:
    with pytest.raises((ValueError, TypeError)):
        decode(data)
