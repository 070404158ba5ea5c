"""Fetch a starting checkpoint from the hub, with errors that fit this project.

The hub client's messages assume a network: they advise to disable its offline mode, and
explain repository names when a folder was mistyped. So each kind of failure gets a message of its own.
"""

from __future__ import annotations

import os
from pathlib import Path

from svd_loop.errors import ConfigError

_PARTS = 2
"""Most parts of a hub name: OWNER/NAME."""


def looks_local(path: str) -> bool:
    """Whether a path that does not exist was meant as a local one, because no hub name looks like it."""
    parts = path.split("/")
    written = path.startswith(("/", ".", "~")) or "\\" in path or path.endswith(("/", ".gguf", ".safetensors"))
    return written or len(parts) > _PARTS or (len(parts) == _PARTS and Path(parts[0]).is_dir())


def fetched(name: str) -> Path:
    """The folder of a hub checkpoint, from the cache or downloaded.

    Raises:
        ConfigError: it was meant as a folder that is not there, or cannot be had; says which of the two.
    """
    if looks_local(name):
        raise ConfigError(f"model.path: {name}: no such folder{_nearest(name)}")
    from huggingface_hub import snapshot_download
    from huggingface_hub.constants import HF_HUB_CACHE
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name))
    except HFValidationError:
        raise ConfigError(f"model.path: {name}: no such folder, and a model of the hub is named OWNER/NAME") from None
    except HfHubHTTPError as error:
        raise ConfigError(f"model.path: {name}: no such folder, and the hub refuses it: {_refusal(error)}") from None
    except (LocalEntryNotFoundError, OSError):
        raise ConfigError(
            f"model.path: {name}: no such folder, no complete copy in the hub's cache ({HF_HUB_CACHE}), and the hub "
            "cannot be asked from here. Set model.path to a folder with the checkpoint; or, where there is a network, "
            f"run `hf download {name}` and copy that cache to this machine (HF_HOME names its folder)"
        ) from None


def _nearest(name: str) -> str:
    """The first missing part of a path, and the existing entries beside it."""
    path = Path(name)
    if name.startswith("~"):
        return f"; ~ is not expanded here, write {Path(name).expanduser()}"
    parent = next((folder for folder in path.parents if folder.is_dir()), None)
    if parent is None or not os.access(parent, os.R_OK):
        return ""
    there = sorted(entry.name for entry in parent.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    shown = ", ".join(there[:10]) + (", …" if len(there) > 10 else "")
    return f"; {parent.absolute()} has {shown or 'no folder in it'}"


def _refusal(error: Exception) -> str:
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status in (401, 403, 404):
        return f"it has no model of this name that you may read ({status}); for a gated or private one: `hf auth login`"
    return str(error).strip().splitlines()[0] if str(error).strip() else f"status {status}"
