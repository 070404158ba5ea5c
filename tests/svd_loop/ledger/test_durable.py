from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from svd_loop.contracts import AgentCall, Reply
from svd_loop.errors import EngineError, JobInterrupted, LedgerError
from svd_loop.ledger import DurablePolicy, Interrupt, Ledger
from svd_loop.ledger.answers import Answered
from tests.svd_loop.ledger import samples

CALLS = [samples.solve(f"p{number}", 0) for number in range(10)]


class Memory:
    """An answer store without a disk, for what does not depend on one."""

    def __init__(self) -> None:
        self.known: dict[str, Reply] = {}
        self.batches: list[int] = []

    def lookup(self, keys: Iterable[str]) -> dict[str, Reply]:
        return {key: self.known[key] for key in keys if key in self.known}

    def record(self, items: Sequence[Answered]) -> None:
        self.known |= {key: reply for key, _, reply in items}
        self.batches.append(len(items))


class FaultyPolicy(samples.StubPolicy):
    """Answers the first chunk well and spoils the second."""

    def __init__(self, fault: Callable[[list[Reply]], list[Reply]]) -> None:
        super().__init__()
        self.fault = fault

    def generate(self, calls: Sequence[AgentCall]) -> list[Reply]:
        replies = super().generate(calls)
        return replies if len(self.asked) == 1 else self.fault(replies)


def answers_to(calls: Sequence[AgentCall]) -> list[Reply]:
    return [samples.StubPolicy().reply(call) for call in calls]


def test_answers_come_in_order_and_are_asked_once(tmp_path: Path) -> None:
    policy = samples.StubPolicy()
    with Ledger.open(tmp_path, samples.config()) as ledger:
        durable = DurablePolicy(policy, ledger, 4)
        assert durable.version == policy.version and durable.key(CALLS[0]) == policy.key(CALLS[0])
        assert durable.generate(CALLS) == answers_to(CALLS)
        assert durable.generate(CALLS) == answers_to(CALLS)
        durable.close()
    assert [len(chunk) for chunk in policy.asked] == [4, 4, 2]


@given(st.integers(1, 12), st.lists(st.integers(0, 9), max_size=30), st.sets(st.integers(0, 9)))
def test_chunks_are_cut_before_anything_is_looked_up(size: int, wave: list[int], known: set[int]) -> None:
    memory, policy = Memory(), samples.StubPolicy()
    memory.record(samples.items([CALLS[number] for number in known]))
    calls = [CALLS[number] for number in wave]
    assert DurablePolicy(policy, memory, size).generate(calls) == answers_to(calls)

    expected, seen = [], set(known)
    for start in range(0, len(wave), size):
        missing = [number for number in dict.fromkeys(wave[start : start + size]) if number not in seen]
        seen |= set(missing)
        expected += [[CALLS[number] for number in missing]] if missing else []
    assert policy.asked == expected


def raise_fault(replies: list[Reply]) -> list[Reply]:
    raise RuntimeError("out of memory")


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (raise_fault, r"failed on 4 calls .*RuntimeError: out of memory"),
        (lambda replies: replies[:-1], "3 answers to 4 calls"),
        (lambda replies: [*replies, replies[0]], "5 answers to 4 calls"),
        (lambda replies: replies[::-1], "returned a reply to CallId"),
        (lambda replies: [replace(reply, call=CALLS[0].id) for reply in replies], "returned a reply to CallId"),
    ],
)
def test_an_engine_at_fault_is_an_engine_error_and_nothing_is_half_written(
    fault: Callable[[list[Reply]], list[Reply]], message: str, tmp_path: Path
) -> None:
    with Ledger.open(tmp_path, samples.config()) as ledger:
        policy = FaultyPolicy(fault)
        with pytest.raises(EngineError, match=message):
            DurablePolicy(policy, ledger, 4).generate(CALLS)
        assert len(ledger.lookup([policy.key(call) for call in CALLS])) == 4
        sound = samples.StubPolicy()
        assert DurablePolicy(sound, ledger, 4).generate(CALLS) == answers_to(CALLS)
        assert [len(chunk) for chunk in sound.asked] == [4, 2]


def test_our_own_errors_pass_through(tmp_path: Path) -> None:
    def full(replies: list[Reply]) -> list[Reply]:
        raise LedgerError("the disk is full")

    with pytest.raises(LedgerError, match="the disk is full"):
        DurablePolicy(FaultyPolicy(full), Memory(), 4).generate(CALLS)


def test_an_engine_that_hangs_is_given_up() -> None:
    released = threading.Event()

    def hang(replies: list[Reply]) -> list[Reply]:
        released.wait()
        return replies

    memory = Memory()
    durable = DurablePolicy(FaultyPolicy(hang), memory, 4, seconds=0.05)
    try:
        with pytest.raises(EngineError, match=r"no answer within 0.05 s to 4 calls"):
            durable.generate(CALLS)
        with pytest.raises(EngineError, match="has not returned"):
            durable.generate(CALLS)
    finally:
        released.set()
    assert memory.batches == [4]


def test_a_time_limit_changes_neither_answers_nor_errors() -> None:
    assert DurablePolicy(samples.StubPolicy(), Memory(), 4, seconds=60.0).generate(CALLS) == answers_to(CALLS)
    with pytest.raises(EngineError, match="RuntimeError: out of memory"):
        DurablePolicy(FaultyPolicy(raise_fault), Memory(), 4, seconds=60.0).generate(CALLS)


def test_a_requested_stop_finishes_and_writes_the_chunk() -> None:
    interrupt, memory = Interrupt(), Memory()

    def ask_to_stop(replies: list[Reply]) -> list[Reply]:
        interrupt.requested = True
        return replies

    policy = FaultyPolicy(ask_to_stop)
    durable = DurablePolicy(policy, memory, 3, interrupt=interrupt)
    with pytest.raises(JobInterrupted):
        durable.generate(CALLS)
    assert memory.batches == [3, 3]
    assert durable.generate(CALLS[:6]) == answers_to(CALLS[:6])  # what is known still comes
    with pytest.raises(JobInterrupted):
        durable.generate(CALLS)
    assert len(policy.asked) == 2


def test_a_chunk_must_hold_something() -> None:
    with pytest.raises(ValueError, match="chunk_size"):
        DurablePolicy(samples.StubPolicy(), Memory(), 0)
