"""A prompt with a system message or earlier turns, as one text.

`Prompt.text` and `Problem.text` are single texts, by which questions are identified, compared and stored. A
conversation is written into one as a transcript whose turns begin with an invisible mark (U+2063) and a name:

    System: Answer in one line.

    User: What is 2 + 3?

    Assistant: 5

    User: And twice that?

The solver gets the turns back (`turns_of`), a judge the transcript without marks (`shown_text`). The mark is taken out
of every text that is read from a file, so a question cannot spell a turn.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from svd_loop.contracts.records import Message

MARK = "\u2063"
_NAMES = {"system": "System", "user": "User", "assistant": "Assistant"}
_ROLES = {name: role for role, name in _NAMES.items()}
_TURN = re.compile(rf"(?:^|\n\n){MARK}({'|'.join(_ROLES)}): ")


def conversation_text(turns: Sequence[Message]) -> str:
    """The turns as one text; a single user turn is its content alone."""
    if [turn.role for turn in turns] == ["user"]:
        return turns[0].content
    return "\n\n".join(f"{MARK}{_NAMES[turn.role]}: {turn.content}" for turn in turns)


def turns_of(text: str) -> tuple[Message, ...]:
    """The turns of a text; a plain question is one user turn."""
    if not text.startswith(MARK) or not (parts := _TURN.split(text)[1:]):
        return (Message("user", text),)
    return tuple(Message(_ROLES[name], content) for name, content in zip(parts[::2], parts[1::2], strict=True))


def shown_text(text: str) -> str:
    """The text for a reader: a conversation as a transcript."""
    return text.replace(MARK, "") if text.startswith(MARK) else text


def as_data(text: str) -> str | list[dict[str, str]]:
    """The text as a row of a file holds it: a string, or a list of messages."""
    turns = turns_of(text)
    if len(turns) == 1:
        return turns[0].content
    return [{"role": turn.role, "content": turn.content} for turn in turns]
