"""One `vllm serve` replica over HTTP: what can be asked of it, what is asked again, and what its errors mean.

Errors come in three kinds. What passes by itself (408, 425, 429, 5xx, a broken connection, an answer cut off) is asked
again here, then makes the endpoint `Unavailable`. An endpoint that is gone is so at once. What the server refuses
(any other 4xx) ends the job with the server's words, since asking again would not change it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from time import time
from typing import Any

import aiohttp
import tenacity

from policies.engines.served.dispatch import Unavailable
from svd_loop.errors import EngineError, ModelError

_KEEP_ALIVE_SECONDS = 3.0
"""Idle connections are closed sooner than vLLM closes them (5 s), so that no request meets a closing one."""
_CONNECT_SECONDS = 10.0
_LONGEST_WAIT = 60.0
_QUOTED = 500
"""Characters of a server's words in an error."""
_PASSING = {408, 425, 429}
_NO_ADAPTER = "No adapter found"
_LOADED_ALREADY = "already been loaded"
"""vLLM's words."""


class _Passing(Exception):
    """Asking again may help; after `retry_after` seconds, if the server says so."""

    def __init__(self, reason: str, retry_after: float | None = None) -> None:
        super().__init__(reason)
        self.retry_after = retry_after


class NotFound(Exception):
    """The server knows no such path or model; in its words."""


@dataclass(frozen=True, slots=True)
class Manners:
    """How endpoints are asked; times in seconds.

    `key` is sent as a bearer token, and shown nowhere.
    """

    key: str | None
    retries: int
    backoff_seconds: float
    request_seconds: float
    health_seconds: float

    def __repr__(self) -> str:
        return f"Manners(retries={self.retries})"


@dataclass(frozen=True, slots=True)
class ModelCard:
    """A model as a server lists it; `longest` is its context in tokens, `parent` an adapter's base."""

    name: str
    parent: str | None
    longest: int | None


class Endpoint:
    """One replica, within one event loop. Use as an asynchronous context manager.

    Args:
        url: base URL without `/v1`.
        manners: how to ask.
    """

    def __init__(self, url: str, manners: Manners) -> None:
        self.url = url
        self._manners = manners
        headers = {"Authorization": f"Bearer {manners.key}"} if manners.key else {}
        self._session = aiohttp.ClientSession(
            headers=headers,
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEP_ALIVE_SECONDS),
            timeout=aiohttp.ClientTimeout(total=manners.request_seconds, sock_connect=_CONNECT_SECONDS),
        )

    async def __aenter__(self) -> Endpoint:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._session.close()

    async def alive(self) -> None:
        """Ask for its health.

        Raises:
            Unavailable: it does not answer in time, or says that its engine is dead.
        """
        try:
            await self._once("GET", "/health", None, self._manners.health_seconds)
        except NotFound:
            return  # something answers; what it can do shows later
        except _Passing as error:
            raise Unavailable(str(error)) from None

    async def models(self) -> list[ModelCard]:
        """What it serves, adapters included.

        Raises:
            Unavailable: it does not answer.
            EngineError: it refuses to say, or is no OpenAI-compatible server.
        """
        try:
            found = await self.ask("GET", "/v1/models")
            return [ModelCard(card["id"], card.get("parent"), card.get("max_model_len")) for card in found["data"]]
        except (NotFound, KeyError, TypeError, AttributeError):
            raise EngineError(
                f"{self.url}: has no list of models at /v1/models: is it the address of a `vllm serve`? "
                "See engine.endpoints"
            ) from None

    async def load_adapter(self, name: str, folder: str, seconds: float) -> None:
        """Serve an adapter beside the base; does nothing if it is served already.

        Raises:
            Unavailable: the server does not answer, or not in time.
            ModelError: it cannot; says what to change.
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
        except _Passing as error:
            raise ModelError(
                f"{self.url}: fails to load the adapter in {folder}: {error}. It needs --enable-lora, "
                "--max-lora-rank of at least update.lora.rank, and the folder readable under the same "
                "path (docs/guides/served.md)"
            ) from None

    async def complete(
        self, model: str, prompt: list[int], parameters: Mapping[str, Any]
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Have a prompt continued, in token ids both ways.

        Returns:
            The server's answer, and the only choice in it, whose `token_ids` is a list.

        Raises:
            Unavailable: it is gone, fails after all retries, or does not serve the model (any more).
            ModelError: it answers without token ids, or to another prompt.
            EngineError: it refuses the request.
        """
        body = {**parameters, "model": model, "prompt": prompt, "stream": False, "return_token_ids": True}
        try:
            found = await self.ask("POST", "/v1/completions", body)
        except NotFound as error:  # restarted by others, and not serving the version now
            raise Unavailable(str(error)) from None
        choice = found["choices"][0] if isinstance(found, dict) and found.get("choices") else {}
        if not isinstance(choice.get("token_ids"), list):
            raise ModelError(
                f"{self.url}: gives no token ids, so what was sampled cannot be trained on exactly; it "
                "has to be a `vllm serve` that knows return_token_ids (tried: 0.32)"
            )
        if choice.get("prompt_token_ids", prompt) != prompt:
            raise ModelError(
                f"{self.url}: changed a prompt of {len(prompt)} tokens into one of {len(choice['prompt_token_ids'])}"
            )
        return found, choice

    async def loads_adapters(self) -> bool:
        """Whether adapters can be loaded while it runs; asked by a request that it has to refuse."""
        try:
            await self._once("POST", "/v1/load_lora_adapter", {"lora_name": "", "lora_path": ""}, _CONNECT_SECONDS)
        except NotFound:
            return False
        except (EngineError, _Passing):
            return True
        return True

    async def command(self, path: str, body: Mapping[str, Any], seconds: float) -> None:
        """Have it do something that is not worth repeating; `path` may carry a query.

        Raises:
            NotFound: it does not know the path.
            Unavailable: it is gone, fails, or takes longer.
            EngineError: it refuses.
        """
        try:
            await self._once("POST", path, body, seconds)
        except _Passing as error:
            raise Unavailable(str(error)) from None

    async def ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """Send one request, again where that may help, and read the JSON it answers.

        Raises:
            NotFound: the path or the model is not known.
            Unavailable: it is gone, hangs, or fails after all retries.
            EngineError: it refuses the request.
        """
        manners = self._manners
        retrying = tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception_type(_Passing),
            stop=tenacity.stop_after_attempt(manners.retries + 1),
            wait=_Wait(tenacity.wait_random_exponential(manners.backoff_seconds, _LONGEST_WAIT)),
            reraise=True,
        )
        try:
            return await retrying(self._json, method, path, body)  # type: ignore[var-annotated]
        except _Passing as error:
            raise Unavailable(str(error), by_row=True) from None

    async def _json(self, method: str, path: str, body: Mapping[str, Any] | None) -> Any:
        text = await self._once(method, path, body, self._manners.request_seconds)
        try:
            return json.loads(text)
        except ValueError:
            raise _Passing(f"{self.url}{path}: answered with something that is no JSON: {text[:_QUOTED]!r}") from None

    async def _once(self, method: str, path: str, body: Mapping[str, Any] | None, seconds: float) -> str:
        """One request, as it is."""
        where = f"{self.url}{path}"
        limit = aiohttp.ClientTimeout(total=seconds, sock_connect=min(seconds, _CONNECT_SECONDS))
        try:
            async with self._session.request(method, where, json=body, timeout=limit) as response:
                text = await response.text(errors="replace")
        except aiohttp.ClientConnectorError as error:
            raise Unavailable(f"{where}: no connection: {error.os_error.strerror or error.os_error}") from None
        except TimeoutError:
            raise Unavailable(f"{where}: no answer within {seconds:g} s", by_row=True) from None
        except (aiohttp.ClientError, OSError) as error:
            raise _Passing(f"{where}: the connection broke: {error or type(error).__name__}") from None
        self._refuse(response, where, text)
        return text

    def _refuse(self, response: aiohttp.ClientResponse, where: str, text: str) -> None:
        """Turn a status that is no success into the error it means."""
        if response.status < 400:
            return
        said = f"{where}: {response.status} {response.reason}: {_words(text)}"
        if response.status >= 500 or response.status in _PASSING:
            raise _Passing(said, _seconds(response.headers.get("Retry-After")))
        if response.status == 404:
            raise NotFound(said)
        if response.status in (401, 403):
            key = "it has sent none" if self._manners.key is None else "the one sent is not accepted"
            raise EngineError(f"{said}. The server wants a key (engine.api_key_env), and {key}")
        raise EngineError(said)


class _Wait(tenacity.wait.wait_base):
    """What the server asks for, or else the usual wait; seconds."""

    def __init__(self, usual: tenacity.wait.wait_base) -> None:
        self._usual = usual

    def __call__(self, retry_state: tenacity.RetryCallState) -> float:
        outcome = retry_state.outcome
        error = outcome.exception() if outcome is not None else None
        if isinstance(error, _Passing) and error.retry_after is not None:
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
    except ValueError:
        return None


def _words(text: str) -> str:
    """The message of an error in the OpenAI format or FastAPI's, else the text itself, shortened."""
    try:
        content = json.loads(text)
        message = content["error"]["message"] if "error" in content else content["detail"]
    except (ValueError, KeyError, TypeError):
        message = text
    return str(message).strip()[:_QUOTED] or "(no words)"
