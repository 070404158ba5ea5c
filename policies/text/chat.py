r"""Convert between messages and token ids: chat template, special tokens, stop tokens, thinking.

All faults of a tokenizer are detected when it is loaded, not in the middle of a round. Content
cannot forge a turn or a thought: the separators of the tokenizer, the template and the model (`<|im_end|>`,
`[/INST]`, `ASSISTANT:`, `</think>`) is broken up where content spells it out, and the ids of every conversation are
checked (`policies.text.forgery`). In `plain` mode there are no turns to forge, only paragraphs.

Padding: batches are padded on the left with a masked id, and losses are masked by length, so the project never looks
at which id pads: a tokenizer without a padding token is fine, and so is one that pads with the token that ends a turn
(SmolLM2). Other tools that train an exported version further may mask that token by its id; the log says so.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from policies.text.dates import DAY, OTHER_DAY, strftime_on
from policies.text.forgery import ForgeryCheck, control_ids, role_words
from policies.text.stop_tokens import TEMPLATE_SECONDS, find_stop_tokens
from policies.text.thoughts import ThoughtReader, spread_apart
from svd_loop.contracts import THOUGHT_MARKS, Choice, Message, shared_ids
from svd_loop.errors import ModelError, first_line
from svd_loop.support.bounded import OverrunError, run_bounded

log = logging.getLogger(__name__)

Result = TypeVar("Result")

_CACHED_IDS = 2**24
"""Token ids in the cache of encoded prompts (about 200 MB); votes repeat the same messages."""
_SWITCHES = ("enable_thinking", "thinking")
"""Template variables that switch thinking (Qwen3, SmolLM3; DeepSeek-V3.1, Granite)."""
_TAG = re.compile(r"<{1,2}[^<>\s]{1,40}>{1,2}|\[/?[A-Z_]{2,40}\]")
"""Separators of turns in templates that are not special tokens: `[/INST]`, `<<SYS>>`, `<|user|>`."""
_GROWN = 500_000
"""Most characters that a template may add to a conversation."""
_HELLO = (Message("user", "u"),)
_SENTINEL = "7f3a"
"""Text that no template contains by itself."""


class ChatCodec:
    """A tokenizer with the chat template and tokens of its model.

    Args:
        tokenizer: a fast tokenizer of transformers.
        stop_ids: tokens that end an answer.
        plain: render messages as plain paragraphs instead of through the chat template (base models).
        thought: the model's marks before and behind its thought; None if it has none.
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
        self._cached = 0
        self._choices: dict[tuple[str, ...], tuple[Choice, ...]] = {}
        self._reader = ThoughtReader(tokenizer, thought)
        self._forgery = ForgeryCheck(tokenizer, self._shown, special=plain, name=name)
        self.control: list[str] = []
        self.takes_system = True
        self._strftime = strftime_on(DAY)
        self._in_time(self._learn_template, TEMPLATE_SECONDS)

    def _in_time(self, work: Callable[[], Result], seconds: float) -> Result:
        """Run code that applies the template with a time limit, because the template is third-party code."""
        try:
            return run_bounded(work, seconds)
        except OverrunError:
            raise ModelError(f"model.path: {self._name}: its chat template does not end") from None

    def _learn_template(self) -> None:
        """Find out how the template works, by rendering short conversations."""
        self.takes_system = self.plain or self._shows_system()
        control = {*special_tokens(self.tokenizer), *THOUGHT_MARKS, *(self._thought or ()), *self._template_marks()}
        self.control = sorted(control, key=lambda token: (-len(token), token))
        self._refuse_deaf_template()
        self._dated = not self.plain and self._shows_date()
        prompts = {thinking: self._render(_HELLO, thinking) for thinking in (False, True)}
        self._switches = prompts[False] != prompts[True]
        self._opens = {thinking: self._ends_inside(prompt) for thinking, prompt in prompts.items()}

    @property
    def template_keywords(self) -> dict[str, bool]:
        """The template's variables for an answer without thinking."""
        return dict.fromkeys(_SWITCHES, False) if self._switches else {}

    @classmethod
    def load(
        cls, checkpoint: Path | str, *, plain: bool = False, thought: tuple[str, str] | None = THOUGHT_MARKS
    ) -> ChatCodec:
        """Read and check the tokenizer of a checkpoint.

        Args:
            checkpoint: a checkpoint folder or hub name.
            plain: use no chat template.
            thought: the marks of the model's thoughts; None for none.

        Raises:
            ModelError: no tokenizer, no chat template (unless `plain`), or no stop token at all; says what to change.
        """
        from transformers import AutoTokenizer

        try:
            tokenizer = AutoTokenizer.from_pretrained(str(checkpoint), trust_remote_code=False)
        except Exception as error:  # a third-party tokenizer may raise anything
            raise ModelError(
                f"model.path: {checkpoint}: its tokenizer cannot be loaded: {first_line(error)}"
            ) from error
        if not plain and not tokenizer.chat_template:
            raise ModelError(
                f"model.path: {checkpoint} has no chat template. Take the post-trained (chat) variant of "
                "the model, put a chat_template.jinja beside its tokenizer, or set model.templates: "
                "plain for a base model"
            )
        try:
            stops = find_stop_tokens(checkpoint, tokenizer, plain=plain)
        except OverrunError:
            raise ModelError(f"model.path: {checkpoint}: its chat template does not end") from None
        except (TypeError, ValueError, LookupError, AttributeError) as error:  # settings of the wrong types
            raise ModelError(
                f"model.path: {checkpoint}: its tokenizer's settings cannot be used: {first_line(error)}"
            ) from error
        if not stops.ids:
            raise ModelError(
                f"model.path: {checkpoint} names no stop token; set eos_token_id in its generation_config.json"
            )
        if tokenizer.pad_token_id is not None and tokenizer.pad_token_id == stops.turn_end:
            _say_how_it_pads(str(checkpoint), str(tokenizer.pad_token))
        return cls(tokenizer, stops.ids, plain=plain, thought=thought, name=str(checkpoint))

    @property
    def can_think(self) -> bool:
        """Whether `thinking` has an effect, or the template always opens a thought."""
        return self._switches or self._opens[True]

    def identity(self, thinking: bool = False) -> str:
        """Everything beside tokenizer and messages that affects encoding and decoding; part of an answer's key."""
        marks = "" if self._thought == THOUGHT_MARKS else f" thought={self._thought}"
        date = f" date={DAY:%Y-%m-%d}" if self._dated else ""
        return f"plain={self.plain} thinking={thinking}{marks}{date}"

    @property
    def pad_id(self) -> int:
        """An id to fill with: the padding token, or the smallest id, that ends nothing."""
        if self.tokenizer.pad_token_id is not None and self.tokenizer.pad_token_id not in self.stop_ids:
            return int(self.tokenizer.pad_token_id)
        return next(index for index in range(len(self.stop_ids) + 1) if index not in self.stop_ids)

    def encode(self, conversations: Sequence[tuple[Message, ...]], *, thinking: bool = False) -> list[tuple[int, ...]]:
        """Token ids of each conversation up to the start of the answer; equal conversations are encoded once.

        Raises:
            ModelError: the chat template refuses a conversation, or has no switch to enable thinking.
        """
        if thinking and not self.can_think:
            raise ModelError(
                f"model.path: {self._name}: a role has thinking: true (as under cascade.asking: think), but the chat "
                f"template has no switch for it ({' or '.join(_SWITCHES)}) and opens no thought by itself; set it to "
                "false, or choose another way of asking"
            )
        keys = [(thinking, messages) for messages in conversations]
        known = {key: ids for key in dict.fromkeys(keys) if (ids := self._cache.get(key)) is not None}
        missing = [key for key in dict.fromkeys(keys) if key not in known]
        if missing:
            new = dict(zip(missing, map(shared_ids, self._tokens(missing)), strict=True))
            known |= new
            self._cache |= new
            self._cached += sum(map(len, new.values()))
        while self._cached > _CACHED_IDS:
            self._cached -= len(self._cache.pop(next(iter(self._cache))))
        return [known[key] for key in keys]

    def decode(self, answers: Sequence[tuple[int, ...]], *, thinking: bool = False) -> list[str]:
        """The text of each answer without stop and special tokens, a thought between `THOUGHT_MARKS`."""
        return self._reader.read([self._body(ids) for ids in answers], inside=self._opens[thinking])

    def check_two_turns(self, texts: tuple[str, ...]) -> None:
        """Check that a reply can be put back as a turn, and that the next one can be limited to a few texts.

        Raises:
            ModelError: as `choices`, or the template leaves out a turn of a conversation.
        """
        self.choices(texts)
        said = [f"{_SENTINEL}{place}" for place in range(3)]
        roles = ("user", "assistant", "user")
        shown = self._render([Message(role, text) for role, text in zip(roles, said, strict=True)])
        if not all(text in shown for text in said):
            raise ModelError(
                f"model.path: {self._name}: its chat template leaves out an earlier turn of a conversation, so a judge "
                "cannot be asked for its verdict after its findings; set cascade.asking: think or direct"
            )

    def choices(self, texts: tuple[str, ...], *, thinking: bool = False) -> tuple[Choice, ...]:
        """The only possible answers of a call as token ids, each with the stop token behind it.

        Raises:
            ModelError: answers begin inside a thought, or the tokenizer does not give a text back as it was.
        """
        if not texts:
            return ()
        if self._opens[thinking]:
            raise ModelError(
                f"model.path: {self._name}: its chat template begins every answer with a thought, so a verdict cannot "
                "be limited to its markers; set cascade.asking: think or direct"
            )
        if texts not in self._choices:
            self._choices[texts] = tuple(self._choice(text) for text in texts)
        return self._choices[texts]

    def _choice(self, text: str) -> Choice:
        ids = tuple(self.tokenizer(text, add_special_tokens=False)["input_ids"])
        eos = self.tokenizer.eos_token_id
        choice = Choice(text, (*ids, eos if eos in self.stop_ids else min(self.stop_ids)))
        if not ids or self.decode([choice.token_ids]) != [text]:
            raise ModelError(f"model.path: {self._name}: its tokenizer does not give {text!r} back as it was")
        return choice

    def answer_tokens(self, ids: tuple[int, ...], *, thinking: bool = False) -> int:
        """Number of tokens of an answer behind its thought; 0 if the thought never closes."""
        return self._reader.answer_tokens(self._body(ids), inside=self._opens[thinking])

    def _body(self, ids: tuple[int, ...]) -> tuple[int, ...]:
        """An answer without its stop token, which need not be a special one (`<end_of_turn>` of Gemma)."""
        return ids[:-1] if ids and ids[-1] in self.stop_ids else ids

    def _tokens(self, keys: Sequence[tuple[bool, tuple[Message, ...]]]) -> list[list[int]]:
        prepared = [self._prepared(messages) for _, messages in keys]
        pairs = list(zip(prepared, (thinking for thinking, _ in keys), strict=True))
        seconds = TEMPLATE_SECONDS * (1 + len(pairs) / 100)
        texts = self._in_time(lambda: [self._shown(messages, thinking) for messages, thinking in pairs], seconds)
        # The template writes special tokens itself; a plain text needs those of the tokenizer, but no end of text.
        encoded: list[list[int]] = self.tokenizer(texts, add_special_tokens=self.plain)["input_ids"]
        encoded = [
            self._forgery.checked(ids, messages, thinking)
            for ids, messages, (thinking, _) in zip(encoded, prepared, keys, strict=True)
        ]
        end = self.tokenizer.eos_token_id
        return [ids[:-1] if self.plain and len(ids) > 1 and ids[-1] == end else ids for ids in encoded]

    def _render(self, messages: Sequence[Message], thinking: bool = False) -> str:
        return self._shown(self._prepared(messages), thinking)

    def _prepared(self, messages: Sequence[Message]) -> list[Message]:
        """The messages for the template: the system turn in its place, control tokens broken up."""
        folded = messages if self.plain or self.takes_system else _fold_system(messages)
        return [Message(message.role, self._neutral(message.content)) for message in folded]

    def _shown(self, prepared: Sequence[Message], thinking: bool) -> str:
        if self.plain:
            return "".join(f"{message.content}\n\n" for message in prepared)
        turns = [{"role": message.role, "content": message.content} for message in prepared]
        return self._templated(turns, dict.fromkeys(_SWITCHES, thinking), add_generation_prompt=True)

    def _templated(self, turns: Sequence[dict[str, str]], switches: dict[str, bool], **options: bool) -> str:
        try:
            text: str = self.tokenizer.apply_chat_template(
                turns, tokenize=False, strftime_now=self._strftime, **options, **switches
            )
        except OverrunError:
            raise
        except Exception as error:  # a template is third-party code: it can fail in any way
            raise ModelError(
                f"model.path: {self._name}: its chat template refuses a conversation: {first_line(error)}"
            ) from error
        if len(text) > _GROWN + 2 * sum(len(turn["content"]) for turn in turns):
            raise ModelError(
                f"model.path: {self._name}: its chat template makes {len(text):,} characters of a few words"
            )
        return text

    def _shows_system(self) -> bool:
        """Whether the template has a system turn: Gemma's refuses one, others ignore it."""
        system, user = f"{_SENTINEL}s", f"{_SENTINEL}u"
        try:
            shown = self._render((Message("system", system), Message("user", user)))
        except ModelError:
            return False
        return system in shown and user in shown

    def _shows_date(self) -> bool:
        """Whether the template writes the date, from what it makes of two days."""
        talks = [_HELLO, (Message("system", "s"), *_HELLO)]
        shown = {}
        for day in (OTHER_DAY, DAY):
            self._strftime = strftime_on(day)
            shown[day] = [self._render(talk, thinking) for talk in talks for thinking in (False, True)]
        return shown[OTHER_DAY] != shown[DAY]

    def _refuse_deaf_template(self) -> None:
        """Raise `ModelError` if the template leaves out the user's message."""
        if _SENTINEL not in self._render((Message("user", _SENTINEL),)):
            raise ModelError(f"model.path: {self._name}: its chat template leaves out what the user says")

    def _template_marks(self) -> set[str]:
        """The text that the template writes between turns, if it looks like a tag or a role name."""
        if self.plain:
            return set()
        turns = [
            {"role": role, "content": f"{_SENTINEL}{place}"}
            for place, role in enumerate(("system", "user", "assistant", "user"))
        ]
        for shown in (turns if self.takes_system else turns[1:], turns[1:2]):
            try:
                text = self._templated(shown, {}, add_generation_prompt=True)
            except ModelError:
                continue
            return set(_TAG.findall(text)) | role_words(re.split(rf"{_SENTINEL}\d", text))
        return set()

    def _ends_inside(self, prompt: str) -> bool:
        """Whether a rendered prompt leaves a thought open; content cannot, because its marks are broken up."""
        return self._thought is not None and prompt.rfind(self._thought[0]) > prompt.rfind(self._thought[1])

    def _neutral(self, content: str) -> str:
        """`content` with every spelled-out control token broken after its first character."""
        return spread_apart(content, self.control)


def special_tokens(tokenizer: Any) -> list[str]:
    """The special and added tokens that a text could spell out, longest first."""
    ids = control_ids(tokenizer)
    added = (str(token) for index, token in tokenizer.added_tokens_decoder.items() if index in ids)
    found = {token for token in {*tokenizer.all_special_tokens, *added} if len(token) > 1}
    return sorted(found, key=lambda token: (-len(token), token))


def _fold_system(messages: Sequence[Message]) -> list[Message]:
    """A leading system turn as the beginning of the first user turn."""
    if len(messages) < 2 or messages[0].role != "system":
        return list(messages)
    first = Message(messages[1].role, f"{messages[0].content}\n\n{messages[1].content}")
    return [first, *messages[2:]]


@lru_cache
def _say_how_it_pads(checkpoint: str, token: str) -> None:
    """Log once for each checkpoint, however often it is opened."""
    log.info(
        "model.path: %s pads with %r, which also ends an answer. Nothing here depends on it; other tools may "
        "hide the ends of answers when they train an exported version further",
        checkpoint,
        token,
    )
