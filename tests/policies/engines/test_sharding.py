"""Dividing rows: nothing lost, nothing doubled, equal prompts together, about equal shares."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from policies.engines.sharding import batches_of, shards_by_prefix

prompts = st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=4).map(tuple), max_size=40)


@given(prompts, st.integers(1, 5))
def test_every_row_is_in_one_shard_and_equal_prompts_share_it(rows: list[tuple[int, ...]], count: int) -> None:
    shards = shards_by_prefix(rows, count)
    assert len(shards) == count
    assert sorted(index for shard in shards for index in shard) == list(range(len(rows)))
    homes = {(rows[index], number) for number, shard in enumerate(shards) for index in shard}
    assert len(homes) == len(set(rows))


@given(st.sets(st.lists(st.integers(0, 9), min_size=1, max_size=4).map(tuple), min_size=1), st.integers(1, 5))
def test_different_prompts_are_divided_evenly(rows: set[tuple[int, ...]], count: int) -> None:
    sizes = [len(shard) for shard in shards_by_prefix(list(rows), count)]
    assert max(sizes) - min(sizes) <= 1


def test_prompts_with_a_common_beginning_stay_together() -> None:
    rows = [(1, 2, 9), (7, 7, 1), (1, 2, 3), (7, 7, 5)]
    assert shards_by_prefix(rows, 2) == [[2, 0], [1, 3]]


@given(st.lists(st.lists(st.integers(0, 99), max_size=20), min_size=1, max_size=4), st.integers(1, 7))
def test_batches_hold_every_row_of_a_shard_once_and_are_about_equal(shards: list[list[int]], longest: int) -> None:
    batches, queues = batches_of(shards, longest)
    assert [[row for batch in queue for row in batches[batch]] for queue in queues] == shards
    assert sorted(batch for queue in queues for batch in queue) == list(range(len(batches)))
    for queue in queues:
        sizes = [len(batches[batch]) for batch in queue]
        assert not sizes or (max(sizes) <= longest and min(sizes) >= max(1, max(sizes) - 1))
