"""How far two engines, or one engine in two ways, answer alike.

The same row can be computed in another batch shape, on other threads, with a part of its prompt from a cache or by
another library. The sums are then rounded otherwise, and where two tokens are equally likely up to that rounding either
may be taken; from there on the row goes its own way. One row in some ten thousand tokens does, where and how depends on
the processor. Whatever mistakes rows for one another, loses a seed or shifts a position shows in far more rows than the
share that tests leave open.
"""

from __future__ import annotations

from collections.abc import Sequence


def agreeing(one: Sequence[object], other: Sequence[object]) -> float:
    """The share of answers, of equally many, that are the same token by token."""
    return sum(a == b for a, b in zip(one, other, strict=True)) / len(one)
