"""The prompts of each round: shuffled passes over the pool, computed from numbers alone.

Nothing is stored between rounds, so a resumed job draws the same prompts as the interrupted one would have.
"""

from __future__ import annotations

import hashlib


def positions(round: int, count: int | None, size: int, seed: int) -> list[int]:
    """Positions in a pool of `size` prompts for a round; rounds count from 1.

    A pass is a shuffled order of all positions and lasts `ceil(size / count)` rounds. Its last round, if it would
    be too short, is filled up from the start of the same pass: every round has `count` different prompts, and
    none is repeated before all were used.

    Args:
        round: The round to draw for, from 1.
        count: Prompts per round; null, or more than there are, takes all.
        size: Prompts in the pool.
        seed: The same seed gives the same draws.

    Raises:
        ValueError: The round is below 1.
    """
    import numpy

    if round < 1:
        raise ValueError(f"rounds count from 1 (round 0 is the baseline), got {round}")
    count = min(count or size, size)
    if not count:
        return []
    rounds_per_pass = -(-size // count)
    number, step = divmod(round - 1, rounds_per_pass)
    entropy = hashlib.sha256(f"{seed}/{number}".encode()).digest()
    # RandomState, because numpy promises that its stream never changes between releases.
    order = numpy.random.RandomState(numpy.frombuffer(entropy, dtype=">u4").astype("u4")).permutation(size)
    return [int(order[place % size]) for place in range(step * count, (step + 1) * count)]
