"""A plain function as a policy: for judging and playing with any model that can be called."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any, Literal, cast

from svd_loop.contracts import AgentCall, FinishReason, Policy, PolicyVersion, Reply
from svd_loop.errors import EngineError

Takes = Literal["text", "messages"]


class CallablePolicy:
    """A function from a text, or from messages, to the model's answer.

    Args:
        function: called once for each call of the policy, in order.
        takes: `text` passes the messages' contents joined by blank lines; `messages` a list of `role` and `content`.
    """

    def __init__(self, function: Callable[[Any], str], *, takes: Takes = "text") -> None:
        self._function = function
        self._takes = takes
        name = getattr(function, "__qualname__", type(function).__qualname__)
        self.version = PolicyVersion(0, hashlib.sha256(f"{name} {takes}".encode()).hexdigest())

    def key(self, call: AgentCall) -> str:
        """SHA-256 over the version and the whole call."""
        return hashlib.sha256(repr((self.version, call)).encode("utf-8", "surrogatepass")).hexdigest()

    def generate(self, calls: Sequence[AgentCall]) -> list[Reply]:
        """Answer all calls, in their order.

        Raises:
            EngineError: the function returned something other than a text.
        """
        return [Reply(call.id, self._answer(call), FinishReason.STOP, self.version) for call in calls]

    def close(self) -> None:
        """Do nothing; no resources are held."""

    def _answer(self, call: AgentCall) -> str:
        messages = [{"role": turn.role, "content": turn.content} for turn in call.messages]
        given = messages if self._takes == "messages" else "\n\n".join(turn["content"] for turn in messages)
        answer = self._function(given)
        if not isinstance(answer, str):
            raise EngineError(f"the model must return a text, found {type(answer).__name__} for {call.id}")
        return answer


def as_policy(model: Callable[[Any], str] | Policy, takes: Takes = "text") -> Policy:
    """Return a policy as it is, and a function as one."""
    return cast(Policy, model) if hasattr(model, "generate") else CallablePolicy(cast(Any, model), takes=takes)
