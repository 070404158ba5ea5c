"""Load a stored version as a model in memory, and export it as a plain checkpoint.

An adapter is merged in single precision whatever the precision asked for: adding a small update to half-precision
weights rounds most of it away. The stored base is never changed.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from policies.text.chat import ChatCodec
from policies.versions.precision import chosen_dtype
from policies.versions.stored import StoredVersion, follow_umask
from svd_loop.contracts import THOUGHT_MARKS
from svd_loop.errors import ModelError, WeightsError, first_line

PLAIN_TEMPLATES = "plain"
"""`model.templates` value that says the checkpoint is a base model without chat template."""


def load_codec(
    stored: StoredVersion, *, plain: bool = False, thought: tuple[str, str] | None = THOUGHT_MARKS
) -> ChatCodec:
    """Tokenizer and template of a version; an adapter uses those of its base."""
    return ChatCodec.load(foundation(stored), plain=plain, thought=thought)


def foundation(stored: StoredVersion) -> Path:
    """Folder with complete weights and tokenizer: an adapter's base, else the version's own checkpoint.

    Raises:
        WeightsError: an adapter names no base.
    """
    if stored.kind != "lora":
        return stored.checkpoint
    if stored.base_path is None:
        raise WeightsError(f"{stored.path}: the adapter's manifest does not say what it belongs to")
    return stored.base_path


def positions_of(checkpoint: Path) -> int | None:
    """Longest sequence a checkpoint was made for; None if it does not say, or scales its positions."""
    from transformers import PretrainedConfig

    config, _ = PretrainedConfig.get_config_dict(str(checkpoint))
    config = config.get("text_config", config)
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    scaled = rope.get("rope_type", rope.get("type", "default")) not in ("default", "llama3")
    positions = config.get("max_position_embeddings")
    return None if scaled or positions is None else int(positions)


def vocabulary_of(checkpoint: Path) -> int | None:
    """Rows of a checkpoint's embedding; larger ids are invalid. None if its configuration does not say."""
    try:
        config = json.loads((checkpoint / "config.json").read_text("utf-8"))
        size = config.get("text_config", config).get("vocab_size")
    except (OSError, ValueError, AttributeError, RecursionError):
        return None
    return size if isinstance(size, int) and size > 0 else None


def load_model(stored: StoredVersion, *, dtype: str = "float32", device: str = "auto") -> Any:
    """Load the version as one plain causal language model, with an adapter merged.

    Args:
        stored: the version.
        dtype: name of a torch type, or `auto` (`policies.versions.precision`).
        device: `auto` takes a GPU if there is one.

    Raises:
        ModelError: the checkpoint cannot be loaded, or the device is missing.
    """
    target = resolve_device(device)
    dtype = chosen_dtype(dtype, foundation(stored), on_gpu=target == "cuda")
    if stored.kind != "lora":
        return load_checkpoint(stored.checkpoint, dtype).to(target)
    from peft import PeftModel

    base = load_checkpoint(foundation(stored), "float32").to(target)
    merged = PeftModel.from_pretrained(base, str(stored.path)).merge_and_unload(safe_merge=True)
    if dtype == "float32":
        return merged
    # Not `merged.to(dtype)`: it would also round the frequencies of rotary positions, which stay in single precision.
    model = load_checkpoint(foundation(stored), dtype)
    model.load_state_dict(merged.state_dict())
    return model.to(target)


def load_checkpoint(folder: Path, dtype: str) -> Any:
    """A causal language model from a checkpoint folder, on the CPU.

    Raises:
        ModelError: transformers cannot load it.
    """
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()  # a bar per file would disturb the project's own progress line
    try:
        return AutoModelForCausalLM.from_pretrained(
            str(folder), dtype=getattr(torch, dtype), local_files_only=True, trust_remote_code=False
        )
    except Exception as error:  # a third-party checkpoint may raise anything
        raise ModelError(
            f"model.path: {folder}: cannot be loaded as a causal language model: {first_line(error)}"
        ) from error


def resolve_device(device: str) -> str:
    """`cpu` or `cuda` for `auto`, `cpu` or `cuda`.

    Raises:
        ModelError: a GPU is asked for and torch sees none.
    """
    import torch

    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise ModelError("model.device: cuda, but torch sees no GPU; use auto or cpu")
    return device


def export_merged(stored: StoredVersion, directory: Path) -> None:
    """Write a version as one checkpoint that `from_pretrained` and `vllm serve` can read.

    Weights are merged in single precision and cast once, to the precision the base was published in.

    Args:
        stored: the version.
        directory: created; must not hold anything.

    Raises:
        WeightsError: the directory is not empty or cannot be written.
    """
    import torch
    from transformers import AutoConfig

    if directory.exists() and any(directory.iterdir()):
        raise WeightsError(f"{directory}: is not empty; export into a new folder")
    published = AutoConfig.from_pretrained(str(foundation(stored)), trust_remote_code=False).dtype
    model = load_model(stored, dtype="float32", device="cpu").to(published or torch.float32)
    try:
        model.save_pretrained(directory)
        load_codec_files(stored, directory)
        follow_umask(directory)
    except OSError as error:
        raise WeightsError(f"{directory}: cannot be written: {error.strerror or error}") from error


def load_codec_files(stored: StoredVersion, directory: Path) -> None:
    """Copy the tokenizer of a version into `directory`."""
    from transformers import AutoTokenizer

    AutoTokenizer.from_pretrained(str(foundation(stored)), trust_remote_code=False).save_pretrained(directory)
