"""Assemble a stored version as one folder that is complete on any machine.

A version on disk may refer to files elsewhere: the base to its checkpoint, an adapter to what it was trained on. The
portable folder holds them all, below `base` where they are not the version's own, with the digests they always had. It
is made of links, so that nothing is copied before it is sent.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from policies.versions.stored import MANIFEST, read_manifest, stored_version
from svd_loop.errors import WeightsError

BASE = "base"
TOKENIZER = Path("components/tokenizer")
COMPANIONS = ("MLmodel", "chat_model.py", "python_env.yaml", "serving/settings.json", "serving/input_example.json")
"""What makes a version loadable by MLflow, if present (`svd_loop.mlflow_store.packaging`)."""


def make_portable(folder: Path, target: Path) -> None:
    """Put the version in `folder` together in `target`, an empty folder, as links to its files.

    Raises:
        WeightsError: `folder` holds no version, or a file it refers to is gone.
    """
    stored, manifest = stored_version(folder), read_manifest(folder)
    refers = stored.kind in ("base", "lora") and stored.base_path is not None
    own = target / BASE if stored.kind == "base" and refers else target
    _link(stored.checkpoint, manifest.files, own)
    if stored.kind == "lora" and stored.base_path is not None:
        _link(stored.base_path, manifest.base_files, target / BASE)
    tokenizer = (str(path.relative_to(folder)) for path in (folder / TOKENIZER).glob("*"))
    _link(folder, [name for name in (*COMPANIONS, *tokenizer) if (folder / name).exists()], target)
    portable = replace(manifest, base_path=BASE) if refers else manifest
    (target / MANIFEST).write_text(portable.dump(), encoding="utf-8")


def _link(source: Path, names: Iterable[str], target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    for name in names:
        if not (source / name).exists():
            raise WeightsError(f"{source / name}: is part of a version and gone")
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        (target / name).symlink_to((source / name).resolve())
