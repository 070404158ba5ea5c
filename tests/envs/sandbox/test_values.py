from __future__ import annotations

import json
from collections import Counter, OrderedDict, defaultdict, deque, namedtuple
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envs.sandbox.values import decode, encode

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
    [Point(1, 2), Counter("aab"), OrderedDict(a=1), defaultdict(list, a=[1]), True, bytearray(b"x")],
)
def test_a_subclass_arrives_as_an_equal_plain_value(value: object) -> None:
    assert decode(encode(value)) == value


@pytest.mark.parametrize("value", [Fraction(1, 2), deque([1]), object(), [object()], {1: range(3)}, lambda: 0])
def test_other_values_have_no_encoding(value: object) -> None:
    with pytest.raises(TypeError, match="not a plain value"):
        encode(value)


def test_a_value_that_holds_itself_has_no_encoding() -> None:
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(RecursionError):
        encode(loop)


@pytest.mark.parametrize("data", [{}, {"a": 1, "b": 2}, {"class": []}, {"dict": [[1]]}, {"set": [[1]]}, {"complex": 3}])
def test_forged_data_is_refused(data: object) -> None:
    with pytest.raises((ValueError, TypeError)):
        decode(data)
