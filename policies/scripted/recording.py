"""Play back recorded (`--record FILE`) or hand-written replies, by the call they answer."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from svd_loop.config.stages import known_roles
from svd_loop.contracts import AgentCall, CallId, FinishReason
from svd_loop.errors import DataError, EngineError

_CALL_FIELDS = ("purpose", "round", "role", "prompt_id", "candidate", "stage", "vote", "attempt")
_Key = tuple[CallId, int | None]


class RecordedScript:
    """Plays back JSON Lines with one reply each.

    Required per line: `role`, `prompt_id`, `text`. Optional: `purpose` (train), `round` (0), `candidate` (0), `stage`
    (empty), `vote` (0), `attempt` (0), `finish_reason` (stop), and `policy_round`, the round of the version that
    answered: held-out questions are the same calls for every version, so only this distinguishes their replies. A line
    without `policy_round` answers for all versions.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._replies = _read(path)

    def answer(self, call: AgentCall, seed: int, policy_round: int) -> tuple[str, FinishReason]:
        """The recorded reply.

        Raises:
            EngineError: There is no reply for this call.
        """
        for key in ((call.id, policy_round), (call.id, None)):
            if key in self._replies:
                return self._replies[key]
        wanted = ", ".join(f"{name}={value}" for name, value in asdict(call.id).items())
        raise EngineError(f"{self._path}: no recorded reply for {wanted}, policy_round={policy_round}")


def _read(path: Path) -> dict[_Key, tuple[str, FinishReason]]:
    replies: dict[_Key, tuple[str, FinishReason]] = {}
    try:
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                if not line.strip():
                    continue
                key, reply = _parse(line, f"{path}:{number}")
                if replies.setdefault(key, reply) != reply:
                    raise DataError(f"{path}:{number}: a second, different reply to the same call")
    except OSError as error:
        raise DataError(f"{path}: recorded replies cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: recorded replies are not UTF-8: {error.reason}") from None
    return replies


def _parse(line: str, where: str) -> tuple[_Key, tuple[str, FinishReason]]:
    try:
        row: Any = json.loads(line)
    except json.JSONDecodeError as error:
        raise DataError(f"{where}: not valid JSON: {error.msg}") from None
    if not isinstance(row, dict):
        raise DataError(f"{where}: a recorded reply is a JSON object, found {type(row).__name__}")
    if missing := [name for name in ("role", "prompt_id", "text") if not isinstance(row.get(name), str)]:
        raise DataError(f"{where}: a recorded reply needs {', '.join(missing)} as text")
    fields = {"purpose": "train", "round": 0, **{name: row[name] for name in _CALL_FIELDS if name in row}}
    for name in ("round", "candidate", "vote", "attempt", "policy_round"):
        if not isinstance(row.get(name, 0), int):
            raise DataError(f"{where}: {name} must be a whole number, found {row[name]!r}")
    try:
        if row["role"] not in known_roles():
            raise ValueError(f"{row['role']!r} is no role; known: {', '.join(known_roles())}")
        call = CallId(**fields)
        reply = row["text"], FinishReason(row.get("finish_reason", FinishReason.STOP))
    except ValueError as error:
        raise DataError(f"{where}: {error}") from None
    return (call, row.get("policy_round")), reply
