"""Asking the calls of several parts in the same batches."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from svd_loop.contracts import AgentCall, CallId, FinishReason, Message, Policy, PolicyVersion, Reply, Role
from svd_loop.errors import EngineError
from svd_loop.support.together import together

VERSION = PolicyVersion(0, "f")


class Batches:
    """Answers with the prompt's id and remembers the ids of every batch."""

    version = VERSION

    def __init__(self, failing: BaseException | None = None) -> None:
        self.seen: list[list[str]] = []
        self._failing = failing

    def key(self, call: AgentCall) -> str:
        return call.id.prompt_id

    def generate(self, calls: Sequence[AgentCall]) -> list[Reply]:
        self.seen.append([call.id.prompt_id for call in calls])
        if self._failing is not None:
            raise self._failing
        return [
            Reply(call.id, call.id.prompt_id, FinishReason.STOP, VERSION, prompt_tokens=1, output_tokens=1)
            for call in calls
        ]

    def close(self) -> None: ...


def asking(*waves: Sequence[str]) -> list[AgentCall]:
    return [
        AgentCall(CallId("train", 1, Role.SOLVER, name, candidate=0), (Message("user", name),), "v")
        for wave in waves
        for name in wave
    ]


def test_every_part_gets_its_own_replies_in_shared_batches() -> None:
    def twice(policy: Policy) -> list[str]:
        return [reply.text for wave in (["a", "b"], ["c"]) for reply in policy.generate(asking(wave))]

    def once(policy: Policy) -> list[str]:
        return [reply.text for reply in policy.generate(asking(["x"]))]

    policy = Batches()
    ended = together(policy, [twice, once, lambda policy: 7])
    assert [part.result() for part in ended] == [["a", "b", "c"], ["x"], 7]
    assert policy.seen == [["a", "b", "x"], ["c"]]


def test_a_parts_own_error_stays_its_own() -> None:
    def failing(policy: Policy) -> None:
        policy.generate(asking(["a"]))
        raise ValueError("mine")

    failed, fine = together(Batches(), [failing, lambda policy: len(policy.generate(asking(["x"])))])
    assert isinstance(failed.exception(), ValueError) and fine.result() == 1


def test_all_that_wait_get_the_error_of_the_policy() -> None:
    policy = Batches(EngineError("out of memory"))
    ended = together(policy, [lambda policy: policy.generate(asking(["a"])) for _ in range(3)])
    assert {str(part.exception()) for part in ended} == {"out of memory"} and len(policy.seen) == 1


def test_an_interrupt_ends_the_parts_and_comes_through() -> None:
    with pytest.raises(KeyboardInterrupt):
        together(Batches(KeyboardInterrupt()), [lambda policy: policy.generate(asking(["a"])) for _ in range(2)])
