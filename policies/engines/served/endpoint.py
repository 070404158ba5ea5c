"""HTTP client of one `vllm serve` replica: requests, retries, and the meaning of its errors.

There are three kinds of errors. After a transient one (408, 425, 429, 5xx, a broken connection or answer) a request is
sent again here, then makes the endpoint `Unavailable`. An endpoint that is gone is so at once. What the server refuses
(any other 4xx) ends the job with the server's words, since asking again would not change it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from time import time
from typing import Any

import aiohttp
import tenacity

from policies.engines.dispatch import Unavailable
from policies.engines.served.replies import (
    LARGEST_REPLY,
    Completion,
    ModelCard,
    ReplyError,
    printable,
    read_completion,
    read_json,
    read_models,
)
from svd_loop.config.engines import ServerEngineSection
from svd_loop.errors import ConfigError, EngineError, ModelError

_KEEP_ALIVE_SECONDS = 3.0
"""Idle connections are closed sooner than vLLM closes them (5 s), so that no request uses a closing one."""
_CONNECT_SECONDS = 10.0
_LONGEST_WAIT = 60.0
_PASSING = {408, 425, 429}
_NO_ADAPTER = "No adapter found"
_LOADED_ALREADY = "already been loaded"
"""vLLM's words."""


class _Transient(Exception):
    """An error after which a retry may help; after `retry_after` seconds, if the server says so."""

    def __init__(self, reason: str, retry_after: float | None = None) -> None:
        super().__init__(reason)
        self.retry_after = retry_after


class NotFound(Exception):
    """The server does not know the path or model; holds the server's message."""


@dataclass(frozen=True, slots=True)
class ClientOptions:
    """Options of the HTTP client; times in seconds.

    `key` is sent as a bearer token and never shown.
    """

    key: str | None
    retries: int
    backoff_seconds: float
    request_seconds: float
    health_seconds: float

    def __repr__(self) -> str:
        return f"ClientOptions(retries={self.retries})"


def client_options(settings: ServerEngineSection) -> ClientOptions:
    """Options of the HTTP client, with the key from the environment.

    Raises:
        ConfigError: the variable of `engine.api_key_env` is not set.
    """
    key = None
    if settings.api_key_env is not None:
        key = os.environ.get(settings.api_key_env)
        if not key:
            raise ConfigError(f"engine.api_key_env: the environment variable {settings.api_key_env} is not set")
    return ClientOptions(
        key, settings.retries, settings.backoff_seconds, settings.request_seconds, settings.heartbeat_seconds
    )


class Endpoint:
    """Client of one replica, within one event loop. Use as an asynchronous context manager.

    Args:
        url: base URL without `/v1`.
        options: time limits, retries and key.
    """

    def __init__(self, url: str, options: ClientOptions) -> None:
        self.url = url
        self._options = options
        headers = {"Accept-Encoding": "identity"}  # a compressed answer could expand without limit
        if options.key:
            headers["Authorization"] = f"Bearer {options.key}"
        self._session = aiohttp.ClientSession(
            headers=headers,
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEP_ALIVE_SECONDS),
            auto_decompress=False,
            timeout=aiohttp.ClientTimeout(total=options.request_seconds, sock_connect=_CONNECT_SECONDS),
        )

    async def __aenter__(self) -> Endpoint:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._session.close()

    async def alive(self) -> None:
        """Check its health.

        Raises:
            Unavailable: it does not answer in time, or says that its engine is dead.
        """
        try:
            await self._once("GET", "/health", None, self._options.health_seconds)
        except NotFound:
            return  # something answers; later requests show whether it is usable
        except _Transient as error:
            raise Unavailable(str(error)) from None

    async def models(self) -> list[ModelCard]:
        """The served models, adapters included.

        Raises:
            Unavailable: it does not answer.
            EngineError: it refuses the request, or is not an OpenAI-compatible server.
        """
        try:
            return read_models(await self.ask("GET", "/v1/models"))
        except (NotFound, ReplyError):
            raise EngineError(
                f"{self.url}: has no list of models at /v1/models: is it the address of a `vllm serve`? "
                "See engine.endpoints"
            ) from None

    async def load_adapter(self, name: str, folder: str, seconds: float) -> None:
        """Load an adapter beside the base; does nothing if it is already served.

        Raises:
            Unavailable: the server does not answer, or not in time.
            ModelError: it cannot load the adapter; says what to change.
        """
        body = {"lora_name": name, "lora_path": folder}
        try:
            await self._once("POST", "/v1/load_lora_adapter", body, seconds)
        except NotFound as error:
            if _NO_ADAPTER in str(error):
                raise ModelError(
                    f"{self.url}: does not find the adapter in {folder}: {error}. The folder must be "
                    "readable by the server under the same path (docs/guides/served.md)"
                ) from None
            raise ModelError(
                f"{self.url}: cannot load adapters while it runs ({error}): start it with "
                "--enable-lora and VLLM_ALLOW_RUNTIME_LORA_UPDATING=True"
            ) from None
        except EngineError as error:
            if _LOADED_ALREADY not in str(error):
                raise ModelError(f"{self.url}: refuses the adapter in {folder}: {error}") from None
        except _Transient as error:
            raise ModelError(
                f"{self.url}: fails to load the adapter in {folder}: {error}. It needs --enable-lora, "
                "--max-lora-rank of at least update.lora.rank, and the folder readable under the same "
                "path (docs/guides/served.md)"
            ) from None

    async def complete(self, model: str, prompt: list[int], parameters: Mapping[str, Any]) -> Completion:
        """Complete a prompt; prompt and answer are token ids.

        Returns:
            The server's answer, with token ids.

        Raises:
            Unavailable: it is gone, fails after all retries, or does not serve the model (any more).
            ModelError: it answers without token ids, or to another prompt.
            EngineError: it refuses the request, or its answer is not a completion.
        """
        body = {**parameters, "model": model, "prompt": prompt, "stream": False, "return_token_ids": True}
        try:
            found = read_completion(await self.ask("POST", "/v1/completions", body))
        except NotFound as error:  # restarted by its operator, and not serving the version now
            raise Unavailable(str(error)) from None
        except ReplyError as error:
            raise EngineError(f"{self.url}: {error}; it has to be a `vllm serve` (engine.endpoints)") from None
        if found.choice.token_ids is None:
            raise ModelError(
                f"{self.url}: gives no token ids, so what was sampled cannot be trained on exactly; it "
                "has to be a `vllm serve` that supports return_token_ids (tried: 0.32)"
            )
        shown = found.choice.prompt_token_ids
        if shown is not None and shown != prompt:
            raise ModelError(f"{self.url}: changed a prompt of {len(prompt)} tokens into one of {len(shown)}")
        return found

    async def loads_adapters(self) -> bool:
        """Whether adapters can be loaded at run time; tested with a request that it must refuse."""
        try:
            await self._once("POST", "/v1/load_lora_adapter", {"lora_name": "", "lora_path": ""}, _CONNECT_SECONDS)
        except NotFound:
            return False
        except (EngineError, _Transient):
            return True
        return True

    async def command(self, path: str, body: Mapping[str, Any], seconds: float) -> None:
        """Send a command that is not retried; `path` may carry a query.

        Raises:
            NotFound: it does not know the path.
            Unavailable: it is gone, fails, or takes longer.
            EngineError: it refuses.
        """
        try:
            await self._once("POST", path, body, seconds)
        except _Transient as error:
            raise Unavailable(str(error)) from None

    async def ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """Send one request with retries, and return the JSON of the answer.

        Raises:
            NotFound: the path or the model is not known.
            Unavailable: it is gone, hangs, or fails after all retries.
            EngineError: it refuses the request.
        """
        options = self._options
        retrying = tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception_type(_Transient),
            stop=tenacity.stop_after_attempt(options.retries + 1),
            wait=_Wait(tenacity.wait_random_exponential(options.backoff_seconds, _LONGEST_WAIT)),
            reraise=True,
        )
        try:
            return await retrying(self._json, method, path, body)  # type: ignore[var-annotated]
        except _Transient as error:
            raise Unavailable(str(error), by_row=True) from None

    async def _json(self, method: str, path: str, body: Mapping[str, Any] | None) -> Any:
        text = await self._once(method, path, body, self._options.request_seconds)
        try:
            return read_json(self._without_key(text))
        except ReplyError as error:
            raise _Transient(f"{self.url}{path}: {error}") from None

    async def _once(self, method: str, path: str, body: Mapping[str, Any] | None, seconds: float) -> str:
        """Send one request without retries; redirects are not followed, so that prompts go to the named server only."""
        where = f"{self.url}{path}"
        limit = aiohttp.ClientTimeout(total=seconds, sock_connect=min(seconds, _CONNECT_SECONDS))
        try:
            async with self._session.request(
                method, where, json=body, timeout=limit, allow_redirects=False
            ) as response:
                text = await _text_of(response, where)
        except aiohttp.ClientConnectorError as error:
            raise Unavailable(f"{where}: no connection: {error.os_error.strerror or error.os_error}") from None
        except TimeoutError:
            raise Unavailable(f"{where}: no answer within {seconds:g} s", by_row=True) from None
        except (aiohttp.ClientError, OSError) as error:
            broken = printable(str(error), self._options.key) or type(error).__name__
            raise _Transient(f"{where}: the connection broke: {broken}") from None
        self._refuse(response, where, text)
        return text

    def _without_key(self, text: str) -> str:
        """The text with the key removed, because a server may echo it."""
        return text.replace(self._options.key, "(the key)") if self._options.key else text

    def _refuse(self, response: aiohttp.ClientResponse, where: str, text: str) -> None:
        """Raise the error for a status that is not a success."""
        if response.status < 300:
            return
        words = self._without_key(_words(self._without_key(text)))  # again: JSON may spell the key with escapes
        said = f"{where}: {response.status} {printable(response.reason or '')}: {words}"
        if response.status < 400:
            target = printable(response.headers.get("Location", "(nowhere)"), self._options.key)
            raise EngineError(
                f"{where}: redirects to {target}, which is not followed; name the server itself in engine.endpoints"
            )
        if response.status >= 500 or response.status in _PASSING:
            raise _Transient(said, _seconds(response.headers.get("Retry-After")))
        if response.status == 404:
            raise NotFound(said)
        if response.status in (401, 403):
            key = "it has sent none" if self._options.key is None else "the one sent is not accepted"
            raise EngineError(f"{said}. The server wants a key (engine.api_key_env), and {key}")
        raise EngineError(said)


class _Wait(tenacity.wait.wait_base):
    """Wait time before a retry in seconds: the server's `Retry-After`, or else the usual one."""

    def __init__(self, usual: tenacity.wait.wait_base) -> None:
        self._usual = usual

    def __call__(self, retry_state: tenacity.RetryCallState) -> float:
        outcome = retry_state.outcome
        error = outcome.exception() if outcome is not None else None
        if isinstance(error, _Transient) and error.retry_after is not None:
            return min(error.retry_after, _LONGEST_WAIT)
        return float(self._usual(retry_state))


def _seconds(retry_after: str | None) -> float | None:
    """`Retry-After`: a number of seconds or a date; None if it is neither."""
    if retry_after is None:
        return None
    try:
        return max(0.0, float(retry_after))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(retry_after).timestamp() - time())
    except (ValueError, TypeError, OverflowError, IndexError):
        return None


async def _text_of(response: aiohttp.ClientResponse, where: str) -> str:
    """The body as text, up to the size of an answer; the encoding that the server declares is ignored."""
    content = bytearray()
    async for piece in response.content.iter_chunked(2**16):
        content += piece
        if len(content) > LARGEST_REPLY:
            raise EngineError(f"{where}: answers with more than {LARGEST_REPLY // 2**20} MiB, which no answer takes")
    return content.decode("utf-8", "replace")


def _words(text: str) -> str:
    """The message of an error in the OpenAI format or FastAPI's, else the text itself, shortened."""
    try:
        content = read_json(text)
        message = content["error"]["message"] if "error" in content else content["detail"]
    except (ReplyError, KeyError, TypeError, LookupError):
        message = text
    return printable(str(message)) or "(no words)"


def no_endpoint_left(reasons: dict[str, str], rows: int = 0) -> EngineError:
    """The error that lists every replica with its reason."""
    each = "".join(f"\n  {name}: {reason}" for name, reason in reasons.items())
    unanswered = f"; {rows} requests are unanswered and nothing of their chunk was written" if rows else ""
    return EngineError(
        f"no endpoint of engine.endpoints can be used{unanswered}:{each}\nStart them (or change "
        "engine.endpoints) and run the same command again: it continues where it stopped"
    )
