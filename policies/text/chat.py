r"""Between messages and token ids: chat template, special tokens, stop tokens, thoughts.

Everything that may be wrong with a tokenizer is found when it is loaded, not in the middle of a round. Content can
never forge a turn or a thought: whatever the tokenizer, the template or the model uses to part them (`<|im_end|>`,
`[/INST]`, `</think>`) is broken up where content spells it out.

Padding: batches are padded on the left with a masked id, and losses are masked by length, so the project itself
never looks at which id pads. Other tools do: where padding and the end of a turn are one token, they hide the ends of
answers from training, and the exported model never learns to stop. Such a tokenizer is refused. One without a
padding token is fine, and so is one that pads with the end of a *document* (Qwen3's `<|endoftext|>`) while its turns
end in something else.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from policies.text.stop_tokens import find_stop_tokens
from policies.text.thoughts import ThoughtReader, spread_apart
from svd_loop.contracts import THOUGHT_MARKS, Message
from svd_loop.errors import ModelError

_CACHE_LIMIT = 20_000
"""Encoded prompts remembered; votes repeat the same messages."""
_SWITCHES = ("enable_thinking", "thinking")
"""Names under which templates know a switch for thinking (Qwen3, SmolLM3; DeepSeek-V3.1, Granite)."""
_TAG = re.compile(r"<{1,2}[^<>\s]{1,40}>{1,2}|\[/?[A-Z_]{2,40}\]")
"""What templates part turns with where it is no special token: `[/INST]`, `<<SYS>>`, `<|user|>`."""
_HELLO = (Message("user", "u"),)
_SENTINEL = "7f3a"
"""Text that no template contains by itself."""


class ChatCodec:
    """A tokenizer with what is needed to talk to its model.

    Args:
        tokenizer: a fast tokenizer of transformers.
        stop_ids: tokens that end an answer.
        plain: render messages as plain paragraphs instead of through the chat template (base models).
        thought: what the model writes before and behind a thought; None where it marks none.
        name: names the checkpoint in errors.
    """

    def __init__(
        self,
        tokenizer: Any,
        stop_ids: frozenset[int],
        *,
        plain: bool = False,
        thought: tuple[str, str] | None = THOUGHT_MARKS,
        name: str = "",
    ) -> None:
        self.tokenizer = tokenizer
        self.stop_ids = stop_ids
        self.plain = plain
        self._thought = thought
        self._name = name
        self._cache: dict[tuple[bool, tuple[Message, ...]], tuple[int, ...]] = {}
        self._reader = ThoughtReader(tokenizer, thought)
        self.control: list[str] = []
        self.takes_system = True
        self.takes_system = plain or self._shows_system()
        control = {*special_tokens(tokenizer), *THOUGHT_MARKS, *(thought or ()), *self._template_tags()}
        self.control = sorted(control, key=lambda token: (-len(token), token))
        prompts = {thinking: self._render(_HELLO, thinking) for thinking in (False, True)}
        self._switches = prompts[False] != prompts[True]
        self._opens = {thinking: self._ends_inside(prompt) for thinking, prompt in prompts.items()}

    @property
    def template_keywords(self) -> dict[str, bool]:
        """What its template is told for an answer without a thought."""
        return dict.fromkeys(_SWITCHES, False) if self._switches else {}

    @classmethod
    def load(
        cls, checkpoint: Path | str, *, plain: bool = False, thought: tuple[str, str] | None = THOUGHT_MARKS
    ) -> ChatCodec:
        """Read and check the tokenizer of a checkpoint.

        Args:
            checkpoint: a checkpoint folder or hub name.
            plain: do without a chat template.
            thought: the marks of the model's thoughts; None for none.

        Raises:
            ModelError: no tokenizer, no chat template (unless `plain`), padding that equals the end of a turn, or no
                stop token at all; says what to change.
        """
        from transformers import AutoTokenizer

        try:
            tokenizer = AutoTokenizer.from_pretrained(str(checkpoint))
        except (OSError, ValueError, KeyError, ImportError) as error:
            raise ModelError(f"model.path: {checkpoint}: its tokenizer cannot be loaded: {error}") from error
        if not plain and not tokenizer.chat_template:
            raise ModelError(
                f"model.path: {checkpoint} has no chat template. Take the post-trained (chat) variant of "
                "the model, put a chat_template.jinja beside its tokenizer, or set model.templates: "
                "plain for a base model"
            )
        stops = find_stop_tokens(checkpoint, tokenizer, plain=plain)
        if not stops.ids:
            raise ModelError(
                f"model.path: {checkpoint} names no stop token; set eos_token_id in its generation_config.json"
            )
        if tokenizer.pad_token_id is not None and tokenizer.pad_token_id == stops.turn_end:
            raise ModelError(
                f"model.path: {checkpoint} pads with {tokenizer.pad_token!r} (id "
                f"{tokenizer.pad_token_id}), which also ends an answer; tools that mask padding would "
                "hide the ends of answers. Set pad_token in its tokenizer_config.json to a token that "
                "ends nothing, or remove it"
            )
        return cls(tokenizer, stops.ids, plain=plain, thought=thought, name=str(checkpoint))

    @property
    def can_think(self) -> bool:
        """Whether `thinking` makes a difference, or the template opens a thought in any case."""
        return self._switches or self._opens[True]

    @property
    def always_thinks(self) -> bool:
        """Whether the template opens a thought even where thinking is switched off."""
        return self._opens[False]

    def identity(self, thinking: bool = False) -> str:
        """What decides the encoding and the reading beside tokenizer and messages; part of an answer's key."""
        marks = "" if self._thought == THOUGHT_MARKS else f" thought={self._thought}"
        return f"plain={self.plain} thinking={thinking}{marks}"

    @property
    def pad_id(self) -> int:
        """An id to fill with: the padding token, or the smallest id, that ends nothing."""
        if self.tokenizer.pad_token_id is not None and self.tokenizer.pad_token_id not in self.stop_ids:
            return int(self.tokenizer.pad_token_id)
        return next(index for index in range(len(self.stop_ids) + 1) if index not in self.stop_ids)

    def encode(self, conversations: Sequence[tuple[Message, ...]], *, thinking: bool = False) -> list[tuple[int, ...]]:
        """Token ids of each conversation, up to where the answer begins; equal conversations are encoded once.

        Raises:
            ModelError: the chat template refuses a conversation, or cannot be told to let the model think.
        """
        if thinking and not self.can_think:
            raise ModelError(
                f"model.path: {self._name}: a role has thinking: true, but the chat template has no "
                f"switch for it ({' or '.join(_SWITCHES)}) and opens no thought by itself; set it to "
                "false"
            )
        keys = [(thinking, messages) for messages in conversations]
        missing = [key for key in dict.fromkeys(keys) if key not in self._cache]
        if len(self._cache) + len(missing) > _CACHE_LIMIT:
            missing = list(dict.fromkeys(keys))
            self._cache.clear()
        if missing:
            self._cache.update(zip(missing, map(tuple, self._tokens(missing)), strict=True))
        return [self._cache[key] for key in keys]

    def decode(self, answers: Sequence[tuple[int, ...]], *, thinking: bool = False) -> list[str]:
        """The text of each answer without stop and special tokens, a thought between `THOUGHT_MARKS`."""
        return self._reader.read([self._body(ids) for ids in answers], inside=self._opens[thinking])

    def answer_tokens(self, ids: tuple[int, ...], *, thinking: bool = False) -> int:
        """Tokens of an answer behind its thought; 0 where the thought never closes."""
        return self._reader.answer_tokens(self._body(ids), inside=self._opens[thinking])

    def _body(self, ids: tuple[int, ...]) -> tuple[int, ...]:
        """An answer without the stop token it ends in, which need not be a special one (`<end_of_turn>` of Gemma)."""
        return ids[:-1] if ids and ids[-1] in self.stop_ids else ids

    def _tokens(self, keys: Sequence[tuple[bool, tuple[Message, ...]]]) -> list[list[int]]:
        texts = [self._render(messages, thinking) for thinking, messages in keys]
        # The template writes special tokens itself; a plain text needs those of the tokenizer, but no end of text.
        encoded: list[list[int]] = self.tokenizer(texts, add_special_tokens=self.plain)["input_ids"]
        end = self.tokenizer.eos_token_id
        return [ids[:-1] if self.plain and len(ids) > 1 and ids[-1] == end else ids for ids in encoded]

    def _render(self, messages: Sequence[Message], thinking: bool = False) -> str:
        if self.plain:
            return "".join(f"{self._neutral(message.content)}\n\n" for message in messages)
        if not self.takes_system:
            messages = _fold_system(messages)
        turns = [{"role": message.role, "content": self._neutral(message.content)} for message in messages]
        return self._templated(turns, dict.fromkeys(_SWITCHES, thinking), add_generation_prompt=True)

    def _templated(self, turns: Sequence[dict[str, str]], switches: dict[str, bool], **options: bool) -> str:
        from jinja2 import TemplateError

        try:
            text: str = self.tokenizer.apply_chat_template(turns, tokenize=False, **options, **switches)
        except TemplateError as error:
            raise ModelError(f"model.path: {self._name}: its chat template refuses a conversation: {error}") from error
        return text

    def _shows_system(self) -> bool:
        """Whether the template has a system turn: Gemma's refuses one, others drop it without a word."""
        try:
            return _SENTINEL in self._render((Message("system", _SENTINEL), *_HELLO))
        except ModelError:
            return False

    def _template_tags(self) -> set[str]:
        """What the template writes between turns, where it looks like a tag."""
        if self.plain:
            return set()
        turns = [{"role": role, "content": "u"} for role in ("system", "user", "assistant", "user")]
        for shown in (turns if self.takes_system else turns[1:], turns[1:2]):
            try:
                return set(_TAG.findall(self._templated(shown, {}, add_generation_prompt=True)))
            except ModelError:
                continue
        return set()

    def _ends_inside(self, prompt: str) -> bool:
        """Whether a rendered prompt leaves a thought open; content cannot, since marks in it are broken up."""
        return self._thought is not None and prompt.rfind(self._thought[0]) > prompt.rfind(self._thought[1])

    def _neutral(self, content: str) -> str:
        """`content` with every spelled-out control token broken after its first character."""
        return spread_apart(content, self.control)


def special_tokens(tokenizer: Any) -> list[str]:
    """The special tokens that a text could spell out, longest first."""
    added = (str(token) for token in tokenizer.added_tokens_decoder.values() if token.special)
    found = {token for token in {*tokenizer.all_special_tokens, *added} if len(token) > 1}
    return sorted(found, key=lambda token: (-len(token), token))


def _fold_system(messages: Sequence[Message]) -> list[Message]:
    """A leading system turn as the beginning of the first user turn."""
    if len(messages) < 2 or messages[0].role != "system":
        return list(messages)
    first = Message(messages[1].role, f"{messages[0].content}\n\n{messages[1].content}")
    return [first, *messages[2:]]
