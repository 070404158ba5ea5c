"""Acceptors: callables that decide which candidates of a round are accepted.

The cascade bound to a judge is one (`functools.partial` of `Cascade.judge`). Experiments compare it with others
(`svd_loop.experiments.acceptors`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from svd_loop.contracts import Candidate, Prompt, Verdict


class Acceptor(Protocol):
    """Decides which candidates are accepted."""

    def __call__(self, items: Sequence[tuple[Prompt, Candidate]], *, round: int) -> list[Verdict]:
        """Return one verdict per item, in the same order; truncated and empty candidates are never accepted."""
        ...
