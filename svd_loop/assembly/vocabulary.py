"""A digest of a checkpoint's token ids: equal if and only if ids can be exchanged."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "merges.txt", "added_tokens.json")


def vocabulary_digest(checkpoint: Path) -> str:
    """Digest of a checkpoint's vocabulary.

    Of a `tokenizer.json` only the vocabulary counts, not how text is split, because rows are already ids; a checkpoint
    that was trained further keeps it.
    """
    found = {name: checkpoint / name for name in _FILES if (checkpoint / name).exists()}
    if (path := found.get("tokenizer.json")) is not None:
        data = json.loads(path.read_text(encoding="utf-8"))
        parts = [data.get("model", {}).get("vocab"), data.get("added_tokens")]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
    digest = hashlib.sha256()
    for name, path in found.items():
        digest.update(f"{name}\0".encode() + path.read_bytes())
    return digest.hexdigest()
