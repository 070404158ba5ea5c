"""Divide rows among copies of a model so that rows with a common prefix stay together."""

from __future__ import annotations

from collections.abc import Sequence


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
