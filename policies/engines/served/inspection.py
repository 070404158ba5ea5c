"""Check endpoints before a job starts: reachable, the right model, enough context, token ids returned.

Requests one token from each; loads and changes nothing.
"""

from __future__ import annotations

import asyncio
import shutil
from contextlib import AsyncExitStack

from policies.engines.dispatch import Unavailable, run_all
from policies.engines.served.endpoint import Endpoint, NotFound, client_options
from policies.engines.served.weight_sync import InPlace, base_model
from svd_loop.config.engines import ReloadCommandSection, ReloadInPlaceSection, ServerEngineSection
from svd_loop.errors import ConfigError, EngineError, ModelError, SvdError


def inspect_endpoints(settings: ServerEngineSection, *, max_context: int, adapters: bool) -> str:
    """Check every endpoint of `engine.endpoints`.

    Args:
        settings: the endpoints.
        max_context: context in tokens that they must support.
        adapters: whether rounds are served as adapters.

    Returns:
        A sentence on what they serve.

    Raises:
        ConfigError: the key's environment variable is not set, or the command of `engine.reload` does not exist.
        EngineError: an endpoint cannot be used; the message lists all of them, each with what to change.
    """
    options = client_options(settings)
    if isinstance(settings.reload, ReloadCommandSection) and shutil.which(settings.reload.command[0]) is None:
        raise ConfigError(
            f"engine.reload.command: {settings.reload.command[0]} is not an executable program on this machine"
        )
    found: dict[str, str] = {}
    wrong: dict[str, str] = {}

    async def look(endpoint: Endpoint) -> None:
        try:
            found[endpoint.url] = await _inspect(endpoint, settings, max_context, adapters)
        except (Unavailable, SvdError) as error:
            wrong[endpoint.url] = str(error)

    async def look_at_all() -> None:
        async with AsyncExitStack() as stack:
            endpoints = [await stack.enter_async_context(Endpoint(url, options)) for url in settings.endpoints]
            await run_all([look(endpoint) for endpoint in endpoints])

    asyncio.run(look_at_all())
    if wrong:
        raise EngineError(
            f"{len(wrong)} of {len(settings.endpoints)} endpoints cannot be used:"
            + "".join(f"\n  {wrong[url]}" for url in settings.endpoints if url in wrong)
        )
    return "; ".join(f"{url} {found[url]}" for url in settings.endpoints)


async def _inspect(endpoint: Endpoint, settings: ServerEngineSection, max_context: int, adapters: bool) -> str:
    await endpoint.alive()
    cards = await endpoint.models()
    if isinstance(settings.reload, ReloadCommandSection):  # it will serve another version during the job
        model = cards[0].name if cards else None
    else:
        model = base_model(endpoint, cards, settings.model, max_context)
    if model is None:
        return "is up and serves nothing yet"
    await endpoint.complete(model, [0], {"max_tokens": 1, "temperature": 0.0})
    if isinstance(settings.reload, ReloadInPlaceSection):
        try:
            await endpoint.ask("GET", "/weight_info")
        except NotFound:
            raise InPlace.no_such_path(endpoint) from None
    if adapters and not await endpoint.loads_adapters():
        raise ModelError(
            f"{endpoint.url}: cannot load adapters while it runs: start it with --enable-lora and "
            "VLLM_ALLOW_RUNTIME_LORA_UPDATING=True"
        )
    return f"serves {model}"
