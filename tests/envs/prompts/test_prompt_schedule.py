"""Rounds draw every prompt before any returns."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envs.prompts.schedule import positions


@given(size=st.integers(1, 60), count=st.integers(1, 80), seed=st.integers(), first=st.integers(0, 3))
def test_a_pass_sees_everything_and_rounds_hold_different_prompts(size: int, count: int, seed: int, first: int) -> None:
    taken = min(count, size)
    rounds = -(-size // taken)
    drawn = [positions(first * rounds + number, count, size, seed) for number in range(1, rounds + 1)]
    assert all(len(set(some)) == len(some) == taken for some in drawn)
    in_order = [position for some in drawn for position in some]
    assert sorted(in_order[:size]) == list(range(size))


def test_passes_and_seeds_differ_and_repeat() -> None:
    assert positions(1, None, 50, 0) == positions(1, 50, 50, 0) != positions(2, None, 50, 0)
    assert positions(1, 50, 50, 0) != positions(1, 50, 50, 1)


def test_the_stream_is_pinned() -> None:
    # A resumed job must draw what the interrupted one drew, under another numpy too.
    assert positions(1, 5, 10, 0) == [3, 7, 1, 2, 8]
    assert positions(2, 5, 10, 0) == [0, 6, 5, 9, 4]


def test_nothing_to_draw() -> None:
    assert positions(1, None, 0, 0) == []


def test_round_zero_is_the_baseline() -> None:
    with pytest.raises(ValueError, match="count from 1"):
        positions(0, 5, 10, 0)
