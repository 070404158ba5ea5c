"""The Ray engine: replicas of another engine on the nodes of a Ray cluster.

    this process                                    a node
    place actors, one a replica ──────────────────> Server: nothing loaded
    ready():  the version's files, in pieces ─────> writes them, proves them, opens its engine
    answer(): a batch of requests ────────────────> engine.generate
              or requests in flight, call by call     engine.stream
       ^                                               │
       └──── answers; or it died: what it had open ────┘
             goes to another replica, Ray starts the
             actor again, and `ready` loads it again

A request brings its own seed, so it does not matter which replica answers it, or how often it was asked. Ray finds dead
actors and nodes and starts actors again; what it does not know, the version that one has to load first and the batch
that was lost, is `policies.engines.dispatch` and this module.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
import tempfile
import weakref
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from policies.cluster.connection import connect, has_gpus, require_ray, reserve, resources_of
from policies.cluster.parcel import Parcel, pack, unpack
from policies.engines.dispatch import Dispatcher, Timeouts, Unavailable, run_all
from policies.engines.dispatch_stream import Answer, DispatchStream
from policies.engines.probe import check_probe, default_tolerance, reference_in_child
from policies.engines.ray_replica import Answers, NotLoaded, Replica, StreamedReplica
from policies.engines.serving import PrefixCache, probe_prompts_of, served_version
from policies.engines.sharding import batches_of, shards_by_prefix
from policies.engines.vllm_child import Probed, Started
from policies.text.chat import ChatCodec
from policies.versions.checkpoints import PLAIN_TEMPLATES, foundation, load_codec
from policies.versions.precision import chosen_dtype
from policies.versions.stored import StoredVersion
from svd_loop.config.engines import RayEngineSection, TransformersEngineSection, VllmEngineSection
from svd_loop.config.sections import ModelSection
from svd_loop.contracts import Generation, GenerationRequest, GenerationStream
from svd_loop.errors import EngineError
from svd_loop.support.allocator import bound_kernel_caches, keep_freed_memory
from svd_loop.support.progress import Progress, progress

__all__ = ["RayEngine", "Server", "open_engine", "require_ray"]

_log = logging.getLogger(__name__)

_RETRY_SECONDS = 1.0
"""Between two looks at an actor that is being started again."""
_CLOSE_SECONDS = 90.0
"""For a replica to free its memory, before it is killed; more than vLLM's child has."""
_TAKE_SECONDS = 0.5
"""For rows in flight to finish, before new ones are heard of."""


@dataclass(frozen=True, slots=True)
class Opening:
    """What a replica opens its engine with; `reference` are transformers' log probabilities of the probe's prompts."""

    replica: TransformersEngineSection | VllmEngineSection
    model: ModelSection
    reference: list[list[float]]


class Server:
    """The actor: an engine, once a version is loaded."""

    def __init__(self) -> None:
        self._engine: Any = None
        self._stream: GenerationStream | None = None
        self._folder: str | None = None
        self._told = 0

    def loaded(self) -> bool:
        """Whether the version is loaded."""
        return self._engine is not None

    def load(self, parcel: Parcel, opening: Opening) -> None:
        """Open the engine on the version; does nothing if it is open.

        Raises:
            WeightsError: other files arrived than were stored.
            ModelError: the engine serves something else.
            EngineError: the engine cannot be started.
        """
        if self._engine is not None:
            return
        keep_freed_memory()
        bound_kernel_caches()
        self._folder = tempfile.mkdtemp(prefix="svd-loop-")
        self._told = 0
        try:
            stored = unpack(parcel, Path(self._folder))
            self._engine = _open(stored, opening)
        except BaseException:
            self.close()
            raise
        if stored.kind == "lora":  # vLLM may read a small adapter again; the weights are in memory
            shutil.rmtree(foundation(stored))
        else:
            shutil.rmtree(self._folder)

    def generate(self, requests: list[GenerationRequest]) -> Answers:
        """Answer a batch, in its order.

        Raises:
            NotLoaded: this process has no version.
            EngineError: the engine failed; it is closed, and `load` opens it again.
        """
        if self._engine is None:
            raise NotLoaded
        cache = self._engine.prefix_cache
        tokens, cached = cache.prompt_tokens, cache.cached_tokens
        try:
            generations = self._engine.generate(requests)
        except EngineError:
            self.close()
            raise
        self._told = cache.cached_tokens
        return Answers(generations, cache.prompt_tokens - tokens, cache.cached_tokens - cached)

    def advance(self, put: Sequence[tuple[int, GenerationRequest]], drop: Collection[int]) -> list[tuple[int, Answer]]:
        """Drop and queue requests in flight, and return the answers to those that finish within a moment.

        Raises:
            NotLoaded: this process has no version.
            EngineError: the engine failed; it is closed, and `load` opens it again.
        """
        if self._engine is None:
            raise NotLoaded
        cache = self._engine.prefix_cache
        try:
            stream = self._stream = self._stream or self._engine.stream()
            stream.drop(drop)
            stream.put(put)
            answers = stream.take(_TAKE_SECONDS)
        except EngineError:
            self.close()
            raise
        # The engine counts the cached tokens of all rows together; they are told with the first answer.
        untold = cache.cached_tokens - self._told if answers else 0
        self._told += untold
        return [(number, (answer, 0 if place else untold)) for place, (number, answer) in enumerate(answers)]

    def end_stream(self) -> None:
        """Drop what is in flight."""
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()

    def close(self) -> None:
        """Free the memory."""
        self.end_stream()
        engine, self._engine = self._engine, None
        if engine is not None:
            engine.close()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)


def _open(stored: StoredVersion, opening: Opening) -> Any:
    """The engine on what arrived, compared with the reference of what was stored."""
    from policies.engines import transformers, vllm

    model = opening.model
    codec = load_codec(stored, plain=model.templates == PLAIN_TEMPLATES, thought=model.thought)
    if isinstance(opening.replica, VllmEngineSection):
        return vllm.open_engine(stored, codec, opening.replica, model, reference=opening.reference)
    engine = transformers.open_engine(stored, codec, opening.replica, model)
    found = Started(version="", served=engine.logprobs(_probe(codec, model)), reference=opening.reference)
    check_probe([found], default_tolerance(model.dtype), served_version(stored), engine="the replica")
    return engine


def _probe(codec: ChatCodec, model: ModelSection) -> list[list[int]]:
    return [list(ids[: model.max_context - 1]) for ids in probe_prompts_of(codec)]


class RayEngine:
    """`svd_loop.contracts.Engine` over actors of a cluster.

    Args:
        stored: the version.
        settings: how many replicas, of what.
        opening: what they open.
        gpus: GPUs of each.

    Raises:
        ConfigError: the cluster has no room for all replicas.
        ModelError: a replica cannot serve the version, or serves something else.
        EngineError: no replica can be opened.
    """

    def __init__(self, stored: StoredVersion, settings: RayEngineSection, opening: Opening, *, gpus: int) -> None:
        self.prefix_cache = PrefixCache()
        self._name = served_version(stored).name
        self._stored = stored
        self._settings = settings
        self._opening = opening
        self._parcel: Callable[[], Parcel | None] = lambda: None
        self._actors: list[Any] = []
        share = resources_of(settings.cpus, gpus)
        self._group: Any = reserve(settings.replicas, share, key="engine.replicas", seconds=settings.start_seconds)
        try:
            self._actors = [self._place(index, gpus) for index in range(settings.replicas)]
            asyncio.run(asyncio.wait_for(self._reach(), settings.start_seconds))
        except TimeoutError:
            self._end()
            raise EngineError(
                f"{self._name}: no replica was ready within engine.start_seconds: {settings.start_seconds:g}"
            ) from None
        except BaseException:
            self._end()
            raise

    def generate(self, requests: Sequence[GenerationRequest], *, label: str = "") -> list[Generation]:
        """Answer all requests, in their order.

        Args:
            requests: prompts (not empty), sampling parameters and seeds.
            label: text of the progress line; empty shows none.

        Raises:
            EngineError: the engine is closed, a prompt is empty, no replica is left, or one batch fails on several. The
                engine stays usable.
        """
        if not self._actors:
            raise EngineError("the engine is closed")
        if any(not request.prompt_ids for request in requests):
            raise EngineError("a prompt has no tokens; there is nothing to continue")
        with progress(label, len(requests)) as bar:
            return self._generate(requests, bar)

    def _generate(self, requests: Sequence[GenerationRequest], bar: Progress) -> list[Generation]:
        shards = shards_by_prefix([request.prompt_ids for request in requests], len(self._actors))
        batches, queues = batches_of(shards, self._settings.replica.rows_at_once)
        done: dict[int, Generation] = {}

        def settled(batch: int, answers: Answers) -> None:
            done.update(zip(batches[batch], answers.generations, strict=True))
            self.prefix_cache.prompt_tokens += answers.prompt_tokens
            self.prefix_cache.cached_tokens += answers.cached_tokens
            bar.advance(len(answers.generations), sum(len(answer.token_ids) for answer in answers.generations))

        async def work() -> None:
            replicas = self._replicas([[requests[index] for index in batch] for batch in batches])
            timeouts = Timeouts(1, _RETRY_SECONDS, self._settings.recovery_seconds)
            await Dispatcher(replicas, queues, timeouts, settled, self._none_left).run()

        asyncio.run(work())
        return [done[index] for index in range(len(requests))]

    def stream(self, *, label: str = "", total: int = 0) -> DispatchStream:
        """Requests in flight at all replicas; one stream at a time.

        Raises:
            EngineError: the engine is closed.
        """
        if not self._actors:
            raise EngineError("the engine is closed")
        return DispatchStream(self._dispatch, self._settings.rows_at_once, self.prefix_cache, label=label, total=total)

    async def _dispatch(
        self, stack: AsyncExitStack, requests: Mapping[int, GenerationRequest], settled: Callable[[int, Answer], None]
    ) -> Dispatcher[Answer]:
        replicas = [
            StreamedReplica(f"replica {index}", actor, self._load, requests) for index, actor in enumerate(self._actors)
        ]
        for replica in replicas:
            stack.push_async_callback(replica.close)
        timeouts = Timeouts(self._settings.replica.rows_at_once, _RETRY_SECONDS, self._settings.recovery_seconds)
        return Dispatcher(replicas, [()] * len(replicas), timeouts, settled, self._none_left, open_ended=True)

    def close(self) -> None:
        """End the replicas and give their nodes back."""
        self._end()

    async def _reach(self) -> None:
        """Make every replica ready; those that die meanwhile may join later, as long as one is ready."""
        away: dict[str, str] = {}

        async def attempt(replica: Replica) -> None:
            try:
                await replica.ready()
            except Unavailable as error:
                away[replica.name] = str(error)

        replicas = self._replicas([])
        await run_all([attempt(replica) for replica in replicas])
        if len(away) == len(replicas):
            raise self._none_left(away, 0)
        for name, reason in away.items():
            _log.warning("%s is out of service: %s", name, reason)

    def _replicas(self, batches: Sequence[list[GenerationRequest]]) -> list[Replica]:
        return [Replica(f"replica {index}", actor, self._load, batches) for index, actor in enumerate(self._actors)]

    def _load(self, actor: Any) -> tuple[Parcel, Any]:
        """Start to load an actor; the files are in the object store once, and as long as any actor is loading."""
        parcel = self._parcel() or pack(self._stored)
        self._parcel = weakref.ref(parcel)
        return parcel, actor.load.remote(parcel, self._opening)

    def _place(self, index: int, gpus: int) -> Any:
        import ray
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        options = {"num_cpus": self._settings.cpus, "num_gpus": gpus, "max_restarts": -1, "max_task_retries": 0}
        strategy = PlacementGroupSchedulingStrategy(self._group, placement_group_bundle_index=index)
        return ray.remote(**options)(Server).options(scheduling_strategy=strategy).remote()

    def _none_left(self, reasons: dict[str, str], rows: int) -> EngineError:
        each = "".join(f"\n  {name}: {reason}" for name, reason in reasons.items())
        lost = "; nothing of the open chunk was written" if rows else ""
        return EngineError(
            f"{self._name}: none of {len(self._actors)} replicas (engine.replicas) can be used{lost}:{each}\n"
            "Run the same command again when the cluster has room for them: it continues where it stopped"
        )

    def _end(self) -> None:
        import ray
        from ray.util.placement_group import remove_placement_group

        actors, self._actors = self._actors, []
        if actors:
            ray.wait([actor.close.remote() for actor in actors], num_returns=len(actors), timeout=_CLOSE_SECONDS)
        for actor in actors:
            ray.kill(actor)
        group, self._group = self._group, None
        if group is not None:
            remove_placement_group(group)


def open_engine(
    stored: StoredVersion,
    codec: ChatCodec,
    settings: RayEngineSection,
    model: ModelSection,
    *,
    reference: Callable[[Probed, float], list[list[float]]] = reference_in_child,
) -> RayEngine:
    """Open the engine on a stored version.

    Args:
        stored: the version.
        codec: its tokenizer.
        settings: the section.
        model: precision, device and context; `auto` runs on GPUs if a node of the cluster has one.
        reference: computes transformers' log probabilities, within a number of seconds.

    Raises:
        ConfigError: Ray is missing, no cluster answers, or it has no room.
        ModelError: a replica cannot serve the version, or serves something else.
        EngineError: no replica can be opened.
    """
    connect(settings.address, key="engine.address")
    gpus = settings.gpus_of_a_replica if model.device == "cuda" or (model.device == "auto" and has_gpus()) else 0
    dtype = chosen_dtype(model.dtype, foundation(stored), on_gpu=gpus > 0)
    model = model.model_copy(update={"dtype": dtype, "device": "cuda" if gpus else "cpu"})
    served = served_version(stored)
    adapter = None if served.adapter is None else (served.name, served.number, str(served.adapter))
    probed = Probed(checkpoint=str(served.checkpoint), dtype=dtype, adapter=adapter, prompts=_probe(codec, model))
    opening = Opening(settings.replica, model, reference(probed, settings.start_seconds))
    return RayEngine(stored, settings, opening, gpus=gpus)
