"""A look at the endpoints before any work: reachable, the model served, room enough, token ids given.

Asks for one token at each; loads and changes nothing.
"""

from __future__ import annotations

import asyncio
import shutil
from contextlib import AsyncExitStack

from policies.engines.served.dispatch import Unavailable, together
from policies.engines.served.endpoint import Endpoint, NotFound
from policies.engines.served.server import manners_of
from policies.engines.served.weight_sync import InPlace, base_model
from svd_loop.config.engines import ReloadCommandSection, ReloadInPlaceSection, ServerEngineSection
from svd_loop.errors import ConfigError, EngineError, ModelError, SvdError


def inspect_endpoints(settings: ServerEngineSection, *, max_context: int, adapters: bool) -> str:
    """Look at every endpoint of `engine.endpoints`.

    Args:
        settings: the endpoints.
        max_context: tokens they must take.
        adapters: whether rounds are served as adapters.

    Returns:
        What they serve, in a sentence.

    Raises:
        ConfigError: the key's environment variable is not set, or the command of `engine.reload` is not there.
        EngineError: an endpoint will not do; all of them are named, each with what to change.
    """
    manners = manners_of(settings)
    if isinstance(settings.reload, ReloadCommandSection) and shutil.which(settings.reload.command[0]) is None:
        raise ConfigError(f"engine.reload.command: {settings.reload.command[0]} is no program that can be run here")
    found: dict[str, str] = {}
    wrong: dict[str, str] = {}

    async def look(endpoint: Endpoint) -> None:
        try:
            found[endpoint.url] = await _inspect(endpoint, settings, max_context, adapters)
        except (Unavailable, SvdError) as error:
            wrong[endpoint.url] = str(error)

    async def look_at_all() -> None:
        async with AsyncExitStack() as stack:
            endpoints = [await stack.enter_async_context(Endpoint(url, manners)) for url in settings.endpoints]
            await together([look(endpoint) for endpoint in endpoints])

    asyncio.run(look_at_all())
    if wrong:
        raise EngineError(
            f"{len(wrong)} of {len(settings.endpoints)} endpoints will not do:"
            + "".join(f"\n  {wrong[url]}" for url in settings.endpoints if url in wrong)
        )
    return "; ".join(f"{url} {found[url]}" for url in settings.endpoints)


async def _inspect(endpoint: Endpoint, settings: ServerEngineSection, max_context: int, adapters: bool) -> str:
    await endpoint.alive()
    cards = await endpoint.models()
    if isinstance(settings.reload, ReloadCommandSection):  # it will serve something else when it matters
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
