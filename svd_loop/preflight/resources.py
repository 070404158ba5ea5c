"""Estimate memory for training and serving, and disk for versions, and compare them with this machine.

Training is estimated with the longest row that the configuration allows and serving with the longest context, because a
long job will meet both. Training memory is that of one process, of the several that `update.launch` may start.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass

from policies.engines.decoding.budget import prefix_memory, row_memory, rows_that_fit
from policies.training.footprint import (
    BYTES,
    Shape,
    TrainingMemory,
    checkpoint_bytes,
    host_overhead,
    serving_memory,
    shape_of,
    training_memory,
    version_bytes,
)
from policies.versions.precision import chosen_dtype, trains_in_bfloat16
from svd_loop.assembly.backends import checkpoint_path
from svd_loop.config import Config
from svd_loop.config.engines import (
    RayEngineSection,
    ServerEngineSection,
    TransformersEngineSection,
    VllmEngineSection,
)
from svd_loop.errors import ConfigError
from svd_loop.support.memory import free_memory

GIB = 2**30
_PROCESS = GIB
"""Resident memory of a training process on a CPU besides its update: torch, transformers, TRL, MLflow."""


@dataclass(frozen=True, slots=True)
class Device:
    """The device a model will run on: its name, whether it is a GPU, and its memory in bytes."""

    name: str
    is_gpu: bool
    memory: int


def device_of(config: Config, gpu_memory: float | None) -> Device:
    """Return the device a job will use; `gpu_memory` (GiB) describes a GPU that is not in this machine."""
    if gpu_memory is not None:
        return Device(f"a GPU of {gpu_memory:g} GiB", True, int(gpu_memory * GIB))
    import torch

    if config.model.device != "cpu" and torch.cuda.is_available():
        free, _ = torch.cuda.mem_get_info()
        return Device(f"{torch.cuda.get_device_name()}, {free / GIB:.1f} GiB free", True, int(free))
    memory = free_memory()
    return Device(f"this machine's memory, {memory / GIB:.1f} GiB free", False, memory)


def dtype_of(config: Config, *, on_gpu: bool) -> str:
    """Return the precision in which a job will generate; see `policies.versions.precision`."""
    on_gpu = on_gpu or isinstance(config.engine, ServerEngineSection)
    return chosen_dtype(config.model.dtype, checkpoint_path(config.model.path, config.job.root), on_gpu=on_gpu)


def memory_needed(config: Config, gpu_memory: float | None = None) -> str:
    """Describe the memory that training and serving need.

    Raises:
        ConfigError: it does not fit the device; the message says which settings would.
        ModelError: the checkpoint is not a causal language model.
    """
    if not config.engine.has_weights:
        return "no model: not needed by a scripted policy"
    shape = shape_of(checkpoint_path(config.model.path, config.job.root))
    device = device_of(config, gpu_memory)
    sizes = f"{shape.parameters / 1e6:,.1f}M parameters; {_training(config, shape, device)}; "
    return f"{sizes}{_serving(config, shape, device)}; there is {device.name}"


def disk_needed(config: Config) -> str:
    """Describe the disk space of the job's versions and the free space.

    Raises:
        ConfigError: they do not fit, or the folder cannot be written.
        ModelError: the checkpoint is not a causal language model.
    """
    folder = config.job.root.resolve()
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    if not os.access(existing, os.W_OK):
        raise ConfigError(f"job.root: {folder} cannot be written: no write permission in {existing}; choose another")
    free = shutil.disk_usage(existing).free
    free_space = f"{_size(free)} free under {existing}"
    if not config.engine.has_weights:
        return free_space
    needed, words = _versions(config, shape_of(checkpoint_path(config.model.path, config.job.root)))
    if needed > free:
        raise ConfigError(
            f"job.root: {words}, but there are {free_space}; set update.keep_versions lower, update.method: "
            "lora, update.checkpoint_steps: 0, update.choose_from lower, or another job.root"
        )
    return f"{free_space}; {words}, and the ledger"


def versions_kept(config: Config) -> int:
    """Return the most trained versions on disk at once: the newest, the best, and the one being written."""
    kept = config.update.keep_versions
    return config.job.rounds if kept is None else min(config.job.rounds, kept + 2)


def _versions(config: Config, shape: Shape) -> tuple[int, str]:
    one, checkpoints = version_bytes(shape, config.update), checkpoint_bytes(shape, config.update)
    count = versions_kept(config)
    words = f"{count} versions of {_size(one)}"
    words += f" and training checkpoints of {_size(checkpoints)}" if checkpoints else ""
    return count * one + checkpoints, f"{words} take {_size(count * one + checkpoints)}"


def _training(config: Config, shape: Shape, device: Device) -> str:
    tokens = min(config.update.max_length, config.model.max_context)
    half = trains_in_bfloat16(config.update.bf16, on_gpu=device.is_gpu)
    needed = training_memory(shape, config.update, tokens=tokens, bf16=half)
    own = 0 if device.is_gpu else _PROCESS + host_overhead(shape)
    total = needed.total + own
    process = f", the process itself {_size(own)}" if own else ""
    words = f"training takes {_size(total)} ({_parts(needed)}{process}) with rows of {tokens:,} tokens"
    if total <= device.memory:
        return words
    states = needed.weights + needed.gradients + needed.optimizer + own
    left = max(0, device.memory - states)
    fitting = left * tokens // (needed.activations + needed.logits) if left > needed.step else 0
    fits = (
        f"rows of {fitting:,} tokens fit: lower update.max_length (and with it sampling.max_tokens), or "
        if fitting > 0
        else "even weights, gradients and optimizer states do not fit: "
    )
    raise ConfigError(
        f"{words}; there is {device.name}. {fits}set {' or '.join(_savings(config))}, or train on "
        "several GPUs in shards (update.launch)"
    )


def _savings(config: Config) -> list[str]:
    """Return the settings that reduce training memory."""
    update = config.update
    one = min(update.micro_batch_size or update.batch_size, update.batch_size) == 1
    ways = {
        "update.micro_batch_size: 1": not one,
        "update.gradient_checkpointing: true": not update.gradient_checkpointing,
        "update.method: lora": update.method == "full",
    }
    return [way for way, open in ways.items() if open] or ["a smaller model.path"]


def _serving(config: Config, shape: Shape, device: Device) -> str:
    engine, context = config.engine, config.model.max_context
    if isinstance(engine, ServerEngineSection):
        return "generating runs on the endpoints, which are not checked"
    if isinstance(engine, RayEngineSection):
        return "generating runs on the cluster, which is not checked"
    dtype = dtype_of(config, on_gpu=device.is_gpu)
    needed = serving_memory(shape, dtype, context)
    models = 2 if config.cascade.frozen_judge else 1
    words = (
        f"generating takes {_size(models * needed.weights)} of {dtype} weights and "
        f"{_size(needed.row)} of KV cache a row of {context:,} tokens"
    )
    if isinstance(engine, TransformersEngineSection):
        token = 2 * shape.key_value * shape.layers * BYTES[dtype]  # of all columns, also beyond a sliding window
        return _beside_known_prompts(config, engine, shape, device, words, models * needed.weights, token)
    share, gpus, wanted = 1.0, 1, engine.rows_at_once or 1
    if isinstance(engine, VllmEngineSection):
        share, gpus, wanted = engine.gpu_memory_utilization, engine.tensor_parallel_size, engine.max_num_seqs
    budget = int(device.memory * gpus * min(share, 1.0))
    rows = needed.rows(budget - (models - 1) * needed.weights)
    if rows < 1:
        raise ConfigError(
            f"{words}, more than {share:.0%} of {gpus} times {device.name}; lower model.max_context, set "
            "model.dtype: bfloat16, or engine.tensor_parallel_size of vLLM"
        )
    return f"{words} ({min(rows, wanted):,} of {wanted:,} rows fit at full length)"


def _beside_known_prompts(
    config: Config,
    engine: TransformersEngineSection,
    shape: Shape,
    device: Device,
    words: str,
    weights: int,
    token: int,
) -> str:
    """Describe what the transformers engine keeps of earlier prompts, and how many rows fit beside that."""
    free, context = max(0, device.memory - weights), config.model.max_context
    sliding = any(window is not None for window in shape.windows)
    prefixes = prefix_memory(engine, free, hidden=shape.hidden, sliding=sliding)
    if prefixes:
        prefixes *= 2 if config.cascade.frozen_judge else 1
        words += f", and known prompts up to {_size(prefixes)}"
    if prefixes + token * context > free:
        raise ConfigError(
            f"{words}, more than {device.name}; lower model.max_context, set model.dtype: bfloat16"
            f"{', or engine.prefix_cache_gib lower' if engine.prefix_cache_gib else ''}"
        )
    left = free - prefixes if device.is_gpu else row_memory(free, prefixes)
    rows, wanted = max(1, rows_that_fit(left, token, context)), engine.batch_size
    if rows >= wanted:
        return f"{words} ({wanted:,} of {wanted:,} rows fit at full length)"
    how = "halved when memory runs out" if device.is_gpu else "reduced to what fits"
    return f"{words} ({rows:,} of {wanted:,} rows fit at full length; engine.batch_size is {how})"


def _parts(memory: TrainingMemory) -> str:
    states = memory.weights + memory.gradients + memory.optimizer
    words = f"states {_size(states)}, activations {_size(memory.activations)}, logits {_size(memory.logits)}"
    if memory.step > memory.activations + memory.logits:
        words += f" or, when those are free again, a step of the optimizer {_size(memory.step)}"
    return words


def _size(count: float) -> str:
    """Format a number of bytes."""
    return f"{count / GIB:,.1f} GiB" if count >= GIB / 10 else f"{count / 2**20:,.1f} MiB"
