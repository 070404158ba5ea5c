"""The scripted policy: `Policy` over a script instead of an engine."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from policies.scripted.recording import RecordedScript
from policies.scripted.simulation import SimulatedScript, Traits
from svd_loop.contracts import AgentCall, FinishReason, PolicyVersion, Reply

STOP_ID = 256
"""Token id of the end of an answer; the ids below it are the bytes of UTF-8."""


class Script(Protocol):
    """A source of answers."""

    def answer(self, call: AgentCall, seed: int, policy_round: int) -> tuple[str, FinishReason]:
        """The text that answers `call`, and how it ends."""
        ...


class ScriptedPolicy:
    """Answers from a script; the same call, job seed and version always get the same answer.

    Tokens are bytes: `prompt_ids` and `token_ids` are UTF-8, with `STOP_ID` after an answer that ends by itself.
    """

    def __init__(self, script: Script, *, version: PolicyVersion, job_seed: int) -> None:
        self._script = script
        self._version = version
        self._job_seed = job_seed

    @classmethod
    def simulated(cls, traits: Traits, *, version: PolicyVersion, job_seed: int) -> ScriptedPolicy:
        """A simulated solver and judge."""
        return cls(SimulatedScript(traits), version=version, job_seed=job_seed)

    @classmethod
    def from_recording(cls, path: Path, *, version: PolicyVersion, job_seed: int) -> ScriptedPolicy:
        """Play recorded replies back; see `RecordedScript` for the file.

        Raises:
            DataError: The file cannot be read, or a line (named) is not a reply.
        """
        return cls(RecordedScript(path), version=version, job_seed=job_seed)

    @property
    def version(self) -> PolicyVersion:
        """The version that answers."""
        return self._version

    def key(self, call: AgentCall) -> str:
        """Content key of the answer (hex SHA-256)."""
        parts = [
            self._version.fingerprint,
            call.template_version,
            [(message.role, message.content) for message in call.messages],
            call.id.seed(self._job_seed),
        ]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    def generate(self, calls: Sequence[AgentCall]) -> list[Reply]:
        """Answer all calls, in their order.

        Raises:
            EngineError: A recording holds no reply for a call.
        """
        return [self._reply(call) for call in calls]

    def close(self) -> None:
        """Do nothing; no resources are held."""

    def _reply(self, call: AgentCall) -> Reply:
        text, finish = self._script.answer(call, call.id.seed(self._job_seed), self._version.round)
        prompt_ids = encode("\n".join(message.content for message in call.messages))
        token_ids = encode(text) + ((STOP_ID,) if finish is FinishReason.STOP else ())
        return Reply(
            call=call.id,
            text=text,
            finish_reason=finish,
            policy=self._version,
            prompt_ids=prompt_ids,
            token_ids=token_ids,
            prompt_tokens=len(prompt_ids),
            output_tokens=len(token_ids),
        )


def encode(text: str) -> tuple[int, ...]:
    """Text as byte tokens."""
    return tuple(text.encode())


def decode(ids: Sequence[int]) -> str:
    """Byte tokens as text, without the stop token; bytes cut in the middle of a character become U+FFFD."""
    return bytes(token for token in ids if token < STOP_ID).decode(errors="replace")
