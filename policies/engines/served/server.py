"""The server engine: runs a version on external `vllm serve` replicas over HTTP.

Prompts go out as token ids and answers come back as token ids, so that training rows are exactly what was sampled; a
server that cannot do so is refused when a version is opened. Every endpoint is then compared with transformers, and
again after an interruption. Left out: tokens as they are written (a row counts when it is complete), chat endpoints
(the server's template would decide the tokens), `n > 1` (one request per row, with its own seed).
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

from policies.engines.decoding.choices import ChoiceStream, generate_with_choices
from policies.engines.dispatch import Dispatcher, Timeouts, Unavailable, run_all
from policies.engines.dispatch_stream import Answer, DispatchStream
from policies.engines.probe import check_probe, default_tolerance, reference_in_child
from policies.engines.served.endpoint import Endpoint, client_options, no_endpoint_left
from policies.engines.served.weight_sync import WeightSync, weight_sync_of
from policies.engines.serving import PrefixCache, Served, probe_prompts_of, served_version
from policies.engines.sharding import shards_by_prefix
from policies.engines.vllm import (
    FINISH,
    repetition_detection,
    shared_sampling,
    token_sampling,
)
from policies.engines.vllm_child import Probed, Started
from policies.text.chat import ChatCodec
from policies.versions.checkpoints import foundation, vocabulary_of
from policies.versions.precision import chosen_dtype
from policies.versions.stored import StoredVersion
from svd_loop.config.engines import ServerEngineSection
from svd_loop.config.sections import ModelSection
from svd_loop.contracts import Generation, GenerationRequest
from svd_loop.errors import EngineError, ModelError
from svd_loop.support.progress import Progress, progress

_log = logging.getLogger(__name__)

_CUT_OFF = {"abort", "error"}
"""vLLM's finish reasons of an answer that the server gave up, for example at shutdown."""


def open_engine(
    stored: StoredVersion, codec: ChatCodec, settings: ServerEngineSection, model: ModelSection
) -> ServerEngine:
    """Open the engine on a stored version; raises what `ServerEngine` raises."""
    return ServerEngine(
        served_version(stored),
        settings,
        dtype=chosen_dtype(model.dtype, foundation(stored), on_gpu=True),
        max_context=model.max_context,
        stop_ids=codec.stop_ids,
        probe_prompts=probe_prompts_of(codec),
    )


@dataclass(frozen=True, slots=True)
class Probe:
    """The comparison run on every endpoint: prompts, transformers' log probabilities, tolerance in nats."""

    served: Served
    prompts: list[list[int]]
    reference: list[list[float]]
    tolerance: float
    vocabulary: int | None = None
    """Number of tokens of the checkpoint; larger ids are invalid. None if its configuration does not say."""


class ServerEngine:
    """`svd_loop.contracts.Engine` over HTTP endpoints.

    A row's tokens depend on the same things as with the vLLM engine, and on the endpoint if those differ in hardware or
    version of vLLM.

    Args:
        served: the version.
        settings: endpoints and limits.
        dtype: precision of the weights, for the reference.
        max_context: longest prompt plus answer, in tokens.
        stop_ids: tokens that end an answer; at least one.
        probe_prompts: token ids to compare log probabilities on, each of at least two tokens.
        reference: computes transformers' log probabilities, within a number of seconds.

    Raises:
        ConfigError: the key's environment variable is not set.
        ModelError: no stop token; a server cannot serve the version, gives no token ids, or serves other weights.
        EngineError: no endpoint answers, or one refuses a request.
    """

    def __init__(
        self,
        served: Served,
        settings: ServerEngineSection,
        *,
        dtype: str,
        max_context: int,
        stop_ids: Collection[int],
        probe_prompts: Sequence[Sequence[int]],
        reference: Callable[[Probed, float], list[list[float]]] = reference_in_child,
    ) -> None:
        if not stop_ids:
            raise ModelError("no stop token is known: set eos_token_id in the checkpoint's generation_config.json")
        self.prefix_cache = PrefixCache()
        self._name = served.name
        self._settings = settings
        self._options = client_options(settings)
        self._stop_ids = frozenset(stop_ids)
        self._weight_sync = weight_sync_of(served, settings, max_context)
        self._proven: dict[str, str] = {}
        self._open = True
        prompts = [list(ids[: max_context - 1]) for ids in probe_prompts]
        adapter = None if served.adapter is None else (served.name, served.number, str(served.adapter))
        probed = Probed(checkpoint=str(served.checkpoint), dtype=dtype, adapter=adapter, prompts=prompts)
        tolerance = settings.probe_tolerance or default_tolerance(dtype)
        self._probe = Probe(
            served, prompts, reference(probed, settings.load_seconds), tolerance, vocabulary_of(served.checkpoint)
        )
        asyncio.run(self._reach())

    def generate(self, requests: Sequence[GenerationRequest], *, label: str = "") -> list[Generation]:
        """Answer all requests, in their order.

        Args:
            requests: prompts (not empty), sampling parameters and seeds.
            label: text of the progress line; empty shows none.

        Raises:
            EngineError: the engine is closed, a prompt is empty, no endpoint is left, or one refuses a request. The
                engine stays usable.
        """
        if not self._open:
            raise EngineError("the engine is closed")
        if any(not request.prompt_ids for request in requests):
            raise EngineError("a prompt has no tokens; there is nothing to continue")
        with progress(label, len(requests)) as bar:
            return generate_with_choices(partial(self._generate, bar), requests)

    def stream(self, *, label: str = "", total: int = 0) -> ChoiceStream:
        """Requests in flight; one stream at a time.

        Raises:
            EngineError: the engine is closed.
        """
        if not self._open:
            raise EngineError("the engine is closed")
        slots = self._settings.concurrency * len(self._settings.endpoints)
        return ChoiceStream(DispatchStream(self._dispatch, slots, self.prefix_cache, label=label, total=total))

    async def _dispatch(
        self, stack: AsyncExitStack, requests: Mapping[int, GenerationRequest], settled: Callable[[int, Answer], None]
    ) -> Dispatcher[Answer]:
        replicas, timeouts = await self._replicas(stack, requests), self._timeouts()
        return Dispatcher(replicas, [()] * len(replicas), timeouts, settled, no_endpoint_left, open_ended=True)

    def _timeouts(self) -> Timeouts:
        settings = self._settings
        return Timeouts(settings.concurrency, settings.heartbeat_seconds, settings.recovery_seconds)

    def _generate(self, bar: Progress, requests: Sequence[GenerationRequest]) -> list[Generation]:
        done: dict[int, Generation] = {}

        def settled(row: int, answer: tuple[Generation, int]) -> None:
            done[row], cached = answer
            self.prefix_cache.prompt_tokens += len(requests[row].prompt_ids)
            self.prefix_cache.cached_tokens += cached
            bar.advance(1, len(done[row].token_ids))

        asyncio.run(self._answer(requests, settled))
        return [done[row] for row in range(len(requests))]

    def close(self) -> None:
        """Unload an adapter from the servers; other weights stay loaded."""
        if not self._open:
            return
        self._open = False
        if self.prefix_cache.cached_tokens:  # servers report this only with --enable-prompt-tokens-details
            _log.info(
                "%s: %.0f%% of %s prompt tokens came from the prefix cache",
                self._name,
                100 * self.prefix_cache.hit_rate,
                f"{self.prefix_cache.prompt_tokens:,}",
            )
        asyncio.run(self._release())

    async def _reach(self) -> None:
        """Make every endpoint ready; those that are down may join later, as long as one is ready."""
        async with AsyncExitStack() as stack:
            replicas = await self._replicas(stack, {})
            deadline = asyncio.get_running_loop().time() + self._settings.recovery_seconds
            while not self._proven:
                away: dict[str, str] = {}
                await run_all([_try(replica, away) for replica in replicas])
                if self._proven:
                    for reason in away.values():
                        _log.warning("out of service: %s", reason)
                elif asyncio.get_running_loop().time() >= deadline:
                    raise no_endpoint_left(away)
                else:
                    await asyncio.sleep(self._settings.heartbeat_seconds)

    async def _answer(
        self, requests: Sequence[GenerationRequest], settled: Callable[[int, tuple[Generation, int]], None]
    ) -> None:
        shards = shards_by_prefix([request.prompt_ids for request in requests], len(self._settings.endpoints))
        async with AsyncExitStack() as stack:
            replicas = await self._replicas(stack, dict(enumerate(requests)))
            await Dispatcher(replicas, shards, self._timeouts(), settled, no_endpoint_left).run()

    async def _release(self) -> None:
        async with AsyncExitStack() as stack:
            replicas = await self._replicas(stack, {})
            await run_all(
                [self._weight_sync.release(replica.endpoint) for replica in replicas if replica.name in self._proven]
            )

    async def _replicas(self, stack: AsyncExitStack, requests: Mapping[int, GenerationRequest]) -> list[ServedReplica]:
        shared = shared_sampling(self._stop_ids, self._settings.thinking_token_budget)
        if self._settings.repetition is not None:
            shared["repetition_detection"] = repetition_detection(self._settings.repetition)
        return [
            ServedReplica(
                await stack.enter_async_context(Endpoint(url, self._options)),
                self._weight_sync,
                self._probe,
                self._proven,
                requests,
                shared,
                self._settings.concurrency,
            )
            for url in self._settings.endpoints
        ]


class ServedReplica:
    """An endpoint that serves the version: implements `policies.engines.dispatch.Replica`.

    Args:
        endpoint: the client of the server.
        weight_sync: how the version is loaded.
        probe: how the loaded weights are verified.
        proven: the verified endpoints, URL to served model name; shared by all calls of an engine.
        requests: the requests, by row number.
        shared: sampling parameters of all requests.
        concurrency: requests of the probe open at once.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        weight_sync: WeightSync,
        probe: Probe,
        proven: dict[str, str],
        requests: Mapping[int, GenerationRequest],
        shared: dict[str, Any],
        concurrency: int,
    ) -> None:
        self.endpoint = endpoint
        self._weight_sync = weight_sync
        self._probe = probe
        self._proven = proven
        self._requests = requests
        self._shared = shared
        self._concurrency = concurrency

    @property
    def name(self) -> str:
        """Its URL."""
        return self.endpoint.url

    async def alive(self) -> None:
        """Check its health."""
        await self.endpoint.alive()

    async def ready(self) -> None:
        """Load and verify the version; takes two small requests if that is already done.

        Raises:
            Unavailable: it does not answer.
            ModelError: it cannot serve the version, gives no token ids, or serves other weights.
        """
        model = await self._weight_sync.served_as(self.endpoint)
        if model is None:
            self._proven.pop(self.name, None)
            await self._weight_sync.load(self.endpoint)
            model = await self._weight_sync.served_as(self.endpoint)
            if model is None:
                raise ModelError(f"{self.name}: was requested to serve {self._probe.served.name}, but does not list it")
        await self.alive()
        if self._proven.get(self.name) != model:
            await self._compare(model)
            self._proven[self.name] = model

    async def answer(self, row: int) -> tuple[Generation, int]:
        """The row's answer, and how many prompt tokens came from the prefix cache.

        Raises:
            Unavailable: it is gone, fails after all retries, or does not serve the version any more.
            EngineError: it refuses the request, or its answer cannot be used.
        """
        request = self._requests[row]
        body = {**self._shared, **token_sampling(request), "seed": request.seed}
        found = await self.endpoint.complete(self._proven[self.name], list(request.prompt_ids), body)
        finish = str(found.choice.finish_reason)
        if finish in _CUT_OFF:
            raise Unavailable(f"{self.name}: ended an answer with {finish!r}")
        cached = max(0, min(found.cached_tokens, len(request.prompt_ids)))
        return self._generation(request, found.choice.token_ids or [], finish, cached), cached

    def _generation(self, request: GenerationRequest, ids: list[int], finish: str, cached: int) -> Generation:
        if finish not in FINISH:
            raise EngineError(f"{self.name}: ended an answer with {finish!r}")
        longest, stops = request.sampling.max_tokens, self._shared["stop_token_ids"]
        if len(ids) > longest:
            raise EngineError(f"{self.name}: answered with {len(ids)} tokens where at most {longest} were asked for")
        if (known := self._probe.vocabulary) is not None and any(token >= known for token in ids):
            raise EngineError(f"{self.name}: answered with token {max(ids)}; the model has {known} of them")
        if any(token in stops for token in ids[:-1]):
            raise EngineError(f"{self.name}: went on after a token that ends an answer; is it a `vllm serve`?")
        if finish == "stop" and (not ids or ids[-1] not in self._shared["stop_token_ids"]):
            raise EngineError(
                f"{self.name}: ended an answer at token {ids[-1] if ids else None}, which is not among "
                f"{self._shared['stop_token_ids']}, the model's stop tokens; start the server with "
                "--generation-config vllm"
            )
        if finish == "length" and len(ids) != longest:
            raise EngineError(
                f"{self.name}: cut an answer off at {len(ids)} tokens of {request.sampling.max_tokens}: "
                "the server has a limit of its own. Start it with --generation-config vllm and without "
                "max_new_tokens in --override-generation-config"
            )
        return Generation(tuple(ids), FINISH[finish], cached)

    async def _compare(self, model: str) -> None:
        """Request the log probability of every token of the probe, and compare with transformers'."""
        prompts = self._probe.prompts
        found = [[0.0] * (len(ids) - 1) for ids in prompts]
        places = iter([(row, place) for row, ids in enumerate(prompts) for place in range(1, len(ids))])

        async def ask() -> None:
            for row, place in places:
                found[row][place - 1] = await self._logprob(model, prompts[row][:place], prompts[row][place])

        await run_all([ask() for _ in range(self._concurrency)])
        try:
            answers = [Started(version="", served=found, reference=self._probe.reference)]
            worst = check_probe(answers, self._probe.tolerance, self._probe.served)
        except ModelError as error:
            raise ModelError(f"{self.name}: {error}{self._weight_sync.hint}") from None
        _log.info(
            "%s serves %s as %s; probe: log probabilities differ from transformers' by %.1g nats on average",
            self.name,
            self._probe.served.name,
            model,
            worst,
        )

    async def _logprob(self, model: str, before: list[int], token: int) -> float:
        """A log probability in nats; requested as one sampled token, in the same way as answers are sampled."""
        sampling = {"max_tokens": 1, "temperature": 0.0, "top_p": 1.0, "top_k": 0, "min_p": 0.0, "seed": 0}
        wanted = {"logprobs": 1, "logprob_token_ids": [token], "return_tokens_as_token_ids": True}
        body = {**self._shared, **sampling, **wanted}
        body.pop("repetition_detection", None)
        found = await self.endpoint.complete(model, before, body)
        try:
            logprob = float(found.choice.logprobs["top_logprobs"][0][f"token_id:{token}"])
        except (TypeError, LookupError, ValueError, OverflowError):
            logprob = math.nan
        if not math.isfinite(logprob):
            raise ModelError(
                f"{self.name}: gives no log probability of a token that is asked for, so the weights it "
                "serves cannot be compared; it has to be a `vllm serve` that supports logprob_token_ids "
                "(seen with vLLM 0.32)"
            )
        return logprob


async def _try(replica: ServedReplica, away: dict[str, str]) -> None:
    try:
        await replica.ready()
    except Unavailable as error:
        away[replica.name] = str(error)
