"""Keys and values of prompts that were read before, for prompts that begin alike.

    prompt   [ b0 ][ b1 ][ b2 ] rest          blocks of BLOCK tokens, each known by its parent and its tokens
    known    [ b0 ][ b1 ]                      `match` finds the longest known path
    read                  [ b2 ] rest          only this goes through the model; `add` keeps b2

A candidate's stages and votes share question and answer, and a prompt's candidates share the question; so most prompt
tokens of a judge have been read before, by another row of the same batch or in an earlier one. Memory is bounded. When
it is full, the least recently used blocks give way, but never those of the current wave (one call of the engine): a
wave larger than the cache would otherwise evict each block just before it is needed.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import DynamicCache

BLOCK = 16
"""Tokens of a block; prefixes are shared in whole blocks."""
_FIRST_BLOCKS = 256
"""Blocks allocated at first; twice as many each time they are used up."""
_ROOT = -1

Tokens = tuple[int, ...]


@dataclass(slots=True)
class _Block:
    """A block's key in the index, and the wave in which it was used last."""

    key: tuple[int, Tokens]
    wave: int


class PromptBlocks:
    """Blocks of keys and values by their tokens.

    Args:
        limit: bytes that the blocks may take; 0 keeps nothing.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._index: dict[tuple[int, Tokens], int] = {}
        # Least recently used first. A block is used after its children, so a parent never comes before its child and
        # the first block has no children.
        self._blocks: OrderedDict[int, _Block] = OrderedDict()
        self._free: list[int] = []
        self._layers: list[tuple[torch.Tensor, torch.Tensor]] = []
        self._wave = 0

    def __len__(self) -> int:
        """Blocks held."""
        return len(self._blocks)

    def begin_wave(self, prompts: Sequence[Tokens]) -> None:
        """Start a wave, and protect what is known of its prompts until the next one."""
        self._wave += 1
        for prompt in prompts:
            self.match(prompt)

    def match(self, prompt: Tokens) -> list[int]:
        """The known blocks with which the prompt begins, in order; its last token is never among them."""
        path: list[int] = []
        for start in range(0, len(prompt) - BLOCK, BLOCK):
            block = self._index.get((path[-1] if path else _ROOT, prompt[start : start + BLOCK]))
            if block is None:
                break
            path.append(block)
        self._touch(path)
        return path

    def missing(self, prompt: Tokens, path: Sequence[int]) -> tuple[int, Tokens] | None:
        """The key of the first block that is not known; None if the rest is shorter than a block."""
        start = len(path) * BLOCK
        if start + BLOCK >= len(prompt):
            return None
        return (path[-1] if path else _ROOT), prompt[start : start + BLOCK]

    def past(self, paths: Sequence[Sequence[int]]) -> DynamicCache:
        """A cache of the blocks of each row, (rows, heads, columns, size), aligned to the right; padding is finite."""
        longest = max(map(len, paths))
        some = next(path[0] for path in paths if path)
        ids = torch.tensor([[some] * (longest - len(path)) + list(path) for path in paths])
        cache = DynamicCache()
        for index, layer in enumerate(self._layers):
            keys, values = (part[ids.to(part.device)].flatten(1, 2).transpose(1, 2) for part in layer)
            cache.update(keys, values, index)
        return cache

    def add(self, prompts: Sequence[Tokens], paths: Sequence[Sequence[int]], source: DynamicCache) -> None:
        """Keep the whole blocks of prompts that were read, as far as there is room.

        Args:
            prompts: U prompts.
            paths: their known blocks when they were read.
            source: their cache, (U, heads, columns, size); every prompt ends in the last column, and the columns before
                it hold at least what was not known.
        """
        if not self._layers:
            self._allocate(source)
        ids: list[int] = []
        places: list[tuple[int, int]] = []
        for row, (prompt, known) in enumerate(zip(prompts, paths, strict=True)):
            path = list(known)
            for start in range(len(known) * BLOCK, len(prompt) - BLOCK + 1, BLOCK):
                key = (path[-1] if path else _ROOT, prompt[start : start + BLOCK])
                block = self._index.get(key)
                if block is None:
                    block = self._place()
                    if block is None:
                        break
                    self._index[key] = block
                    self._blocks[block] = _Block(key, self._wave)
                    ids.append(block)
                    places.append((row, source.get_seq_length() - len(prompt) + start))
                path.append(block)
            self._touch(path)
        if ids:
            self._write(torch.tensor(ids), torch.tensor(places), source)

    def clear(self) -> None:
        """Remove everything and free the memory."""
        self._index.clear()
        self._blocks.clear()
        self._free.clear()
        self._layers.clear()

    def _touch(self, path: Sequence[int]) -> None:
        for block in reversed(path):
            self._blocks[block].wave = self._wave
            self._blocks.move_to_end(block)

    def _place(self) -> int | None:
        """A free block, made by allocation or by eviction; None if all blocks are in use in this wave."""
        if not self._free:
            self._grow()
        if self._free:
            return self._free.pop()
        oldest = next(iter(self._blocks), None)
        if oldest is None or self._blocks[oldest].wave == self._wave:
            return None
        del self._index[self._blocks.pop(oldest).key]
        return oldest

    def _allocate(self, source: DynamicCache) -> None:
        """Set up storage without blocks, of the sizes, type and device of `source`."""
        layers: list[Any] = list(source.layers)
        self._layers = [(_empty_blocks(layer.keys), _empty_blocks(layer.values)) for layer in layers]

    def _grow(self) -> None:
        """Double the storage, as far as the limit allows."""
        size = sum(math.prod(part.shape[1:]) * part.element_size() for layer in self._layers for part in layer)
        held = len(self._layers[0][0])
        wanted = min(max(_FIRST_BLOCKS, 2 * held), self._limit // size)
        if wanted <= held:
            return
        for index, layer in enumerate(self._layers):
            keys, values = (torch.cat([part, part.new_empty((wanted - held, *part.shape[1:]))]) for part in layer)
            self._layers[index] = keys, values
        self._free += range(wanted - 1, held - 1, -1)

    def _write(self, ids: torch.Tensor, places: torch.Tensor, source: DynamicCache) -> None:
        """Copy blocks from the rows and first columns at `places` (K, 2) to the storage at `ids` (K,)."""
        layers: list[Any] = list(source.layers)
        device = layers[0].keys.device
        ids, rows = ids.to(device), places[:, :1].to(device)
        columns = (places[:, 1:] + torch.arange(BLOCK)).to(device)
        for (keys, values), layer in zip(self._layers, layers, strict=True):
            keys[ids] = layer.keys[rows, :, columns]
            values[ids] = layer.values[rows, :, columns]


def _empty_blocks(like: torch.Tensor) -> torch.Tensor:
    """(0, BLOCK, heads, size) for a layer's (rows, heads, columns, size)."""
    return like.new_empty((0, BLOCK, like.shape[1], like.shape[3]))
