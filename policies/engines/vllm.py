"""The vLLM engine: one child process per copy of the model, for the lifetime of a version.

vLLM frees a GPU only when its process ends, and its libraries conflict with those of training; so this
module imports neither vLLM nor torch and exchanges plain data with `policies.engines.vllm_child` in plain data. A
version is never swapped in place: the next one gets a new process, which cannot serve a stale prefix cache or a
half-loaded weight. A probe compares it with transformers all the same. Left out: `n > 1` (one request per row, with its
own seed), beam search, speculative decoding.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from policies.engines.decoding.choices import ChoiceStream, generate_with_choices, next_tokens
from policies.engines.probe import check_probe, default_tolerance
from policies.engines.serving import PrefixCache, Served, probe_prompts_of, served_version
from policies.engines.sharding import shards_by_prefix
from policies.engines.vllm_child import Answer, Row, Start, Started
from policies.engines.vllm_stream import VllmStream
from policies.text.chat import ChatCodec
from policies.versions.checkpoints import foundation, resolve_device
from policies.versions.precision import chosen_dtype
from policies.versions.stored import StoredVersion
from svd_loop.config.engines import RepetitionSection, VllmEngineSection
from svd_loop.config.sections import ModelSection
from svd_loop.contracts import FinishReason, Generation, GenerationRequest
from svd_loop.errors import ConfigError, EngineError, ModelError
from svd_loop.support.child_process import Child, gather
from svd_loop.support.progress import progress

_log = logging.getLogger(__name__)

FINISH = {"stop": FinishReason.STOP, "length": FinishReason.LENGTH, "repetition": FinishReason.LENGTH}
"""vLLM's finish reasons; an answer stopped for repetition counts as truncated."""
VLLM = "vllm>=0.32,<0.33"
"""The distribution to install on a machine with GPUs: the extra `vllm` of pyproject.toml."""
_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""The adapter ranks that vLLM supports."""
_GIB = 2**30


class VllmEngine:
    """`svd_loop.contracts.Engine` over one or more child processes.

    A row's tokens depend on the weights, its prompt, its sampling parameters and its seed, and on what it is computed
    together with where two tokens are equally likely up to the rounding of the logits (docs/guides/vllm.md).

    Args:
        served: the version.
        settings: how to run vLLM.
        dtype: precision of the weights.
        max_context: longest prompt plus answer, in tokens.
        stop_ids: tokens that end an answer; at least one.
        probe_prompts: token ids to compare log probabilities on, each of at least two tokens.
        reference: transformers' log probabilities, if they are known; None lets the first child compute them.

    Raises:
        ConfigError: vLLM is not installed, or there are fewer GPUs than the replicas need.
        ModelError: no stop token; the adapter cannot be served; vLLM and transformers disagree about the probe.
        EngineError: a child failed, or took too long to start.
    """

    def __init__(
        self,
        served: Served,
        settings: VllmEngineSection,
        *,
        dtype: str,
        max_context: int,
        stop_ids: Collection[int],
        probe_prompts: Sequence[Sequence[int]],
        reference: list[list[float]] | None = None,
    ) -> None:
        require_vllm()
        if not stop_ids:
            raise ModelError("no stop token is known: set eos_token_id in the checkpoint's generation_config.json")
        self.prefix_cache = PrefixCache()
        self._name = served.name
        self._settings = settings
        self._children: list[Child] = []
        start = start_message(served, settings, dtype, max_context, stop_ids, probe_prompts)
        began = time.monotonic()
        try:
            for index in range(settings.replicas):
                self._children.append(_spawn(settings, index, served.name))
            for index, child in enumerate(self._children):
                computes = index == 0 and reference is None
                child.send("start", Start(**{**start, "reference": computes}))  # type: ignore[typeddict-item]
            started: list[Started] = gather(self._children, settings.start_seconds)
            if reference is not None:
                started[0]["reference"] = reference
            worst = check_probe(started, settings.probe_tolerance or default_tolerance(dtype), served)
        except BaseException:
            self._end(at_once=True)
            raise
        _log.info(
            "vllm %s serves %s after %.0f s; probe: log probabilities differ from transformers' by %.1g nats on "
            "average",
            started[0]["version"],
            served.name,
            time.monotonic() - began,
            worst,
        )

    @property
    def pids(self) -> list[int]:
        """The children's process ids; empty once closed."""
        return [child.pid for child in self._children]

    def generate(self, requests: Sequence[GenerationRequest], *, label: str = "") -> list[Generation]:
        """Answer all requests, in their order.

        Args:
            requests: prompts (not empty), sampling parameters and seeds.
            label: names the work on the progress line; empty shows none.

        Raises:
            EngineError: the engine is closed, a prompt is empty, or a child failed, died or hangs; it is closed then.
        """
        if not self._children:
            raise EngineError("the engine is closed")
        if any(not request.prompt_ids for request in requests):
            raise EngineError("a prompt has no tokens; there is nothing to continue")
        with progress(label, len(requests)) as bar:

            def answer(rows: Sequence[GenerationRequest]) -> list[Generation]:
                answers = self._distribute(rows, bar.advance)
                return [self._generation(request, answer) for request, answer in zip(rows, answers, strict=True)]

            done = generate_with_choices(answer, requests)
            bar.advance(0, sum(len(answer.token_ids) for answer in done))
        return done

    def stream(self, *, label: str = "", total: int = 0) -> ChoiceStream:
        """Requests in flight; one stream at a time. A child that fails closes the engine, as in `generate`.

        Raises:
            EngineError: the engine is closed, or a child is gone.
        """
        if not self._children:
            raise EngineError("the engine is closed")
        slots, stall = self._settings.max_num_seqs, self._settings.stall_seconds
        end = partial(self._end, at_once=True)
        return ChoiceStream(
            VllmStream(self._children, slots, stall, _row, self._generation, end, label=label, total=total)
        )

    def _distribute(self, requests: Sequence[GenerationRequest], notice: Callable[[int], None]) -> list[Answer]:
        """Send the rows to the children, those with a common prefix to the same one; returns answers in order."""
        shards = shards_by_prefix([request.prompt_ids for request in requests], len(self._children))
        work = [(child, shard) for child, shard in zip(self._children, shards, strict=True) if shard]
        try:
            for child, shard in work:
                child.send("generate", [_row(requests[index]) for index in shard])
            replies = gather([child for child, _ in work], self._settings.stall_seconds, notice)
        except BaseException:
            self._end(at_once=True)
            raise
        done = {
            index: answer
            for (_, shard), answers in zip(work, replies, strict=True)
            for index, answer in zip(shard, answers, strict=True)
        }
        return [done[index] for index in range(len(requests))]

    def close(self) -> None:
        """End the children and wait until their memory is free."""
        if self._children and self.prefix_cache.prompt_tokens:
            _log.info(
                "%s: %.0f%% of %s prompt tokens came from the prefix cache",
                self._name,
                100 * self.prefix_cache.hit_rate,
                f"{self.prefix_cache.prompt_tokens:,}",
            )
        self._end()

    def _end(self, *, at_once: bool = False) -> None:
        children, self._children = self._children, []
        for child in children:
            child.close(at_once=at_once)

    def _generation(self, request: GenerationRequest, answer: Answer) -> Generation:
        token_ids, finish, cached = answer
        if finish not in FINISH:
            raise EngineError(f"{self._name}: vLLM ended an answer with {finish!r}")
        self.prefix_cache.prompt_tokens += len(request.prompt_ids)
        self.prefix_cache.cached_tokens += cached
        return Generation(tuple(token_ids), FINISH[finish], cached)


def open_engine(
    stored: StoredVersion,
    codec: ChatCodec,
    settings: VllmEngineSection,
    model: ModelSection,
    *,
    reference: list[list[float]] | None = None,
) -> VllmEngine:
    """Open the engine on a stored version; `reference` and errors as of `VllmEngine`."""
    return VllmEngine(
        served_version(stored),
        settings,
        dtype=chosen_dtype(model.dtype, foundation(stored), on_gpu=resolve_device("auto") == "cuda"),
        max_context=model.max_context,
        stop_ids=codec.stop_ids,
        probe_prompts=probe_prompts_of(codec),
        reference=reference,
    )


def require_vllm(settings: VllmEngineSection | None = None) -> None:
    """Raise an error if vLLM is not installed, without importing it.

    Raises:
        ConfigError: says what to install.
    """
    if importlib.util.find_spec("vllm") is None:
        raise ConfigError(
            f"engine.type: vllm, but vllm is not installed. On a machine with GPUs: {sys.executable} -m pip install "
            f"'{VLLM}'; without one: make setup-vllm (docs/guides/vllm.md). Or set engine.type: transformers"
        )


def start_message(
    served: Served,
    settings: VllmEngineSection,
    dtype: str,
    max_context: int,
    stop_ids: Collection[int],
    probe_prompts: Sequence[Sequence[int]],
) -> Start:
    """The child's start message, with every parameter that vLLM would otherwise choose or read from a file."""
    engine: dict[str, Any] = {
        "dtype": dtype,
        "max_model_len": max_context,
        "seed": 0,
        "generation_config": "vllm",
        "skip_tokenizer_init": settings.reasoning_parser is None,
        "enable_prefix_caching": True,
        "tensor_parallel_size": settings.tensor_parallel_size,
        "max_num_seqs": settings.max_num_seqs,
        "gpu_memory_utilization": settings.gpu_memory_utilization,
        "enforce_eager": settings.enforce_eager,
        "disable_log_stats": True,
    }
    if settings.kv_cache_gib is not None:
        engine["kv_cache_memory_bytes"] = int(settings.kv_cache_gib * _GIB)
    if settings.block_size is not None:
        engine["block_size"] = settings.block_size
    if settings.reasoning_parser is not None:
        engine["reasoning_parser"] = settings.reasoning_parser
    if served.adapter is not None:
        engine |= {"enable_lora": True, "max_loras": 1, "max_lora_rank": adapter_rank(served.adapter)}
    sampling = {
        **shared_sampling(stop_ids, settings.thinking_token_budget),
        "detokenize": False,
    }
    return Start(
        checkpoint=str(served.checkpoint),
        dtype=dtype,
        engine=engine,
        adapter=None if served.adapter is None else (served.name, served.number, str(served.adapter)),
        sampling=sampling,
        repetition=None if settings.repetition is None else repetition_detection(settings.repetition),
        prompts=[list(ids[: max_context - 1]) for ids in probe_prompts],
        reference=True,
    )


def token_sampling(request: GenerationRequest) -> dict[str, Any]:
    """The parameters of a row that affect sampling, in vLLM's names; the policy handles the others."""
    sampling = request.sampling
    parameters: dict[str, Any] = {
        "max_tokens": sampling.max_tokens,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k,
        "min_p": sampling.min_p,
    }
    if (allowed := next_tokens(request)) is not None:
        parameters["allowed_token_ids"] = allowed
    return parameters


def shared_sampling(stop_ids: Collection[int], thinking_token_budget: int | None) -> dict[str, Any]:
    """The parameters common to all requests: the codec's stop tokens, and no default from vLLM or a file."""
    sampling: dict[str, Any] = {
        "n": 1,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "repetition_penalty": 1.0,
        "min_tokens": 0,
        "stop_token_ids": sorted(stop_ids),
        "ignore_eos": True,
    }
    if thinking_token_budget is not None:
        sampling["thinking_token_budget"] = thinking_token_budget
    return sampling


def repetition_detection(section: RepetitionSection) -> dict[str, int]:
    """The configuration section in vLLM's names."""
    return {"min_pattern_size": section.shortest, "max_pattern_size": section.longest, "min_count": section.count}


def adapter_rank(adapter: Path) -> int:
    """The smallest rank that vLLM supports and that holds the adapter's.

    Raises:
        ModelError: its configuration cannot be read, or it is larger than vLLM serves.
    """
    path = adapter / "adapter_config.json"
    try:
        rank = int(json.loads(path.read_text(encoding="utf-8"))["r"])
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"{path}: is not an adapter configuration: {error}") from None
    for room in _RANKS:
        if rank <= room:
            return room
    raise ModelError(f"{path}: rank {rank}; vLLM serves adapters up to rank {_RANKS[-1]}. Lower update.lora.rank")


def child_environment(settings: VllmEngineSection, index: int, environment: Mapping[str, str]) -> dict[str, str]:
    """The environment of child number `index`: its GPUs, its threads, and no telemetry.

    Raises:
        ConfigError: CUDA_VISIBLE_DEVICES names fewer GPUs than the replicas need.
    """
    variables = {
        **environment,
        # Run the engine in the child itself: one process less that can fail, and the same schedule for equal requests.
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_NO_USAGE_STATS": "1",
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), *filter(None, [environment.get("PYTHONPATH")])]),
    }
    if settings.replicas > 1:
        each, needed = settings.tensor_parallel_size, settings.replicas * settings.tensor_parallel_size
        named = environment.get("CUDA_VISIBLE_DEVICES")
        devices = named.split(",") if named else [str(number) for number in range(needed)]
        if len(devices) < needed:
            raise ConfigError(
                f"engine.replicas: {settings.replicas} of {each} GPUs each (engine.tensor_parallel_size) "
                f"need {needed}; CUDA_VISIBLE_DEVICES names {len(devices)}"
            )
        variables["CUDA_VISIBLE_DEVICES"] = ",".join(devices[index * each : (index + 1) * each])
    if settings.threads:
        variables["OMP_NUM_THREADS"] = str(settings.threads)
    elif settings.replicas > 1 and "OMP_NUM_THREADS" not in environment:
        variables["OMP_NUM_THREADS"] = str(max(1, len(os.sched_getaffinity(0)) // settings.replicas))
    return variables


def _spawn(settings: VllmEngineSection, index: int, name: str) -> Child:
    command = [sys.executable, "-m", "policies.engines.vllm_child"]
    title = f"vllm, {name}" + (f", replica {index}" if settings.replicas > 1 else "")
    return Child(command, child_environment(settings, index, os.environ), title)


def _row(request: GenerationRequest) -> Row:
    return list(request.prompt_ids), token_sampling(request), request.seed
