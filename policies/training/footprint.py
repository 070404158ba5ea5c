"""Estimate the memory and disk that a checkpoint needs for training, serving and storage.

The shape is read from the model itself, built on torch's meta device, which allocates nothing. Weights, gradients,
optimizer states, adapters and the KV cache are exact. Activations are a model of what the usual decoder layer (norms,
attention without a score matrix, gated MLP) keeps for its backward pass; tests hold it against what torch really
keeps. Left out: fragmentation, the CUDA context (about half a GiB), and the layer that
shards gather for a moment.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from policies.training.rows import share_of_batch
from svd_loop.config.update import UpdateSection
from svd_loop.errors import ModelError

BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
_ADAMW_STATES = 2
"""Optimizer-state values per trained parameter, in single precision like the parameter and its gradient."""
BUILT_LOGITS = 2**29
"""Most bytes of the logits that an update on a CPU builds at once; beyond this TRL's head is used."""
_LOGITS_COPIES_BYTES = 14
"""Per logit: itself, its single-precision copy, the log-probability, and the gradient: three and a half copies."""
_LOADED = 2
"""Bytes per parameter of a published file in half precision, in memory while it is converted to single precision."""
_STEP_COPIES = 3
"""Copies of the largest parameter: two of AdamW's step, and the second gradient of an embedding tied to the head."""
_CHECKPOINTS_KEPT = 2
"""Training checkpoints on disk at once."""


@dataclass(frozen=True, slots=True)
class Shape:
    """The sizes of a checkpoint that memory depends on.

    Attributes:
        parameters: all of them, tied ones once.
        largest: elements of the largest parameter, usually the embedding.
        linear: parameters of linear layers, the output head left out.
        adapter_per_rank: parameters that an adapter on all linear layers but the head has per unit of rank.
        norms: widths of all normalisation layers, added up; per-head ones with all their heads.
        layers: decoder layers.
        hidden, intermediate, attention, key_value, vocabulary: widths of the residual stream, the MLP, all attention
            heads, all key (or value) heads, and the output.
        windows: for each layer, the tokens its KV cache holds at most; None for all.
    """

    parameters: int
    largest: int
    linear: int
    adapter_per_rank: int
    norms: int
    layers: int
    hidden: int
    intermediate: int
    attention: int
    key_value: int
    vocabulary: int
    windows: tuple[int | None, ...]

    def adapter(self, rank: int) -> int:
        """Parameters of an adapter."""
        return rank * self.adapter_per_rank

    def cache(self, tokens: int, dtype: str) -> int:
        """Bytes of the KV cache of a row."""
        held = sum(tokens if window is None else min(tokens, window) for window in self.windows)
        return 2 * self.key_value * BYTES[dtype] * held


@dataclass(frozen=True, slots=True)
class TrainingMemory:
    """Peak memory on the training device, in bytes.

    Attributes:
        weights, gradients, optimizer: held for the whole update.
        activations, logits: held from the forward pass to the end of the backward pass.
        step: temporary tensors of an optimizer step, when activations and logits are free again.
    """

    weights: int
    gradients: int
    optimizer: int
    activations: int
    logits: int
    step: int

    @property
    def total(self) -> int:
        """The peak: what is held throughout, and the larger of a pass and a step."""
        return self.weights + self.gradients + self.optimizer + max(self.activations + self.logits, self.step)


@dataclass(frozen=True, slots=True)
class ServingMemory:
    """Bytes on the serving device: weights, and the KV cache of one row at its longest."""

    weights: int
    row: int

    def rows(self, budget: int) -> int:
        """Rows of full length that fit `budget` bytes beside the weights; can be 0."""
        return max(0, budget - self.weights) // max(1, self.row)


def shape_of(checkpoint: Path) -> Shape:
    """Read a checkpoint's shape from its config.json, without its weights.

    Raises:
        ModelError: transformers has no causal language model for it.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    try:
        config = AutoConfig.from_pretrained(str(checkpoint), trust_remote_code=False)
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise ModelError(f"model.path: {checkpoint}: is no causal language model: {error}") from error
    model.tie_weights()
    text = config.get_text_config()
    heads = text.num_attention_heads
    head = getattr(text, "head_dim", None) or text.hidden_size // heads
    key_value = (getattr(text, "num_key_value_heads", None) or heads) * head
    linears = [module for module in model.modules() if isinstance(module, torch.nn.Linear)]
    linears = [module for module in linears if module is not model.get_output_embeddings()]
    return Shape(
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        largest=max(parameter.numel() for parameter in model.parameters()),
        linear=sum(module.weight.numel() for module in linears),
        adapter_per_rank=sum(module.in_features + module.out_features for module in linears),
        norms=sum(_norm_width(name, module, heads * head, key_value) for name, module in model.named_modules()),
        layers=text.num_hidden_layers,
        hidden=text.hidden_size,
        intermediate=getattr(text, "intermediate_size", None) or 4 * text.hidden_size,
        attention=heads * head,
        key_value=key_value,
        vocabulary=text.vocab_size,
        windows=tuple(_windows(text)),
    )


def training_memory(shape: Shape, update: UpdateSection, *, tokens: int, bf16: bool) -> TrainingMemory:
    """Memory of one process of an update whose longest row has `tokens` tokens.

    Args:
        shape: of the base.
        update: method, rank, rows per forward pass, checkpointing, and the processes and shards of `launch`.
        tokens: of the longest row; the rows beside it in a forward pass are padded to it.
        bf16: compute in half precision (autocast); weights train in single precision either way.
    """
    trained = shape.parameters if update.method == "full" else shape.adapter(update.lora.rank)
    frozen = 0 if update.method == "full" else shape.parameters
    casts = 2 * (shape.linear + shape.hidden * shape.vocabulary) if bf16 else 0
    launch = update.launch
    rows = share_of_batch(update.batch_size, launch.processes, update.micro_batch_size)
    rows *= update.algorithm.sequences_per_row  # a pair is two; the reference's figures are computed before, and kept
    shards = launch.processes if launch.strategy != "ddp" else 1  # of gradients and optimizer states
    weight_shards = shards if launch.strategy in ("fsdp2", "zero3") else 1
    layers = _kept_by_layers(shape, bf16)
    if update.gradient_checkpointing:  # each layer's input, and one layer in full while it is computed again
        layers = 4 * shape.hidden * shape.layers + layers // shape.layers
    logits = _LOGITS_COPIES_BYTES * shape.vocabulary
    return TrainingMemory(
        4 * (trained + frozen) // weight_shards + casts,
        4 * trained // shards,
        4 * _ADAMW_STATES * trained // shards,
        rows * tokens * layers,
        round(rows * tokens * logits * update.algorithm.logits_memory),
        4 * _STEP_COPIES * shape.largest // shards if update.method == "full" else 0,
    )


def host_overhead(shape: Shape) -> int:
    """Memory that an update on a CPU takes besides `training_memory`: the file while it is converted."""
    return _LOADED * shape.parameters


def serving_memory(shape: Shape, dtype: str, tokens: int) -> ServingMemory:
    """Memory of generating, per row of `tokens` tokens, prompt and answer together."""
    return ServingMemory(shape.parameters * BYTES[dtype], shape.cache(tokens, dtype))


def version_bytes(shape: Shape, update: UpdateSection) -> int:
    """Disk of one trained version; it is stored in single precision, and the base only by reference."""
    return 4 * (shape.parameters if update.method == "full" else shape.adapter(update.lora.rank))


def checkpoint_bytes(shape: Shape, update: UpdateSection) -> int:
    """Disk of an update in progress: weights and optimizer states to resume from, and weights to choose from."""
    resumed = _CHECKPOINTS_KEPT * (1 + _ADAMW_STATES) if update.checkpoint_steps else 0
    return (resumed + update.choose_from) * version_bytes(shape, update)


def _kept_by_layers(shape: Shape, bf16: bool) -> int:
    """Bytes per token that all layers keep for the backward pass.

    A norm keeps its input, the normalised input and its output; attention keeps queries, keys, values and output; the
    MLP keeps four tensors of its width. Norms are computed in single precision, the rest in half under autocast.
    """
    wide = 2 * (shape.attention + shape.key_value) + 4 * shape.intermediate
    return (13 if bf16 else 12) * shape.norms + (2 if bf16 else 4) * wide * shape.layers


def _norm_width(name: str, module: Any, attention: int, key_value: int) -> int:
    if not type(module).__name__.endswith(("RMSNorm", "LayerNorm")):
        return 0
    per_head = {"q_norm": attention, "k_norm": key_value}
    return per_head.get(name.rpartition(".")[2]) or int(module.weight.numel())


def _windows(text: Any) -> list[int | None]:
    window = getattr(text, "sliding_window", None)
    kinds = getattr(text, "layer_types", None) or ["sliding_attention" if window else "full_attention"]
    kinds = kinds if len(kinds) == text.num_hidden_layers else kinds * text.num_hidden_layers
    return [window if kind == "sliding_attention" else None for kind in kinds]
