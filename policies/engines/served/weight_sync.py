"""Load a version on a served replica: as started, as an adapter, in place, or by a restart.

Each way can tell whether a server holds the version, because a replica may be restarted by others at any
time and then serves its original weights.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import tempfile
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlencode

from policies.engines.dispatch import Unavailable
from policies.engines.served.endpoint import Endpoint, NotFound
from policies.engines.served.replies import ModelCard
from policies.engines.serving import Served
from svd_loop.config.engines import ReloadCommandSection, ReloadInPlaceSection, ServerEngineSection
from svd_loop.errors import EngineError, ModelError

_POLL_SECONDS = 1.0
_TIED = (
    ". The model's head is tied to its embeddings (tie_word_embeddings), and vLLM 0.32 leaves such a head as it was "
    "when it changes weights in place: use engine.reload: {type: command}"
)
_TAIL = 1000
"""Most characters of a command's output in an error."""


class WeightSync(Protocol):
    """A way to load a version on a server; `hint` is added to the error if the probe finds other weights."""

    hint: str

    async def served_as(self, endpoint: Endpoint) -> str | None:
        """The model name to request, or None if the version is not served (yet)."""
        ...

    async def load(self, endpoint: Endpoint) -> None:
        """Load the version; raises `Unavailable` or `ModelError`."""
        ...

    async def release(self, endpoint: Endpoint) -> None:
        """Release the version, which is not needed any more."""
        ...


def weight_sync_of(served: Served, settings: ServerEngineSection, max_context: int) -> WeightSync:
    """Choose the way for a version and `engine.reload`."""
    if served.adapter is not None:
        return Adapter(served, settings, max_context)
    match settings.reload:
        case ReloadInPlaceSection():
            return InPlace(served, settings, settings.reload, max_context)
        case ReloadCommandSection():
            return Restart(served, settings.reload, max_context)
        case None:
            return AsStarted(settings, max_context)


def base_model(endpoint: Endpoint, cards: list[ModelCard], model: str | None, max_context: int) -> str:
    """The name under which the base is served, after a check of its context.

    Raises:
        ModelError: it is not served, or its context is shorter than `max_context`.
    """
    bases = [card for card in cards if card.parent is None]
    found = next((card for card in bases if model in (None, card.name)), None)
    if found is None:
        named = ", ".join(card.name for card in bases) or "none"
        raise ModelError(f"{endpoint.url}: does not serve {model or 'any model'}; it serves {named}. See engine.model")
    _long_enough(endpoint, found, max_context)
    return found.name


def _long_enough(endpoint: Endpoint, card: ModelCard, max_context: int) -> None:
    if card.longest is not None and card.longest < max_context:
        raise ModelError(
            f"{endpoint.url}: serves {card.name} with a context of {card.longest:,} tokens, "
            f"model.max_context is {max_context:,}: start it with --max-model-len {max_context} or more, "
            "or lower model.max_context"
        )


class AsStarted:
    """The server was started on the version; the probe verifies that."""

    hint = ". Start the server on that checkpoint, or let the job change its weights (engine.reload)"

    def __init__(self, settings: ServerEngineSection, max_context: int) -> None:
        self._settings = settings
        self._max_context = max_context

    async def served_as(self, endpoint: Endpoint) -> str | None:
        """The base's name."""
        return base_model(endpoint, await endpoint.models(), self._settings.model, self._max_context)

    async def load(self, endpoint: Endpoint) -> None:
        """Do nothing."""

    async def release(self, endpoint: Endpoint) -> None:
        """Do nothing."""


class Adapter:
    """An adapter beside its base, named after the version: a new name each round, so that no cache is stale."""

    hint = ". The server has to be started on the checkpoint that the adapter belongs to"

    def __init__(self, served: Served, settings: ServerEngineSection, max_context: int) -> None:
        assert served.adapter is not None
        self._name = served.name
        self._folder = str(served.adapter.resolve())
        self._settings = settings
        self._max_context = max_context

    async def served_as(self, endpoint: Endpoint) -> str | None:
        """The version's name, once the server lists it."""
        cards = await endpoint.models()
        base_model(endpoint, cards, self._settings.model, self._max_context)
        return self._name if any(card.name == self._name for card in cards) else None

    async def load(self, endpoint: Endpoint) -> None:
        """Load it through `/v1/load_lora_adapter`."""
        await endpoint.load_adapter(self._name, self._folder, self._settings.load_seconds)

    async def release(self, endpoint: Endpoint) -> None:
        """Unload it through `/v1/unload_lora_adapter`; a failure is harmless."""
        with contextlib.suppress(NotFound, Unavailable, EngineError):
            await endpoint.command("/v1/unload_lora_adapter", {"lora_name": self._name}, 10.0)


class InPlace:
    """Full weights, read by the running server from the version's folder."""

    def __init__(
        self, served: Served, settings: ServerEngineSection, reload: ReloadInPlaceSection, max_context: int
    ) -> None:
        self._name = served.name
        self._folder = str(served.checkpoint.resolve())
        self._model = settings.model
        self._reload = reload
        self._max_context = max_context
        self.hint = _TIED if _is_tied(served.checkpoint) else ""

    async def served_as(self, endpoint: Endpoint) -> str | None:
        """The base's name, if the server says that its weights are the version's."""
        model = base_model(endpoint, await endpoint.models(), self._model, self._max_context)
        try:
            found = await endpoint.ask("GET", "/weight_info")
        except NotFound:
            raise self.no_such_path(endpoint) from None
        return model if isinstance(found, dict) and found.get("weight_version") == self._name else None

    async def load(self, endpoint: Endpoint) -> None:
        """Pause, change the weights, reset the prefix cache, set the name, resume."""
        weights = {"method": "reload_weights", "kwargs": {"weights_path": self._folder}}
        steps: list[tuple[str, dict[str, Any]]] = [
            ("/pause?" + urlencode({"mode": "wait"}), {}),
            ("/collective_rpc", weights),
            ("/reset_prefix_cache", {}),
            ("/update_weight_version", {"new_version": self._name}),
        ]
        try:
            for path, body in steps:
                await endpoint.command(path, body, self._reload.seconds)
        except NotFound:
            raise self.no_such_path(endpoint) from None
        finally:
            with contextlib.suppress(NotFound, Unavailable, EngineError):
                await endpoint.command("/resume", {}, self._reload.seconds)

    async def release(self, endpoint: Endpoint) -> None:
        """Do nothing: the next version replaces it."""

    @staticmethod
    def no_such_path(endpoint: Endpoint) -> ModelError:
        """The error of a server without vLLM's endpoints for changing weights."""
        return ModelError(
            f"{endpoint.url}: cannot change its weights (engine.reload: in_place): start it with "
            "VLLM_SERVER_DEV_MODE=1, or give a command (engine.reload: {type: command})"
        )


class Restart:
    """Full weights, loaded by a command that starts the server under the version's name."""

    hint = ". See what engine.reload.command starts"

    def __init__(self, served: Served, reload: ReloadCommandSection, max_context: int) -> None:
        self._name = served.name
        self._folder = str(served.checkpoint.resolve())
        self._reload = reload
        self._max_context = max_context

    async def served_as(self, endpoint: Endpoint) -> str | None:
        """The version's name, once the server lists it; None while the server is down."""
        try:
            cards = await endpoint.models()
        except Unavailable:
            return None
        card = next((card for card in cards if card.name == self._name), None)
        if card is None:
            return None
        _long_enough(endpoint, card, self._max_context)
        return card.name

    async def load(self, endpoint: Endpoint) -> None:
        """Run the command, then wait until the server lists the name."""
        words = {"{checkpoint}": self._folder, "{name}": self._name, "{endpoint}": endpoint.url}
        command = list(self._reload.command)
        for word, value in words.items():
            command = [part.replace(word, value) for part in command]
        try:
            async with asyncio.timeout(self._reload.seconds):
                await _run(command)
                while not await self._is_up(endpoint):
                    await asyncio.sleep(_POLL_SECONDS)
        except TimeoutError:
            raise Unavailable(
                f"{endpoint.url}: does not serve {self._name} {self._reload.seconds:g} s after "
                f"engine.reload.command was run ({' '.join(command)})"
            ) from None

    async def release(self, endpoint: Endpoint) -> None:
        """Do nothing: the next version replaces it."""

    async def _is_up(self, endpoint: Endpoint) -> bool:
        try:
            await endpoint.alive()
            return await self.served_as(endpoint) is not None
        except (Unavailable, EngineError):  # shutting down, or starting
            return False


def _is_tied(checkpoint: Path) -> bool:
    try:
        config = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return bool(config.get("tie_word_embeddings", False))


async def _run(command: list[str]) -> None:
    """Run a program to its end, or kill it and its children when cancelled.

    Its output goes to a file: a server that it starts could keep a pipe open for ever.

    Raises:
        ModelError: it cannot be started, or fails; quotes its output.
    """
    with tempfile.TemporaryFile() as output:
        try:
            process = await asyncio.create_subprocess_exec(
                *command, stdin=asyncio.subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
            )
        except OSError as error:
            raise ModelError(f"engine.reload.command: {command[0]} cannot be started: {error.strerror}") from None
        try:
            code = await process.wait()
        except asyncio.CancelledError:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            raise
        if code:
            output.seek(0)
            tail = output.read().decode(errors="replace").strip()[-_TAIL:]
            raise ModelError(f"engine.reload.command: {' '.join(command)}: exit code {code}: {tail}")
