"""Rows over replicas that come and go: every row is settled once, whatever happens."""

from __future__ import annotations

import asyncio
import random
from collections import Counter

import pytest

from policies.engines.dispatch import Dispatcher, Timeouts, Unavailable
from policies.engines.served.endpoint import no_endpoint_left
from svd_loop.errors import EngineError, ModelError

QUICK = Timeouts(concurrency=4, heartbeat_seconds=0.01, recovery_seconds=0.0)


class Copy:
    """Answers a row with its square; fails as told."""

    def __init__(self, name: str, fail: float = 0.0, *, gone: bool = False, wrong: bool = False) -> None:
        self.name, self.fail, self.gone, self.wrong = name, fail, gone, wrong
        self.answered: list[int] = []
        self.readied = self.failed = 0
        self.stuck = False
        self._random = random.Random(name)

    async def ready(self) -> None:
        self.readied += 1
        if self.gone:
            raise Unavailable("no connection")
        if self.wrong:
            raise ModelError("other weights")

    async def alive(self) -> None:
        if self.stuck:
            raise Unavailable("no answer")

    async def answer(self, row: int) -> int:
        while self.stuck:
            await asyncio.sleep(0.001)
        for _ in range(self._random.randrange(3)):
            await asyncio.sleep(0)
        if self._random.random() < self.fail:
            self.failed += 1
            raise Unavailable("connection broke")
        self.answered.append(row)
        return row * row


def play(copies: list[Copy], shards: list[list[int]], timeouts: Timeouts = QUICK) -> dict[int, int]:
    found: dict[int, int] = {}

    def settled(row: int, answer: int) -> None:
        assert row not in found
        found[row] = answer

    asyncio.run(Dispatcher(copies, shards, timeouts, settled, no_endpoint_left).run())
    return found


def everything(rows: int) -> dict[int, int]:
    return {row: row * row for row in range(rows)}


def test_nothing_to_do_asks_nobody() -> None:
    copies = [Copy("a")]
    assert play(copies, [[]]) == {}
    assert copies[0].readied == 0


def test_a_replica_works_through_its_own_rows_in_order() -> None:
    copies = [Copy("a"), Copy("b")]
    lone = Timeouts(concurrency=1, heartbeat_seconds=10.0, recovery_seconds=0.0)
    assert play(copies, [list(range(50)), list(range(50, 100))], lone) == everything(100)
    for copy, first in zip(copies, (0, 50), strict=True):
        own = [row for row in copy.answered if first <= row < first + 50]
        assert own == list(range(first, first + len(own)))  # neighbours in the queue share their prefix
        assert len(own) > 40


def test_an_idle_replica_takes_over_the_end_of_anothers_queue() -> None:
    copies = [Copy("a"), Copy("b")]
    assert play(copies, [list(range(100)), []]) == everything(100)
    stolen = copies[1].answered
    assert stolen
    assert 99 in stolen
    assert 0 not in stolen


@pytest.mark.parametrize("seed", range(8))
def test_every_row_is_settled_once_by_replicas_that_keep_failing(seed: int) -> None:
    shuffled = random.Random(seed)
    shards = [[row for row in range(200) if row % 3 == part] for part in range(3)]
    copies = [Copy(f"{seed}{name}", 0.15) for name in "abc"]
    timeouts = Timeouts(concurrency=shuffled.choice([1, 7, 300]), heartbeat_seconds=0.001, recovery_seconds=60.0)
    assert play(copies, shards, timeouts) == everything(200)
    assert Counter(row for copy in copies for row in copy.answered) == Counter(range(200))
    assert any(copy.failed for copy in copies)


def test_a_hanging_replica_loses_its_rows_to_the_others() -> None:
    copies = [Copy("a"), Copy("b")]
    copies[0].stuck = True
    assert play(copies, [list(range(20)), list(range(20, 40))]) == everything(40)
    assert copies[0].answered == []


def test_one_that_serves_other_weights_is_left_out() -> None:
    copies = [Copy("a", wrong=True), Copy("b")]
    assert play(copies, [[0, 1, 2], [3]]) == everything(4)
    assert (copies[0].readied, copies[0].answered) == (1, [])


def test_when_none_is_left_each_is_named_with_its_reason() -> None:
    with pytest.raises(EngineError) as caught:
        play([Copy("http://a", gone=True), Copy("http://b", wrong=True)], [[0], [1, 2]])
    assert "3 requests are unanswered" in str(caught.value)
    assert "http://a: no connection" in str(caught.value)
    assert "http://b: other weights" in str(caught.value)
    assert "engine.endpoints" in str(caught.value)


def test_a_row_that_brings_every_replica_down_ends_the_wave() -> None:
    class Choking(Copy):
        async def answer(self, row: int) -> int:
            if row == 3:
                raise Unavailable("500: cannot do this one", by_row=True)
            return await super().answer(row)

    timeouts = Timeouts(concurrency=2, heartbeat_seconds=0.001, recovery_seconds=60.0)
    with pytest.raises(EngineError, match=r"one request failed 3 times.*500: cannot do this one"):
        play([Choking("a"), Choking("b")], [[0, 1, 2], [3, 4]], timeouts)


def test_any_other_error_ends_the_wave() -> None:
    class Refusing(Copy):
        async def answer(self, row: int) -> int:
            raise EngineError("400: out of vocabulary")

    with pytest.raises(EngineError, match="out of vocabulary"):
        play([Refusing("a"), Copy("b", gone=True)], [[0], [1]])
