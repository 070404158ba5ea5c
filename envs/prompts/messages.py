"""Read the messages of a row: a system message, earlier turns, and the question."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from svd_loop.contracts import Message
from svd_loop.contracts.conversation import conversation_text
from svd_loop.errors import DataError


def ends_with_answer(value: Any) -> bool:
    """Whether a list of messages ends with an assistant's turn, as rows of training sets do."""
    return isinstance(value, list) and len(value) > 1 and _role(value[-1]) == "assistant"


def messages_text(value: Sequence[Any], what: str, usable: Callable[[str, str], str]) -> str:
    """Return messages as one text (`svd_loop.contracts.conversation`), without a final assistant's turn.

    Args:
        value: objects with `role` and `content`.
        what: file, line and field, for messages.
        usable: checks and cleans the text of a turn.

    Raises:
        DataError: a message is not one, or the roles do not alternate from the user's turn to the user's question.
    """
    turns = value[:-1] if ends_with_answer(value) else value
    found = []
    for place, turn in enumerate(turns, start=1):
        content = turn.get("content") if isinstance(turn, dict) else None
        if not isinstance(content, str):
            raise DataError(f'{what}, message {place}: must be {{"role": ..., "content": text}}, found {turn!r:.60}')
        found.append(Message(_role(turn), usable(content, f"{what}, message {place}")))
    roles = [turn.role for turn in found]
    first = roles[:1] == ["system"]
    wanted = ["system"] * first + ["user" if place % 2 == 0 else "assistant" for place in range(len(roles) - first)]
    if roles != wanted or roles[-1:] != ["user"]:
        raise DataError(
            f"{what}: roles must be an optional system, then user and assistant in turn, and the question last, "
            f"found {', '.join(roles) or 'no message'}"
        )
    return conversation_text(found)


def _role(turn: Any) -> str:
    return str(turn.get("role")) if isinstance(turn, dict) else ""
