"""Use GGUF files as checkpoints: read by transformers, and unpacked once into a normal checkpoint folder.

Weights come out in single precision, the values that the file's blocks stand for. Where a file has no output matrix of
its own, the head is tied to the embedding, as it was before.
"""

from __future__ import annotations

import hashlib
import importlib.util
import shutil
from pathlib import Path

from svd_loop.errors import ConfigError, ModelError, first_line
from svd_loop.support.part_folder import part_folder

_MAGIC = b"GGUF"


def is_gguf(path: Path) -> bool:
    """Whether a path is a GGUF file, by its first bytes."""
    try:
        with path.open("rb") as file:
            return file.read(len(_MAGIC)) == _MAGIC
    except OSError:
        return False


def gguf_in(folder: Path) -> Path | None:
    """The GGUF file of a folder without a checkpoint of its own; None if there is a checkpoint, or no file.

    Raises:
        ConfigError: there are several; names them.
    """
    found = sorted(folder.glob("*.gguf"))
    if not found or (folder / "config.json").exists():
        return None
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise ConfigError(f"model.path: {folder} holds several GGUF files ({names}); name one")
    return found[0]


def unpacked(path: Path, store: Path) -> Path:
    """A GGUF file's checkpoint folder under `store`, made at the first call; it only exists complete.

    Raises:
        ConfigError: the reader is not installed.
        ModelError: the file cannot be read, or is of an architecture that transformers does not read.
    """
    target = store / f"gguf-{_digest(path)}"
    if target.is_dir():
        return target
    if importlib.util.find_spec("gguf") is None:
        raise ConfigError(f"model.path: {path} is a GGUF file; reading one needs the package gguf: pip install gguf")
    with part_folder(target) as made:
        _unpack(path, made)
        try:
            made.rename(target)
        except OSError:  # another process was faster
            if not target.is_dir():
                raise
    return target


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def _unpack(path: Path, target: Path) -> None:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GgufConfig
    from transformers.utils import logging

    logging.disable_progress_bar()  # as in `load_checkpoint`
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(path.parent), gguf_file=path.name, trust_remote_code=False)
        config = AutoConfig.from_pretrained(str(path.parent), gguf_file=path.name, trust_remote_code=False)
        if (width := _head_width(path)) is not None and hasattr(config, "head_dim"):
            config.head_dim = width  # transformers uses the family's usual width and ignores the file's
        model = AutoModelForCausalLM.from_pretrained(
            str(path.parent),
            config=config,
            dtype=torch.float32,
            quantization_config=GgufConfig(dequantize=True),
            gguf_file=path.name,
            trust_remote_code=False,
        )
        if hasattr(model.config, "quantization_config"):
            del model.config.quantization_config
        model.save_pretrained(target)
        tokenizer.save_pretrained(target)
        # A tensor that did not fit was left out with a warning; what was written has to load without one.
        AutoModelForCausalLM.from_pretrained(str(target), trust_remote_code=False)
    except Exception as error:  # the reader fails in many ways on unknown files
        raise ModelError(
            f"model.path: {path} cannot be read as GGUF by transformers: {first_line(error)}. Take the checkpoint "
            "it was made from, or convert it to safetensors with another tool"
        ) from error
    if (licence := path.parent / "LICENSE").is_file():
        shutil.copyfile(licence, target / "LICENSE")


def _head_width(path: Path) -> int | None:
    """The width of an attention head, where the file says one."""
    from gguf import GGUFReader

    reader = GGUFReader(str(path))
    architecture = reader.get_field("general.architecture")
    field = reader.get_field(f"{architecture.contents()}.attention.key_length") if architecture else None
    return None if field is None else int(field.contents())
