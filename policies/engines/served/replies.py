"""Parse and validate the server's answers.

A server is a third-party program, or something else that listens on its port. Whatever it sends becomes one of the
records below, or a short `ReplyError`: never a traceback, and never invalid token ids.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StrictInt, StrictStr, ValidationError

LARGEST_REPLY = 16 * 2**20
"""Bytes; an answer of 131,072 tokens with its prompt, both as ids, is about 2 MiB. JSON of empty lists takes 25 times
its size in memory once it is parsed."""
QUOTED = 500
"""Most characters of a server's message in an error."""
_TokenId = Annotated[StrictInt, Field(ge=0, lt=2**31)]


class ReplyError(Exception):
    """An answer has another format than requested; the message says what is wrong."""


class _Reply(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


_Read = TypeVar("_Read", bound=_Reply)


class ModelCard(_Reply):
    """A model as a server lists it; `longest` is its context in tokens, `parent` an adapter's base."""

    name: StrictStr = Field(alias="id", max_length=4096)
    parent: StrictStr | None = None
    longest: StrictInt | None = Field(default=None, alias="max_model_len")


class _Models(_Reply):
    data: list[ModelCard]


class _PromptDetails(_Reply):
    cached_tokens: StrictInt | None = None


class _Usage(_Reply):
    prompt_tokens_details: _PromptDetails | None = None


class Choice(_Reply):
    """The continuation of a prompt; `token_ids` and `prompt_token_ids` are None if the server returns no ids."""

    token_ids: list[_TokenId] | None = None
    prompt_token_ids: list[_TokenId] | None = None
    finish_reason: Annotated[StrictStr, Field(max_length=100)] | None = None
    logprobs: Any = None


class Completion(_Reply):
    """An answer to a completion request."""

    choices: list[Choice] = Field(min_length=1, max_length=1)
    usage: _Usage | None = None

    @property
    def choice(self) -> Choice:
        """The only choice, because only one is requested."""
        return self.choices[0]

    @property
    def cached_tokens(self) -> int:
        """Prompt tokens that came from the server's prefix cache; 0 if it does not say."""
        details = self.usage.prompt_tokens_details if self.usage else None
        return (details.cached_tokens or 0) if details else 0


def read_json(text: str) -> Any:
    """Parse a JSON text.

    Raises:
        ReplyError: it is not JSON, is nested too deeply, or holds a number with too many digits.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise ReplyError(f"answered with something that is not JSON: {printable(text)!r}") from None


def read_completion(found: Any) -> Completion:
    """Validate a completion.

    Raises:
        ReplyError: the answer has another shape; names the first thing that is wrong.
    """
    return _validated(Completion, found, "completion")


def read_models(found: Any) -> list[ModelCard]:
    """The models that a server lists.

    Raises:
        ReplyError: as `read_completion`.
    """
    return _validated(_Models, found, "list of models").data


def printable(text: str, secret: str | None = None) -> str:
    """A server's message as quoted in errors: short, without control characters and without the key."""
    if secret:
        text = text.replace(secret, "(the key)")
    shown = "".join(character if character.isprintable() else " " for character in text[: 4 * QUOTED])
    return shown.strip()[:QUOTED]


def _validated(model: type[_Read], found: Any, what: str) -> _Read:
    try:
        return model.model_validate(found)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "the answer"
        raise ReplyError(f"answered with something that is not a {what}: {place}: {first['msg']}") from None
