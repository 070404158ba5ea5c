"""Prevent message content from being read as a template's control tokens.

Breaking up the spelling of control tokens is not enough. A tokenizer may normalise what it reads (full-width letters,
upper case, zero-width characters), so that text which spells no token is read as one; and tokens that were added
without being marked special (`<tool_call>`, `<|fim_prefix|>`) are found in text as well. So the ids are checked: a
conversation must hold just the control ids that its template writes around harmless text, and where it holds others,
the text that they came from is broken up until it does not.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from svd_loop.contracts import Message
from svd_loop.errors import ModelError

_ROLE_WORDS = re.compile(r"(?:^|[\s>\]])(#{1,6} ?[^\W\d_][\w ]{1,30}:?|[^\W\d_][\w ]{0,20}:)\s*\Z")
"""The text that plain-word templates write before a turn: `ASSISTANT:`, `### Response:`."""
_MOST_REPAIRS = 50
"""Repairs of one conversation before it is refused; each breaks every token found, so one nearly always suffices."""


def control_ids(tokenizer: Any) -> frozenset[int]:
    """Ids of added tokens that can have a meaning for a model: all but white space and plain words."""
    added = tokenizer.added_tokens_decoder
    return frozenset(
        int(index)
        for index, token in added.items()
        if str(token).strip() and (token.special or not str(token).isalnum())
    ) | frozenset(int(index) for index in tokenizer.all_special_ids if index is not None)


def role_words(pieces: Sequence[str]) -> set[str]:
    """The words that separate the turns of a plain-word template, from the text before each message.

    Args:
        pieces: the rendered text in front of each message, and in front of the answer.
    """
    return {match[1].strip() for piece in pieces if (match := _ROLE_WORDS.search(piece))}


class ForgeryCheck:
    """Finds and breaks up content that a tokenizer reads as a control token.

    Args:
        tokenizer: a fast tokenizer of transformers.
        render: messages, control tokens in them broken up already, to the text that is encoded.
        special: whether the tokenizer adds its own special tokens to the text (plain prompts).
        name: names the checkpoint in errors.
    """

    def __init__(
        self, tokenizer: Any, render: Callable[[Sequence[Message], bool], str], *, special: bool, name: str
    ) -> None:
        self._tokenizer = tokenizer
        self._render = render
        self._special = special
        self._name = name
        self._control = control_ids(tokenizer)
        self._expected: dict[tuple[bool, tuple[str, ...]], list[int]] = {}

    def checked(self, ids: list[int], messages: Sequence[Message], thinking: bool) -> list[int]:
        """The ids of a conversation; encoded again with content broken up if it forged a control token.

        Raises:
            ModelError: the text cannot be broken up, because the template does not show it as it is.
        """
        expected = self._expected_ids(tuple(message.role for message in messages), thinking)
        for _ in range(_MOST_REPAIRS):
            if self._control.isdisjoint(ids) or [token for token in ids if token in self._control] == expected:
                return ids
            messages, ids = self._repaired(messages, thinking)
        raise ModelError(
            f"model.path: {self._name}: its tokenizer reads a text as control tokens however it is broken up; "
            f"the text begins {messages[-1].content[:80]!r}"
        )

    def _expected_ids(self, roles: tuple[str, ...], thinking: bool) -> list[int]:
        key = (thinking, roles)
        if key not in self._expected:
            text = self._render([Message(role, "u") for role in roles], thinking)
            ids = self._tokenizer([text], add_special_tokens=self._special)["input_ids"][0]
            self._expected[key] = [token for token in ids if token in self._control]
        return self._expected[key]

    def _repaired(self, messages: Sequence[Message], thinking: bool) -> tuple[list[Message], list[int]]:
        """The messages with a space in every control token that their content was read as, and their ids."""
        text = self._render(messages, thinking)
        encoded = self._tokenizer(text, add_special_tokens=self._special, return_offsets_mapping=True)
        forged = [
            (start, end)
            for token, (start, end) in zip(encoded["input_ids"], encoded["offset_mapping"], strict=True)
            if token in self._control and end > start
        ]
        broken, place = [], 0
        for message in messages:
            content = message.content.strip()
            found = text.find(content, place)
            if found < 0:
                raise ModelError(f"model.path: {self._name}: its chat template does not show a message as it is")
            place = found + len(content)
            inside = [(start - found, end - found) for start, end in forged if found <= start < place]
            broken.append(Message(message.role, _broken(content, inside)))
        ids: list[int] = self._tokenizer([self._render(broken, thinking)], add_special_tokens=self._special)[
            "input_ids"
        ][0]
        return broken, ids


def _broken(content: str, spans: Sequence[tuple[int, int]]) -> str:
    """`content` with a space in the middle of each span; a single character that is a token is removed."""
    for start, end in reversed(spans):
        left, right = ((start + end) // 2, (start + end) // 2) if end - start > 1 else (start, end)
        content = f"{content[:left]} {content[right:]}"
    return content
