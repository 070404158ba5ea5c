"""MinHash sketches of texts, their band keys, and the exact similarity that verifies a match.

A sketch only *proposes* pairs: locality-sensitive hashing finds texts whose word pairs probably overlap, and
`jaccard` on the texts themselves decides. A hash collision therefore never drops or reports a prompt.

The permutations and the choice of bands are datasketch's. Its sketches are made one by one, with more overhead for
each than work, so the arithmetic is done here for many texts at once; the tests compare the results with datasketch.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from envs.prompts.normalise import Form, digest

PERMUTATIONS = 64
# Weights of false positives and false negatives when datasketch chooses bands: a false proposal costs one comparison
# of texts, a missing proposal lets a duplicate stay.
_WEIGHTS = (0.05, 0.95)
# Hashes permuted at once: with 64 permutations of 4 bytes this is one MiB, which fits a cache.
_HASHES_AT_ONCE = 4096

Sketches = NDArray[np.uint32]
"""One row of `PERMUTATIONS` values per text."""


def sketches(forms: Sequence[Form]) -> Sketches:
    """MinHash sketches of the texts' word pairs, (texts, PERMUTATIONS); the largest value everywhere without words."""
    factors, offsets = _permutations()
    minima = np.full((len(forms), PERMUTATIONS), np.iinfo(np.uint32).max, dtype=np.uint32)
    for bundle in _bundles(forms):
        hashes = np.array([value for _, values in bundle for value in values], dtype=np.uint32)
        permuted = _mixed_32(hashes)[:, None] * factors
        permuted += offsets
        start = 0
        for row, values in bundle:
            end = start + len(values)
            np.minimum(minima[row], permuted[start:end].min(axis=0), out=minima[row])
            start = end
    return minima


class Bands:
    """Band keys of sketches: texts whose similarity is probably at least `threshold` share at least one."""

    def __init__(self, threshold: float) -> None:
        self.count, self.rows = _bands(min(threshold, 0.99))  # equal texts still share every band
        shape = (self.count, self.rows)
        self._factors = np.random.RandomState(1).randint(0, 2**64, shape, dtype=np.uint64) | np.uint64(1)

    def keys(self, sketches: Sketches, salts: Sequence[str] | None = None) -> list[list[int]]:
        """`count` signed 64-bit keys per text; texts with different salts share none.

        Multilinear hashing (Carter and Wegman 1979) with a band's own factors, then a mix of the bits.
        """
        values = sketches[:, : self.count * self.rows].reshape(-1, self.count, self.rows).astype(np.uint64)
        keys = np.einsum("tbr,br->tb", values, self._factors)
        if salts is not None:
            keys += np.array([digest(salt) for salt in salts], dtype=np.int64).view(np.uint64)[:, None]
        found: list[list[int]] = _mixed_64(keys).view(np.int64).tolist()
        return found


def jaccard(left: frozenset[str], right: frozenset[str]) -> float:
    """Shared elements over all elements; 0 for two empty sets."""
    shared = len(left & right)
    return shared / (len(left) + len(right) - shared) if shared else 0.0


def _bundles(forms: Iterable[Form]) -> Iterator[list[tuple[int, list[int]]]]:
    """(Number of the text, hashes of its pairs), about `_HASHES_AT_ONCE` at a time; a long text comes in parts."""
    bundle: list[tuple[int, list[int]]] = []
    size = 0
    for row, form in enumerate(forms):
        hashes = _pair_hashes(form)
        for start in range(0, len(hashes), _HASHES_AT_ONCE):
            part = hashes[start : start + _HASHES_AT_ONCE]
            if size and size + len(part) > _HASHES_AT_ONCE:
                yield bundle
                bundle, size = [], 0
            bundle.append((row, part))
            size += len(part)
    if bundle:
        yield bundle


def _pair_hashes(form: Form) -> list[int]:
    """CRC-32 of every pair of neighbouring words; repeated ones do not change a minimum.

    CRC-32 because it is five times cheaper than datasketch's default SHA-1, and the bits are mixed afterwards.
    """
    pairs = "\n".join(map(" ".join, pairwise(form.words))) or "".join(form.words)
    return list(map(zlib.crc32, pairs.encode("utf-8", "replace").split(b"\n"))) if pairs else []


@cache
def _bands(threshold: float) -> tuple[int, int]:
    """The number of bands, and of values in each, that datasketch chooses; it needs a threshold below one."""
    from datasketch import MinHashLSH

    chosen = MinHashLSH(threshold=threshold, num_perm=PERMUTATIONS, weights=_WEIGHTS)
    return chosen.b, chosen.r


@cache
def _permutations() -> Any:
    from datasketch import MinHash

    return MinHash(num_perm=PERMUTATIONS).permutations


def _mixed_32(values: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """MurmurHash3's 32-bit finalizer, which datasketch applies to every hash before the permutations."""
    values ^= values >> np.uint32(16)
    values *= np.uint32(0x85EBCA6B)
    values ^= values >> np.uint32(13)
    values *= np.uint32(0xC2B2AE35)
    values ^= values >> np.uint32(16)
    return values


def _mixed_64(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """MurmurHash3's 64-bit finalizer."""
    values ^= values >> np.uint64(33)
    values *= np.uint64(0xFF51AFD7ED558CCD)
    values ^= values >> np.uint64(33)
    values *= np.uint64(0xC4CEB9FE1A85EC53)
    values ^= values >> np.uint64(33)
    return values
