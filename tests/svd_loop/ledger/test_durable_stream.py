"""Calls in flight over the ledger: stored as they come, not asked again, and what a fault or a stop leaves."""

from __future__ import annotations

import threading
from collections.abc import Collection, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from svd_loop.contracts import AgentCall, CallId, Reply
from svd_loop.errors import EngineError, JobInterrupted
from svd_loop.ledger import DurablePolicy, Interrupt, Ledger
from svd_loop.support.streams import stream_of
from svd_loop.support.usage import MeteredPolicy
from tests.svd_loop.ledger import samples
from tests.svd_loop.ledger.test_durable import CALLS, Memory, answers_to


class OneByOne(samples.StubPolicy):
    """Streams: finishes the newest call first, one at a time."""

    slots = 4

    def __init__(self) -> None:
        super().__init__()
        self.open: list[AgentCall] = []
        self.dropped: list[CallId] = []
        self.closed = False

    def stream(self) -> OneByOne:
        return self

    def put(self, calls: Sequence[AgentCall]) -> None:
        self.asked.append(list(calls))
        self.open += calls

    def drop(self, calls: Collection[CallId]) -> None:
        self.dropped += calls
        self.open = [call for call in self.open if call.id not in calls]

    def take(self) -> list[Reply]:
        return [self.reply(self.open.pop())] if self.open else []

    def close(self) -> None:
        self.closed = True


def test_answers_are_stored_as_they_come_and_not_asked_again(tmp_path: Path) -> None:
    with Ledger.open(tmp_path, samples.config()) as ledger:
        engine = OneByOne()
        with closing(DurablePolicy(engine, ledger, 4).stream()) as stream:
            assert stream.slots == 4
            stream.put(CALLS[:3])
            assert stream.take() == answers_to([CALLS[2]])  # the process ends here: two calls were in flight
        assert engine.closed
        again = OneByOne()
        with closing(DurablePolicy(again, ledger, 4).stream()) as stream:
            stream.put(CALLS[:4])
            assert stream.take() == answers_to([CALLS[2]])  # at once, before the engine is waited for
            assert [stream.take() for _ in range(3)] == [answers_to([CALLS[place]]) for place in (3, 1, 0)]
            assert stream.take() == []
        assert again.asked == [[CALLS[0], CALLS[1], CALLS[3]]]


def test_answers_that_come_fast_are_stored_together_and_before_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("svd_loop.ledger.durable_stream.time.monotonic", lambda: now)
    memory = Memory()
    with closing(DurablePolicy(OneByOne(), memory, 4).stream()) as stream:
        stream.put(CALLS[:6])
        known = []
        for wait in (1.0, 0.1, 0.1, 1.0, 0.1):
            now += wait
            stream.take()
            known.append(len(memory.known))
        assert known == [1, 1, 1, 4, 4]
    assert len(memory.known) == 5


def test_few_answers_beside_the_calls_in_flight_wait_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("svd_loop.ledger.durable_stream.time.monotonic", lambda: now)
    monkeypatch.setattr(OneByOne, "slots", 24)  # of which three are an eighth
    memory = Memory()
    stream = DurablePolicy(OneByOne(), memory, 4).stream()
    stream.put(CALLS[:9])
    known = []
    for wait in (1.0, 0.1, 0.2, 0.1, 1.9, 0.2):
        now += wait
        stream.take()
        known.append(len(memory.known))
    assert known == [1, 1, 1, 4, 4, 6]
    monkeypatch.setattr("svd_loop.ledger.durable_stream.ENOUGH", 1)
    now += 0.3
    stream.take()
    assert len(memory.known) == 7


def test_many_answers_are_stored_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("svd_loop.ledger.durable_stream.time.monotonic", lambda: 100.0)
    monkeypatch.setattr("svd_loop.ledger.durable_stream.MOST", 2)
    memory = Memory()
    stream = DurablePolicy(OneByOne(), memory, 4).stream()
    stream.put(CALLS[:6])
    known = [len(memory.known) for _ in range(5) if stream.take()]
    assert known == [1, 1, 3, 3, 5]


def test_dropped_calls_are_neither_answered_nor_stored() -> None:
    engine, memory = OneByOne(), Memory()
    memory.record(samples.items([CALLS[5]]))
    stream = DurablePolicy(engine, memory, 4).stream()
    stream.put(CALLS[:6])
    stream.drop([CALLS[5].id, CALLS[4].id, CALLS[9].id])
    assert engine.dropped == [CALLS[4].id]
    taken = [reply.call for _ in range(4) for reply in stream.take()]
    assert sorted(map(str, taken)) == sorted(str(call.id) for call in CALLS[:4])
    stream.close()
    assert len(memory.known) == 5


def test_answers_of_other_jobs_are_copied() -> None:
    memory, shared = Memory(), Memory()
    shared.record(samples.items(CALLS[:2]))
    stream = DurablePolicy(OneByOne(), memory, 4, shared=shared).stream()
    stream.put(CALLS[:3])
    assert stream.take() == answers_to(CALLS[:2])
    assert stream.take() == answers_to([CALLS[2]])
    assert memory.known == shared.known
    assert len(shared.known) == 3


def test_lost_foreign_and_failing_engines_are_errors_and_a_stop_is_obeyed() -> None:
    def failing(error: Exception) -> list[Reply]:
        raise error

    engine, memory, interrupt = OneByOne(), Memory(), Interrupt()
    stream = DurablePolicy(engine, memory, 4, interrupt=interrupt).stream()
    stream.put(CALLS[:2])
    engine.take = lambda: []  # type: ignore[method-assign]
    with pytest.raises(EngineError, match="left 2 calls unanswered"):
        stream.take()
    engine.take = lambda: [replace(answers_to(CALLS[:1])[0], call=CALLS[7].id)]  # type: ignore[method-assign]
    with pytest.raises(EngineError, match="which is not in flight"):
        stream.take()
    engine.take = lambda: failing(RuntimeError("broke"))  # type: ignore[method-assign]
    with pytest.raises(EngineError, match="failed on the calls in flight: RuntimeError: broke"):
        stream.take()
    interrupt.requested = True
    with pytest.raises(JobInterrupted):
        stream.take()
    assert memory.known == {}


def test_an_engine_that_hangs_in_a_stream_is_given_up() -> None:
    released, engine = threading.Event(), OneByOne()

    def hang() -> list[Reply]:
        released.wait()
        return []

    engine.take = hang  # type: ignore[method-assign]
    stream = DurablePolicy(engine, Memory(), 4, seconds=0.05).stream()
    stream.put(CALLS[:1])
    try:
        with pytest.raises(EngineError, match=r"no answer within 0.05 s to the calls in flight"):
            stream.take()
    finally:
        released.set()


def test_an_engine_of_whole_batches_is_asked_chunk_by_chunk() -> None:
    policy, memory = samples.StubPolicy(), Memory()
    stream = DurablePolicy(policy, memory, 4).stream()
    assert stream.slots == 0
    stream.put(CALLS[:7])
    stream.drop([CALLS[1].id])
    assert stream.take() == answers_to([CALLS[0], *CALLS[2:5]])
    stream.put(CALLS[7:])
    assert stream.take() == answers_to(CALLS[5:9])
    assert stream.take() == answers_to(CALLS[9:])
    assert (stream.take(), memory.batches) == ([], [4, 4, 1])


def test_usage_counts_what_is_taken() -> None:
    metered = MeteredPolicy(DurablePolicy(OneByOne(), Memory(), 4))
    stream = stream_of(metered)
    stream.put(CALLS[:3])
    stream.take()
    stream.drop([CALLS[0].id])
    stream.take()
    assert sum(usage.calls for usage in metered.take_usage().values()) == 2
