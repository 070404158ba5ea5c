"""Read prompts: the forward passes before the first token, in batches of bounded size.

Equal prompts are read once. With a prefix cache, only what no earlier prompt had in common is read. Of prompts in the
same batch that share an unknown block, the first is read alone and the others after it, so that they find the block; in
the widest case, where all candidates of a prompt share the question and all stages of a candidate the answer, that is
three passes for the batch.

    pass 1:  system question answer 1 stage A              one prompt of those that begin alike
    pass 2:                  answer 2 stage A,  stage B    the others, each from where it parts from what is known
    pass 3:                                     stage B
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import DynamicCache

from policies.engines.decoding.prompt_blocks import BLOCK, PromptBlocks, Tokens

PREFILL_TOKENS = 16_384
"""Prompt tokens (padding included) in one forward pass; bounds its activations."""
_PAST_SHARE = 2
"""A forward pass has at most this many times `PREFILL_TOKENS` columns of keys and values, known ones included."""


Count = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class ReadPrompts:
    """Prompts after a forward pass.

    Attributes:
        rows: R places in the sequence of prompts that was to be read.
        known: R numbers of tokens that were not read for the row, since a known prefix or an earlier row has them.
        cache: keys and values of U different prompts, (U, heads, columns, size), aligned to the right.
        logits: (U, V) after each.
        copies: (R,) int64, which of the U prompts each row has.
    """

    rows: list[int]
    known: list[int]
    cache: DynamicCache
    logits: torch.Tensor
    copies: torch.Tensor


@dataclass(frozen=True, slots=True)
class _Unread:
    """A prompt, the rows that have it, and its known blocks."""

    ids: Tokens
    rows: list[int]
    path: list[int]

    @property
    def known(self) -> int:
        """Tokens that need not be read."""
        return len(self.path) * BLOCK

    @property
    def unknown(self) -> int:
        """Tokens to read."""
        return len(self.ids) - self.known


class PromptReader:
    """Reads prompts with a model.

    Args:
        model: a causal language model of transformers, in inference mode.
        pad_id: fills short prompts; always masked, so any id can be used.
        device: the model's.
        blocks: those known from earlier prompts; None reads every prompt from its start.
        count: told the tokens of the prompts of each pass, and how many of them were not read.
    """

    def __init__(
        self, model: Any, pad_id: int, device: torch.device, blocks: PromptBlocks | None, count: Count
    ) -> None:
        self._model = model
        self._pad_id = pad_id
        self._device = device
        self._blocks = blocks
        self._count = count

    def read(self, prompts: Sequence[Tokens]) -> Iterator[ReadPrompts]:
        """Read prompts, not in their order; every row comes once."""
        rows: dict[Tokens, list[int]] = {}
        for row, prompt in enumerate(prompts):
            rows.setdefault(prompt, []).append(row)
        for batch in self._passes(rows):
            yield self._forward(batch)

    def _passes(self, rows: dict[Tokens, list[int]]) -> Iterator[list[_Unread]]:
        """Batches for one forward pass each; what is known is looked up when those before it were read."""
        if self._blocks is None:
            yield from _batches([_Unread(ids, places, []) for ids, places in rows.items()])
            return
        pending, waited = list(rows), set[tuple[int, Tokens]]()
        while pending:
            ready: list[_Unread] = []
            later: list[Tokens] = []
            claimed: set[tuple[int, Tokens]] = set()
            for ids in pending:
                path = self._blocks.match(ids)
                missing = self._blocks.missing(ids, path)
                if missing in claimed and missing not in waited:
                    later.append(ids)
                    continue
                if missing is not None:
                    claimed.add(missing)
                ready.append(_Unread(ids, rows[ids], path))
            yield from _batches(sorted(ready, key=lambda one: (-one.unknown, -one.known)))
            # Where the cache had no room for a block, waiting for it again would not help.
            pending, waited = later, waited | claimed

    def _forward(self, batch: list[_Unread]) -> ReadPrompts:
        past, longest = max(one.known for one in batch), max(one.unknown for one in batch)
        # Without config: plain layers also for a model with sliding windows.
        cache = self._blocks.past([one.path for one in batch]) if self._blocks and past else DynamicCache()
        ids = torch.full((len(batch), longest), self._pad_id, dtype=torch.int64)
        mask = torch.zeros((len(batch), past + longest), dtype=torch.int64)
        for row, one in enumerate(batch):
            ids[row, longest - one.unknown :] = torch.tensor(one.ids[one.known :])
            mask[row, past - one.known : past] = 1
            mask[row, past + longest - one.unknown :] = 1
        output = self._model(
            input_ids=ids.to(self._device),
            attention_mask=mask.to(self._device),
            position_ids=(mask.cumsum(dim=-1) - 1).clamp(min=0)[:, past:].to(self._device),
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        if past:
            _close_gaps(cache, batch, past, longest)
        if self._blocks is not None:
            self._blocks.add([one.ids for one in batch], [one.path for one in batch], cache)
        copies = [place for place, one in enumerate(batch) for _ in one.rows]
        asked = sum(len(one.ids) * len(one.rows) for one in batch)
        self._count(asked, asked - sum(one.unknown for one in batch))
        rows = [row for one in batch for row in one.rows]
        known = [len(one.ids) if copy else one.known for one in batch for copy in range(len(one.rows))]
        return ReadPrompts(rows, known, cache, output.logits[:, -1], torch.tensor(copies))


def _batches(prompts: Sequence[_Unread]) -> Iterator[list[_Unread]]:
    """Split prompts, in their order, into forward passes of bounded size."""
    batch: list[_Unread] = []
    read = known = 0
    for one in prompts:
        longest, past, count = max(read, one.unknown), max(known, one.known), len(batch) + 1
        if batch and (longest * count > PREFILL_TOKENS or (past + longest) * count > _PAST_SHARE * PREFILL_TOKENS):
            yield batch
            batch, longest, past = [], one.unknown, one.known
        batch.append(one)
        read, known = longest, past
    if batch:
        yield batch


def _close_gaps(cache: DynamicCache, batch: Sequence[_Unread], past: int, longest: int) -> None:
    """Move the known columns of each row next to those that were read; what is left of them is some of its columns."""
    columns = max(len(one.ids) for one in batch)
    place = torch.arange(columns) - columns  # counted from the end, where all prompts end
    source = torch.stack(
        [torch.where(place < -one.unknown, place + one.unknown + past, place + past + longest) for one in batch]
    ).clamp_(min=0)
    layers: list[Any] = list(cache.layers)
    source = source.to(layers[0].keys.device)
    rows = torch.arange(len(batch), device=source.device)[:, None]
    for layer in layers:
        layer.keys = layer.keys[rows, :, source].transpose(1, 2)
        layer.values = layer.values[rows, :, source].transpose(1, 2)
