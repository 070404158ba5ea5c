r"""Between messages and token ids: chat template, special tokens, stop tokens.

Everything that may be wrong with a tokenizer is found when it is loaded, not in the middle of a round. Content can
never forge a turn: a special token spelled out inside a message (`<|im_end|>`) is broken up before it is encoded.

Padding: batches are padded on the left with a masked id, and losses are masked by length, so the project itself
never looks at which id pads. Other tools do: where padding and end of answer are one token, they hide the ends of
answers from training, and the exported model never learns to stop. Such a tokenizer is refused; one without a
padding token is fine.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from svd_loop.contracts import Message
from svd_loop.errors import ModelError

_CACHE_LIMIT = 20_000
"""Encoded prompts remembered; votes repeat the same messages."""


class ChatCodec:
    """A tokenizer with what is needed to talk to its model.

    Args:
        tokenizer: a fast tokenizer of transformers.
        stop_ids: tokens that end an answer.
        plain: render messages as plain paragraphs instead of through the chat template (base models).
        thinking: passed to templates that know `enable_thinking`.
        name: names the checkpoint in errors.
    """

    def __init__(
        self, tokenizer: Any, stop_ids: frozenset[int], *, plain: bool = False, thinking: bool = False, name: str = ""
    ) -> None:
        self.tokenizer = tokenizer
        self.stop_ids = stop_ids
        self.plain = plain
        self.thinking = thinking
        self._name = name
        self._specials = special_tokens(tokenizer)
        self._cache: dict[tuple[Message, ...], tuple[int, ...]] = {}
        self.template_keywords: dict[str, bool] = (
            {"enable_thinking": thinking} if not plain and "enable_thinking" in tokenizer.chat_template else {}
        )
        self.takes_system = plain or self._renders([Message("system", "s"), Message("user", "u")])

    @classmethod
    def load(cls, checkpoint: Path | str, *, plain: bool = False, thinking: bool = False) -> ChatCodec:
        """Read and check the tokenizer of a checkpoint.

        Args:
            checkpoint: a checkpoint folder or hub name.
            plain: do without a chat template.
            thinking: let a reasoning model think, where its template can be asked not to.

        Raises:
            ModelError: no tokenizer, no chat template (unless `plain`), padding that equals a stop token, or no stop
                token at all; says what to change.
        """
        from transformers import AutoTokenizer

        try:
            tokenizer = AutoTokenizer.from_pretrained(str(checkpoint))
        except (OSError, ValueError, KeyError, ImportError) as error:
            raise ModelError(f"model.path: {checkpoint}: its tokenizer cannot be loaded: {error}") from error
        if not plain and not tokenizer.chat_template:
            raise ModelError(f"model.path: {checkpoint} has no chat template. Take the post-trained (chat) variant of "
                             "the model, put a chat_template.jinja beside its tokenizer, or set model.templates: "
                             "plain for a base model")  # fmt: skip
        stop_ids = frozenset(_generation_stops(checkpoint) | _tokenizer_stops(tokenizer, plain))
        if not stop_ids:
            raise ModelError(f"model.path: {checkpoint} names no stop token; set eos_token_id in its "
                             "generation_config.json")  # fmt: skip
        if tokenizer.pad_token_id is not None and tokenizer.pad_token_id in stop_ids:
            raise ModelError(f"model.path: {checkpoint} pads with {tokenizer.pad_token!r} (id "
                             f"{tokenizer.pad_token_id}), which also ends an answer; tools that mask padding would "
                             "hide the ends of answers. Set pad_token in its tokenizer_config.json to a token that "
                             "ends nothing, or remove it")  # fmt: skip
        return cls(tokenizer, stop_ids, plain=plain, thinking=thinking, name=str(checkpoint))

    @property
    def identity(self) -> str:
        """What decides the encoding beside tokenizer and messages; part of an answer's key."""
        return f"plain={self.plain} thinking={self.thinking}"

    @property
    def pad_id(self) -> int:
        """An id to fill with: the padding token, else the smallest id that ends nothing."""
        if self.tokenizer.pad_token_id is not None:
            return int(self.tokenizer.pad_token_id)
        return next(index for index in range(len(self.stop_ids) + 1) if index not in self.stop_ids)

    def encode(self, conversations: Sequence[tuple[Message, ...]]) -> list[tuple[int, ...]]:
        """Token ids of each conversation, up to where the answer begins; equal conversations are encoded once.

        Raises:
            ModelError: the chat template refuses a conversation.
        """
        missing = [x for x in dict.fromkeys(conversations) if x not in self._cache]
        if len(self._cache) + len(missing) > _CACHE_LIMIT:
            missing = list(dict.fromkeys(conversations))
            self._cache.clear()
        if missing:
            texts = [self._render(messages) for messages in missing]
            # The template writes special tokens itself; a plain text needs those of the tokenizer.
            encoded = self.tokenizer(texts, add_special_tokens=self.plain)["input_ids"]
            self._cache.update(zip(missing, map(tuple, encoded), strict=True))
        return [self._cache[messages] for messages in conversations]

    def decode(self, answers: Sequence[tuple[int, ...]]) -> list[str]:
        """The text of each answer without special tokens."""
        texts: list[str] = self.tokenizer.batch_decode(
            [list(ids) for ids in answers], skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return texts

    def _render(self, messages: Sequence[Message]) -> str:
        if self.plain:
            return "".join(f"{self._neutral(message.content)}\n\n" for message in messages)
        if not self.takes_system:
            messages = _fold_system(messages)
        turns = [{"role": message.role, "content": self._neutral(message.content)} for message in messages]
        from jinja2 import TemplateError

        try:
            text: str = self.tokenizer.apply_chat_template(
                turns, tokenize=False, add_generation_prompt=True, **self.template_keywords
            )
        except TemplateError as error:
            raise ModelError(f"model.path: {self._name}: its chat template refuses a conversation: {error}") from error
        return text

    def _renders(self, messages: Sequence[Message]) -> bool:
        """Whether the template accepts `messages` (Gemma's, for one, refuses a system turn)."""
        self.takes_system = True
        try:
            self._render(messages)
        except ModelError:
            return False
        return True

    def _neutral(self, content: str) -> str:
        """`content` with every spelled-out special token broken after its first character."""
        for token in self._specials:
            content = content.replace(token, f"{token[0]} {token[1:]}")
        return content


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


def _generation_stops(checkpoint: Path | str) -> set[int]:
    """`eos_token_id` of the checkpoint's generation configuration, a number or a list."""
    from transformers import GenerationConfig

    try:
        stops = GenerationConfig.from_pretrained(str(checkpoint)).eos_token_id
    except OSError:
        return set()
    return set() if stops is None else {stops} if isinstance(stops, int) else set(stops)


def _tokenizer_stops(tokenizer: Any, plain: bool) -> set[int]:
    """The tokenizer's end of text, and the special token its chat template puts behind an answer."""
    stops = set() if tokenizer.eos_token_id is None else {int(tokenizer.eos_token_id)}
    if plain:
        return stops
    answer = "7f3a"
    turns = [{"role": "user", "content": "u"}, {"role": "assistant", "content": answer}]
    text: str = tokenizer.apply_chat_template(turns, tokenize=False)
    tail = tokenizer(text.rpartition(answer)[2].lstrip(), add_special_tokens=False)["input_ids"]
    specials = {index for index, token in tokenizer.added_tokens_decoder.items() if token.special}
    return stops | {int(index) for index in tail[:1] if index in specials}
