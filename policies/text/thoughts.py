"""The thought of a reasoning model: where it ends, and how it is written in text.

A model marks its thought with two marks, `<think>` and `</think>` by default. In text they are always written as
`THOUGHT_MARKS`, so that code above the policy need not know a model's own marks. They are found in two ways:

- *On token ids*, where each mark is one token of the vocabulary. Whether such a token is "special" does not matter
  (Qwen3's are added tokens that are not special; skipping special tokens while decoding would lose another model's).
  A mark that is spelled out of other tokens is then a quotation, and is spread apart in the text.
- *In the text*, where a mark is not a token of its own.

Where the generation prompt already opened the thought (Qwen3-Thinking-2507, DeepSeek-R1), the answer begins inside it:
the opening mark is written in front of the text, so that an answer which never closes its thought has no final answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from svd_loop.contracts import THOUGHT_MARKS


class ThoughtReader:
    """Decodes answers, with their thoughts marked.

    Args:
        tokenizer: a fast tokenizer of transformers.
        marks: the model's marks before and behind its thought; None if it has none.
    """

    def __init__(self, tokenizer: Any, marks: tuple[str, str] | None) -> None:
        self._tokenizer = tokenizer
        self._marks = marks
        ids = [_single_token(tokenizer, mark) for mark in marks or ()]
        found = {token: mark for token, mark in zip(ids, THOUGHT_MARKS, strict=False) if token is not None}
        self._by_id: dict[int, str] = found if len(found) == len(THOUGHT_MARKS) else {}

    def read(self, answers: Sequence[tuple[int, ...]], *, inside: bool) -> list[str]:
        """The text of each answer without special tokens.

        Args:
            answers: sampled ids.
            inside: whether the answers begin inside a thought that the prompt opened.
        """
        parts = [self._split(ids) for ids in answers]
        flat = [segment for segments, _ in parts for segment in segments]
        decoded = iter(self._tokenizer.batch_decode(flat, skip_special_tokens=True, clean_up_tokenization_spaces=False))
        texts = []
        for segments, marks in parts:
            text = self._settled(next(decoded))
            for mark, _ in zip(marks, segments[1:], strict=True):
                text += mark + self._settled(next(decoded))
            texts.append(f"{THOUGHT_MARKS[0]}{text}" if inside and not _opens(text) else text)
        return texts

    def answer_tokens(self, ids: tuple[int, ...], *, inside: bool) -> int:
        """Number of tokens of the final answer: those behind the thought, or all if there is none."""
        if self._by_id:
            segments, marks = self._split(ids)
            if marks and marks[-1] == THOUGHT_MARKS[1]:
                return len(segments[-1])
            return 0 if marks or inside else len(ids)
        (text,) = self.read([ids], inside=inside)
        _, closed, answer = text.rpartition(THOUGHT_MARKS[1])
        if THOUGHT_MARKS[0] in answer:
            return 0
        return len(self._tokenizer(answer, add_special_tokens=False)["input_ids"]) if closed else len(ids)

    def _split(self, ids: tuple[int, ...]) -> tuple[list[list[int]], list[str]]:
        """The ids between the marks, and the marks between them."""
        if self._by_id.keys().isdisjoint(ids):
            return [list(ids)], []
        segments: list[list[int]] = [[]]
        marks: list[str] = []
        for token in ids:
            if token in self._by_id:
                marks.append(self._by_id[token])
                segments.append([])
            else:
                segments[-1].append(token)
        return segments, marks

    def _settled(self, text: str) -> str:
        """Decoded text whose marks are `THOUGHT_MARKS` and not quotations."""
        if self._marks == THOUGHT_MARKS and not self._by_id:
            return text
        text = spread_apart(text, THOUGHT_MARKS)
        if self._marks is None or self._by_id:
            return spread_apart(text, self._marks or ())
        for own, common in zip(self._marks, THOUGHT_MARKS, strict=True):
            text = text.replace(own, common)
        return text


def spread_apart(text: str, tokens: Sequence[str]) -> str:
    """`text` with each of `tokens` broken after its first character, so that it is read as a quotation."""
    for token in tokens:
        text = text.replace(token, f"{token[0]} {token[1:]}")
    return text


def _opens(text: str) -> bool:
    return text.lstrip().startswith(THOUGHT_MARKS[0])


def _single_token(tokenizer: Any, mark: str) -> int | None:
    """The one token a mark is encoded as, or None."""
    added = tokenizer.get_added_vocab().get(mark)
    if added is not None:
        return int(added)
    ids = tokenizer(mark, add_special_tokens=False)["input_ids"]
    return int(ids[0]) if len(ids) == 1 else None
