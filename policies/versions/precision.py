"""The precision in which a model generates, where `model.dtype: auto` leaves the choice to us.

bfloat16 takes half the memory and, where the device has instructions for it, a fraction of the time: on a processor
with AVX512_BF16 a product of a 0.5B model's size runs at four times the speed of float32, on one without it at a sixth
(docs/results/engines.md). Narrow models, such as the embedded one, spend little time in products and keep float32.
"""

from __future__ import annotations

import json
from pathlib import Path

NARROW = 256
"""Hidden size below which a model keeps float32."""
_CPU_INSTRUCTIONS = ("avx512_bf16", "amx_bf16", "bf16")
"""Capabilities of a processor, as torch names them, that compute products in bfloat16."""


def chosen_dtype(dtype: str, checkpoint: Path, *, on_gpu: bool) -> str:
    """Return the name of a torch type for `model.dtype`.

    `auto` depends on the checkpoint's configuration and the device alone, so that all versions of a job have the same.

    Args:
        dtype: the setting; anything but `auto` is returned as it is.
        checkpoint: folder of complete weights.
        on_gpu: whether the model runs on a GPU, which need not be in this machine.
    """
    if dtype != "auto":
        return dtype
    wide = (hidden_size(checkpoint) or NARROW) >= NARROW
    return "bfloat16" if wide and has_bfloat16(on_gpu=on_gpu) else "float32"


def hidden_size(checkpoint: Path) -> int | None:
    """The width of a checkpoint's hidden states; None if its configuration does not say."""
    try:
        config = json.loads((checkpoint / "config.json").read_text("utf-8"))
        size = config.get("text_config", config).get("hidden_size")
    except (OSError, ValueError, AttributeError, RecursionError):
        return None
    return size if isinstance(size, int) else None


def has_bfloat16(*, on_gpu: bool) -> bool:
    """Whether the device computes in bfloat16; a GPU that is not in this machine is assumed to."""
    import torch

    if on_gpu:
        return not torch.cuda.is_available() or torch.cuda.is_bf16_supported(including_emulation=False)
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name, False) for name in _CPU_INSTRUCTIONS)


def trains_in_bfloat16(wanted: bool, *, on_gpu: bool) -> bool:
    """Return whether `update.bf16` is followed: on every GPU, and on a processor with instructions for it.

    Args:
        wanted: `update.bf16`.
        on_gpu: whether the update runs on a GPU.
    """
    return wanted and (on_gpu or has_bfloat16(on_gpu=False))
