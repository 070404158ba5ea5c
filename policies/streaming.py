"""A policy's calls in flight over an engine's stream: texts to token ids on the way in, and back on the way out."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import count
from typing import Protocol

from svd_loop.contracts import AgentCall, CallId, FinishReason, Generation, GenerationRequest, GenerationStream, Reply

UNANSWERED = Generation((), FinishReason.LENGTH)
"""The answer to a call that did not fit the context."""

_Prompt = tuple[int, ...]


class Codec(Protocol):
    """What the stream needs of a policy."""

    def requests(self, calls: Sequence[AgentCall]) -> tuple[list[_Prompt], list[GenerationRequest | None]]:
        """The token ids of calls, and what the engine is asked; None for a call that is not asked."""
        ...

    def replies(
        self, calls: Sequence[AgentCall], prompts: Sequence[_Prompt], generations: Sequence[Generation]
    ) -> list[Reply]:
        """The replies that an engine's answers are."""
        ...


class PolicyStream:
    """Implements `svd_loop.contracts.CallStream`.

    Args:
        codec: the policy.
        engine: its engine's stream; closed with this one.
    """

    def __init__(self, codec: Codec, engine: GenerationStream) -> None:
        self._codec = codec
        self._engine = engine
        self._numbers = count()
        self._open: dict[int, tuple[AgentCall, _Prompt]] = {}
        self._number_of: dict[CallId, int] = {}
        self._unasked: list[tuple[int, Generation]] = []

    @property
    def slots(self) -> int:
        """The engine's."""
        return self._engine.slots

    def put(self, calls: Sequence[AgentCall]) -> None:
        """Queue calls.

        Raises:
            DataError: a solver's prompt leaves no room for its answer.
        """
        asked: list[tuple[int, GenerationRequest]] = []
        for call, prompt, request in zip(calls, *self._codec.requests(calls), strict=True):
            number = next(self._numbers)
            self._open[number], self._number_of[call.id] = (call, prompt), number
            if request is None:
                self._unasked.append((number, UNANSWERED))
            else:
                asked.append((number, request))
        self._engine.put(asked)

    def drop(self, calls: Collection[CallId]) -> None:
        """Forget calls."""
        numbers = [number for call in calls if (number := self._number_of.pop(call, None)) is not None]
        for number in numbers:
            del self._open[number]
        self._engine.drop(numbers)

    def take(self) -> list[Reply]:
        """Wait for replies.

        Raises:
            EngineError: the engine failed.
        """
        answers = [(number, answer) for number, answer in self._unasked if number in self._open]
        self._unasked = []
        answers = answers or self._engine.take()
        calls, prompts = [], []
        for number, _ in answers:
            call, prompt = self._open.pop(number)
            del self._number_of[call.id]
            calls.append(call)
            prompts.append(prompt)
        return self._codec.replies(calls, prompts, [answer for _, answer in answers])

    def close(self) -> None:
        """Drop everything and close the engine's stream."""
        self._open.clear()
        self._number_of.clear()
        self._engine.close()
