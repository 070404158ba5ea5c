"""MinHash sketches of texts (`datasketch`) and the exact similarity that confirms what they suggest.

A sketch only *proposes* pairs: locality-sensitive hashing finds texts whose word pairs probably overlap, and
`jaccard` on the texts themselves decides. A coincidence of hashes therefore never drops a prompt or accuses one.
"""

from __future__ import annotations

import hashlib
import zlib
from typing import TYPE_CHECKING

from envs.prompts.normalise import Form

if TYPE_CHECKING:
    from datasketch import MinHash, MinHashLSH

PERMUTATIONS = 64
# Weights of false positives and false negatives when datasketch chooses bands: a proposal too many costs one look
# at the text, a proposal missing costs a duplicate kept.
_WEIGHTS = (0.05, 0.95)


class Sketcher:
    """Makes sketches that can be compared with one another, one at a time."""

    def __init__(self) -> None:
        from datasketch import MinHash

        # CRC-32 instead of the default SHA-1: five times cheaper, and datasketch mixes the bits again itself.
        self._sketch = MinHash(num_perm=PERMUTATIONS, hashfunc=zlib.crc32)

    def sketch(self, form: Form) -> MinHash:
        """MinHash of the text's word pairs. The object is used again: the next call overwrites it."""
        self._sketch.clear()
        self._sketch.update_batch([pair.encode("utf-8", "replace") for pair in form.pairs()])
        return self._sketch


def bands_for(threshold: float) -> tuple[int, int]:
    """Bands and hash values per band of an index for `threshold`."""
    index = sketch_index(threshold)
    return index.b, index.r


def sketch_index(threshold: float) -> MinHashLSH:
    """An empty index in memory that proposes keys whose similarity probably reaches `threshold`."""
    from datasketch import MinHashLSH

    # datasketch wants a threshold below one; texts that are equal still share every band.
    return MinHashLSH(threshold=min(threshold, 0.99), num_perm=PERMUTATIONS, weights=_WEIGHTS)


def band_keys(sketch: MinHash, bands: int, rows: int, salt: str) -> list[int]:
    """One signed 64-bit key per band of `rows` hash values; texts of different `salt` share none."""
    values = sketch.hashvalues.tobytes()
    width = rows * sketch.hashvalues.itemsize
    start = hashlib.blake2b(salt.encode("utf-8", "replace"), digest_size=8)
    keys = []
    for band in range(bands):
        key = start.copy()
        key.update(band.to_bytes(2, "big") + values[band * width : (band + 1) * width])
        keys.append(int.from_bytes(key.digest(), "big", signed=True))
    return keys


def jaccard(left: frozenset[str], right: frozenset[str]) -> float:
    """Shared elements over all elements; two empty sets have nothing in common (0)."""
    shared = len(left & right)
    return shared / (len(left) + len(right) - shared) if shared else 0.0
