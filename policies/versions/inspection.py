"""Check a third-party checkpoint before anything of it is loaded.

A checkpoint is data: a configuration, weights as safetensors, a tokenizer. This reads headers alone, so it takes
milliseconds and no memory, and says in one line what is wrong: weights as pickles (which run code when they are read),
files that are cut short, or a configuration that describes another model than the weights are of, which transformers
would fill with random numbers.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from policies.versions.gguf import gguf_in, is_gguf, unpacked
from svd_loop.errors import ConfigError, ModelError

_LARGEST_JSON = 64 * 2**20
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
_LAYER = re.compile(r"(?:^|\.)(?:layers|h|blocks)\.(\d+)\.")
_EMBEDDING = re.compile(r"(?:^|\.)(?:embed_tokens|wte|word_embeddings|embed_in)\.weight$")
_SETTINGS = ("generation_config.json", "tokenizer_config.json", "special_tokens_map.json")
"""What transformers reads besides, and trusts to be JSON objects."""
_TOKENIZERS = ("tokenizer.json", "*.model", "vocab.*", "*.tiktoken", "tekken.json")
"""Files that hold a tokenizer; without any, transformers makes up an empty one for some architectures."""
_DIMENSIONS = {
    "num_hidden_layers": 10_000,
    "hidden_size": 1_000_000,
    "intermediate_size": 10_000_000,
    "num_attention_heads": 100_000,
    "vocab_size": 10_000_000,
}
"""Configuration fields that decide the size of the model, each with its largest plausible value."""


def usable_checkpoint(path: Path, store: Path) -> Path:
    """Check a checkpoint and return its folder; a GGUF file is unpacked under `store`.

    Args:
        path: a folder, or a GGUF file; it exists.
        store: where unpacked GGUF files are kept.

    Raises:
        ConfigError: the path is another kind of file, or the GGUF reader is not installed.
        ModelError: it cannot be used.
    """
    packed = gguf_in(path) if path.is_dir() else path
    if packed is not None:
        if not is_gguf(packed):
            raise ConfigError(f"model.path: {packed} is a file and not in GGUF; give the folder of a checkpoint")
        path = unpacked(packed, store)
    refuse_unusable(path)
    return path


def refuse_unusable(folder: Path) -> None:
    """Check a checkpoint's folder.

    Raises:
        ModelError: something in it cannot be used; names the file and what to do.
    """
    for path in (*folder.glob("*.json"), *folder.glob("*.jinja")):
        if path.stat().st_size > _LARGEST_JSON:
            raise ModelError(f"model.path: {path} is larger than {_LARGEST_JSON // 2**20} MiB")
    for name in _SETTINGS:
        if (folder / name).is_file():
            _read_json(folder / name)
    config = _read_json(folder / "config.json")
    text = config.get("text_config", config)
    if not isinstance(text, dict):
        raise ModelError(f"model.path: {folder / 'config.json'}: text_config is not a mapping")
    for name, largest in _DIMENSIONS.items():
        value = text.get(name)
        if value is not None and not (isinstance(value, int) and 0 < value <= largest):
            raise ModelError(f"model.path: {folder / 'config.json'}: {name} is {str(value)[:80]}")
    if not any(any(folder.glob(pattern)) for pattern in _TOKENIZERS):
        raise ModelError(f"model.path: {folder} has no tokenizer (tokenizer.json)")
    shapes = _tensor_shapes(folder)
    _refuse_other_vocabulary(folder, text.get("vocab_size"), shapes)
    layers = [int(found[1]) for name in shapes if (found := _LAYER.search(name))]
    wanted = text.get("num_hidden_layers")
    extra = text.get("num_nextn_predict_layers")
    extra = extra if isinstance(extra, int) else 0
    if layers and wanted is not None and not wanted <= max(layers) + 1 <= wanted + extra:
        raise ModelError(
            f"model.path: {folder}: config.json says {wanted} layers, the weights have {max(layers) + 1}; "
            "one of the two is of another model"
        )


def _refuse_other_vocabulary(folder: Path, wanted: int | None, shapes: Mapping[str, Sequence[int]]) -> None:
    for name, shape in shapes.items():
        if wanted is not None and _EMBEDDING.search(name) and len(shape) == 2 and shape[0] != wanted:
            raise ModelError(
                f"model.path: {folder}: config.json says vocab_size {wanted}, the weights ({name}) have {shape[0]}; "
                "one of the two is of another model"
            )


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise ModelError(f"model.path: {path.parent} has no {path.name}; is it the folder of a checkpoint?") from None
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"model.path: {path} cannot be read: {str(error)[:200]}") from None
    if not isinstance(content, dict):
        raise ModelError(f"model.path: {path} must be a JSON object, found {type(content).__name__}")
    return content


def _tensor_shapes(folder: Path) -> dict[str, Sequence[int]]:
    """Shapes of all tensors; each file's header is checked against its size."""
    from safetensors import SafetensorError, safe_open

    shapes: dict[str, Sequence[int]] = {}
    for path in _weight_files(folder):
        try:
            with safe_open(str(path), framework="numpy") as file:
                shapes |= {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118
        except FileNotFoundError:
            raise ModelError(f"model.path: {path} is missing; the index names it") from None
        except (SafetensorError, OSError, ValueError) as error:
            raise ModelError(f"model.path: {path} is damaged or cut short: {str(error)[:200]}") from None
    return shapes


def _weight_files(folder: Path) -> list[Path]:
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        mapping = _read_json(index).get("weight_map")
        if not isinstance(mapping, Mapping) or not all(isinstance(name, str) for name in mapping.values()):
            raise ModelError(f"model.path: {index} has no weight_map from tensors to files")
        files = sorted(set(mapping.values()))
        for name in files:
            if Path(name).name != name:
                raise ModelError(f"model.path: {index} names a file outside its folder: {name[:80]!r}")
        return [folder / name for name in files]
    found = sorted(folder.glob("*.safetensors"))
    if found:
        return found
    pickles = [path.name for pattern in _PICKLES for path in sorted(folder.glob(pattern))]
    if pickles:
        raise ModelError(
            f"model.path: {folder} has its weights as {pickles[0]}, a pickle, which can run code when it is read. "
            "Take the safetensors variant, or convert it once where you trust it: "
            "AutoModelForCausalLM.from_pretrained(...).save_pretrained(...)"
        )
    raise ModelError(f"model.path: {folder} has no weights (model.safetensors)")
