"""Tuples of token ids that share their integers."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

_SHARED = 2**18
"""Ids below this are shared: the vocabularies of most models."""


def shared_ids(ids: Sequence[int]) -> tuple[int, ...]:
    """Return the ids as a tuple whose integers are the same objects in all such tuples.

    An id then takes 8 bytes and not 40. For ids that are kept in large numbers.
    """
    if not ids or min(ids) < 0:
        return tuple(ids)
    try:
        return tuple(map(_integers().__getitem__, ids))
    except IndexError:  # an id beyond the shared ones
        return tuple(ids)


@cache
def _integers() -> list[int]:
    return list(range(_SHARED))
