"""A pool of rows decoded together: rows enter after a prefill, advance one token per step, and leave when finished.

    waiting ──> prefill ──────> running ────────────> finished ──> harvest()
    requests    replace():      step(): one token     stop token,     │
        ^       prompts into    for every row         or the row's    │
        │       the cache,      that is alive         token limit     │
        │       first token                                           │
        └──────── replace() gives the places of finished rows ────────┘
                  to waiting requests (continuous batching)

Replacing finished rows keeps a batch full although lengths differ. A new row takes the place of a finished one if it
fits; otherwise, and when no request waits any more, the cache of the remaining rows is copied once, without the columns
that are padding for all of them.

Every row ends in the same column, the newest one: prompts and outputs are aligned to the right. So one step writes one
column for all rows, and a row's `start` says where its padding on the left ends.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from policies.engines.decoding.choices import allowed_next
from policies.engines.decoding.kv_cache import RowCache
from policies.engines.decoding.prefill import PromptReader
from policies.engines.decoding.sampling import SamplingRows, choose, counter_uniform
from svd_loop.contracts import Choice, FinishReason, Generation, GenerationRequest
from svd_loop.errors import EngineError

REPACK_SHARE = 3
"""The cache is repacked, not refilled in place, when more than 1 / REPACK_SHARE of its columns are unused."""
SPARE_COLUMNS = 64
"""Least number of columns reserved ahead of the newest token; a quarter of the filled ones if that is more."""

_NOBODY = -1
"""The owner of an aborted row; owners are not negative."""


@dataclass(frozen=True, slots=True)
class _Rows:
    """State of B rows; every tensor is (B,) unless noted.

    `steps` counts sampled tokens, `alive` is false once a row is finished, `start` is the first column of the row that
    is not padding, `output` (B, T + 1) holds the sampled ids and a last column into which finished rows write.
    """

    token: torch.Tensor
    prompt_length: torch.Tensor
    steps: torch.Tensor
    limit: torch.Tensor
    seed: torch.Tensor
    start: torch.Tensor
    alive: torch.Tensor
    output: torch.Tensor
    sampling: SamplingRows

    def select(self, rows: torch.Tensor, moved: int) -> _Rows:
        """The rows at `rows`, with columns renumbered by `moved`."""
        return _Rows(
            self.token[rows],
            self.prompt_length[rows],
            self.steps[rows],
            self.limit[rows],
            self.seed[rows],
            self.start[rows] + moved,
            self.alive[rows],
            self.output[rows],
            self.sampling.select(rows),
        )

    def joined(self, other: _Rows) -> _Rows:
        """These rows, then those of `other`."""
        width = max(self.output.shape[1], other.output.shape[1])

        def cat(name: str) -> torch.Tensor:
            return torch.cat([getattr(self, name), getattr(other, name)])

        return _Rows(
            cat("token"),
            cat("prompt_length"),
            cat("steps"),
            cat("limit"),
            cat("seed"),
            cat("start"),
            cat("alive"),
            torch.cat([_widened(self.output, width), _widened(other.output, width)]),
            self.sampling.joined(other.sampling),
        )


def _widened(output: torch.Tensor, width: int) -> torch.Tensor:
    return torch.nn.functional.pad(output, (0, width - output.shape[1]))


class DecodingPool:
    """Rows of one model that are decoded together.

    Args:
        model: a causal language model of transformers, in inference mode.
        stop_ids: (S,) int64 on the model's device.
        reader: reads the prompts of new rows with the same model.
        sliding: the model has sliding-window layers, whose masks transformers must build.
    """

    def __init__(self, model: Any, stop_ids: torch.Tensor, reader: PromptReader, *, sliding: bool) -> None:
        self._model = model
        self._stop_ids = stop_ids
        self._reader = reader
        self._sliding = sliding
        self._device = stop_ids.device
        self._cache: RowCache | None = None
        self._rows = self._fresh([], columns=0)
        self._owners: list[int] = []
        self._choices: dict[int, tuple[Choice, ...]] = {}
        self._known: dict[int, int] = {}
        self._visible = torch.zeros((0, 0), dtype=torch.bool, device=self._device)

    def __len__(self) -> int:
        """Number of rows, finished ones included."""
        return len(self._owners)

    @property
    def alive(self) -> int:
        """Number of rows still being decoded."""
        return int(self._rows.alive.sum())

    def harvest(self) -> list[tuple[int, Generation]]:
        """Finished rows as (owner, generation); they stay in the pool until the next `replace`."""
        finished = (~self._rows.alive).nonzero().squeeze(-1)
        stops = set(self._stop_ids.tolist())
        lengths = self._rows.steps[finished].tolist()
        outputs = self._rows.output[finished].tolist()
        results = []
        for row, length, output in zip(finished.tolist(), lengths, outputs, strict=True):
            if self._owners[row] == _NOBODY:
                continue
            reason = FinishReason.STOP if output[length - 1] in stops else FinishReason.LENGTH
            owner = self._owners[row]
            results.append((owner, Generation(tuple(output[:length]), reason, self._known.pop(owner, 0))))
            self._choices.pop(owner, None)
        return results

    def abort(self, owners: Collection[int]) -> None:
        """End the rows of some owners; they are not harvested."""
        rows = [row for row, owner in enumerate(self._owners) if owner in owners]
        self._rows.alive[torch.tensor(rows, dtype=torch.int64, device=self._device)] = False
        for row in rows:
            self._choices.pop(self._owners[row], None)
            self._known.pop(self._owners[row], None)
            self._owners[row] = _NOBODY

    def replace(self, newcomers: Sequence[tuple[int, GenerationRequest]]) -> None:
        """Drop finished rows, prefill `newcomers` as (owner, request) and sample their first token.

        Equal prompts are prefilled once.
        """
        requests = [request for _, request in newcomers]
        places = self._make_room(requests)
        for place, (owner, request) in zip(places.tolist(), newcomers, strict=True):
            self._owners[place] = owner
            if request.choices:
                self._choices[owner] = request.choices
        for read in self._reader.read([request.prompt_ids for request in requests]):
            # The first prompts show the sizes of the cache. Columns must hold the longest prompt of all passes.
            if self._cache is None:
                self._cache = RowCache.empty_like(read.cache)
                self._reserve(places[:0], 0, max(len(request.prompt_ids) for request in requests))
            self._known |= {newcomers[row][0]: known for row, known in zip(read.rows, read.known, strict=True)}
            here = places[torch.tensor(read.rows, device=self._device)]
            self._cache.fill(read.cache, read.copies, here)
            self._take(here, read.logits[read.copies])

    def _make_room(self, requests: Sequence[GenerationRequest]) -> torch.Tensor:
        """Remove finished rows and add new ones for `requests`; returns the places of the new ones, (R,) int64."""
        keep = self._rows.alive.nonzero().squeeze(-1)
        filled = 0 if self._cache is None else self._cache.length
        drop = int(self._rows.start[keep].min()) if len(keep) else filled
        longest = max((len(request.prompt_ids) for request in requests), default=0)
        # Refill in place only if nothing has to move: as many new rows as free places, no prompt longer than the filled
        # columns (rows end in the same column), and few columns that are padding for all kept rows.
        if len(requests) == len(self) - len(keep) and longest <= filled and drop * REPACK_SHARE <= filled:
            fresh = self._fresh(requests, filled)
            places = (~self._rows.alive).nonzero().squeeze(-1)
            # A place that is reused still holds the old row's keys and values; `_visible` below hides its older
            # columns.
            # `joined` puts the new rows last; `order` then moves each one to the place of a finished row.
            order = torch.arange(len(self), device=self._device)
            order[places] = torch.arange(len(self), len(self) + len(requests), device=self._device)
            self._rows = self._rows.joined(fresh).select(order, 0)
            self._visible[places] = torch.arange(self._visible.shape[1], device=self._device) >= fresh.start[:, None]
            return places
        # Repack: drop the columns that are padding for every kept row, and move the rest to the right if a new prompt
        # is longer than what remains. Kept rows move with it, so their `start` changes by the same amount.
        shift = max(0, longest - (filled - drop))
        fresh = self._fresh(requests, filled - drop + shift)
        self._rows = self._rows.select(keep, shift - drop).joined(fresh)
        self._owners = [self._owners[row] for row in keep.tolist()] + [_NOBODY] * len(requests)
        if self._cache is not None:
            self._reserve(keep, drop, shift)
        return torch.arange(len(keep), len(self), device=self._device)

    def step(self) -> None:
        """Sample one more token for every row that is alive."""
        assert self._cache is not None, "replace() comes first"
        rows = self._rows
        # Out of reserved columns: make new ones, without those that are padding for every row that is alive. Finished
        # rows are kept (they are harvested later), so their `start` may become negative; which is harmless.
        if self._cache.length == self._cache.columns:
            drop = int(rows.start[rows.alive].min())
            self._rows = rows = rows.select(torch.arange(len(self), device=self._device), -drop)
            self._reserve(torch.arange(len(self), device=self._device), drop, 0)
        visible = self._visible[:, : self._cache.length + 1]
        output = self._model(
            input_ids=rows.token[:, None],
            attention_mask=visible.long() if self._sliding else visible[:, None, None, :],
            position_ids=(rows.prompt_length + rows.steps - 1)[:, None],
            past_key_values=self._cache,
            use_cache=True,
        )
        self._take(torch.arange(len(self), device=self._device), output.logits[:, -1])

    def _reserve(self, keep: torch.Tensor, drop: int, shift: int) -> None:
        """Rebuild the cache for the current rows with spare columns, and set which columns each row sees."""
        assert self._cache is not None
        filled = self._cache.length - drop + shift
        columns = filled + max(SPARE_COLUMNS, filled // 4)
        self._cache.rebuild(keep, rows=len(self), drop=drop, shift=shift, columns=columns)
        self._visible = torch.arange(columns, device=self._device) >= self._rows.start[:, None]

    def _fresh(self, requests: Sequence[GenerationRequest], columns: int) -> _Rows:
        """New rows without sampled tokens; their prompts end in column `columns - 1`."""

        def column(values: list[int]) -> torch.Tensor:
            return torch.tensor(values, dtype=torch.int64, device=self._device)

        lengths = column([len(request.prompt_ids) for request in requests])
        limits = [request.sampling.max_tokens for request in requests]
        count = len(requests)
        return _Rows(
            token=column([0] * count),
            prompt_length=lengths,
            steps=column([0] * count),
            limit=column(limits),
            seed=column([request.seed for request in requests]),
            start=columns - lengths,
            alive=torch.ones(count, dtype=torch.bool, device=self._device),
            output=torch.zeros((count, max(limits, default=0) + 1), dtype=torch.int64, device=self._device),
            sampling=SamplingRows.of([request.sampling for request in requests], self._device),
        )

    def _take(self, places: torch.Tensor, logits: torch.Tensor) -> None:
        """Sample the next token of the rows at `places` from `logits` and mark finished rows (in place)."""
        if not bool(torch.isfinite(logits.amax(dim=-1)).all()):
            raise EngineError(
                "the model's logits are not finite (NaN or infinity): its weights are damaged, or "
                "model.dtype cannot hold its activations (float16 often cannot)"
            )
        rows = self._rows
        alive, steps = rows.alive[places], rows.steps[places]
        # The noise depends on the row's seed and step only, never on its place or neighbours: a row samples the same
        # tokens in any batch.
        if self._choices:
            logits = self._limited(places, logits)
        token = choose(logits, rows.sampling.select(places), counter_uniform(rows.seed[places], steps))
        # Finished rows go through the model as well, because the batch is one tensor. Their tokens go to the last
        # column and their `steps` stay, so that nothing of their output changes.
        scratch = rows.output.shape[1] - 1
        rows.output[places, torch.where(alive, steps, scratch)] = token
        rows.token[places] = token
        rows.steps[places] = steps + alive
        ended = torch.isin(token, self._stop_ids) | (rows.steps[places] >= rows.limit[places])
        rows.alive[places] = alive & ~ended

    def _limited(self, places: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
        """Return the logits, masked to the tokens that can continue a row's choices; rows without choices keep all."""
        rows, limited = self._rows, logits.clone()
        for row, place in enumerate(places.tolist()):
            choices = self._choices.get(self._owners[place])
            if choices is None or not bool(rows.alive[place]):
                continue
            allowed = allowed_next(choices, rows.output[place, : int(rows.steps[place])].tolist())
            limited[row] = -torch.inf
            limited[row, allowed] = logits[row, allowed]
        return limited
