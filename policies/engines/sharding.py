"""Divide rows among copies of a model so that rows with a common prefix stay together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise


def shards_by_prefix(prompts: Sequence[tuple[int, ...]], shards: int) -> list[list[int]]:
    """Divide rows into runs of about equal numbers of rows.

    Rows are put into the order of their prompts' tokens, where equal prompts are neighbours and those with a common
    beginning are near each other, and cut into runs. Equal prompts are never divided. The result depends on the
    prompts only, so a repeated chunk is divided in the same way.

    Args:
        prompts: token ids of each row's prompt.
        shards: how many runs; at least one.

    Returns:
        `shards` lists of row indices, some perhaps empty; every index in exactly one.
    """
    order = sorted(range(len(prompts)), key=lambda index: (prompts[index], index))
    runs: list[list[int]] = [[] for _ in range(shards)]
    run = 0
    for place, index in enumerate(order):
        if place == 0 or prompts[index] != prompts[order[place - 1]]:
            run = place * shards // len(order)
        runs[run].append(index)
    return runs


def batches_of(shards: Sequence[Sequence[int]], longest: int) -> tuple[list[list[int]], list[list[int]]]:
    """Cut shards into batches of about equal size.

    Args:
        shards: rows of each replica.
        longest: most rows of a batch.

    Returns:
        The rows of every batch, and the batches' numbers for each replica.
    """
    batches: list[list[int]] = []
    queues: list[list[int]] = []
    for shard in shards:
        count = math.ceil(len(shard) / longest)
        cuts = [len(shard) * part // count for part in range(count + 1)] if count else []
        queues.append(list(range(len(batches), len(batches) + count)))
        batches += [list(shard[a:b]) for a, b in pairwise(cuts)]
    return batches, queues
