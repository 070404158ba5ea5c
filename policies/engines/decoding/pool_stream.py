"""Requests in flight on a decoding pool: new ones may be put while others run (`svd_loop.contracts.GenerationStream`).

    put ──> waiting ──> pool ──> take
              │           │
              └── drop ───┘

Finished rows are collected, and their places given to waiting requests, when they are at least 1 / REPLACE_SHARE of the
batch: each exchange costs a prefill, which should be shared by several rows.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Collection, Sequence
from contextlib import ExitStack

import torch

from policies.engines.decoding.pool import DecodingPool
from svd_loop.contracts import Generation, GenerationRequest
from svd_loop.errors import EngineError
from svd_loop.support.progress import progress
from svd_loop.support.torch_memory import is_out_of_memory

REPLACE_SHARE = 8
"""Finished rows are replaced when they are at least 1 / REPLACE_SHARE of the batch."""


class PoolStream:
    """A stream over a pool of rows.

    Args:
        new_pool: makes an empty pool.
        batch_size: rows decoded together.
        announce: told the prompts of every `put`, before they are read.
        shrink: halves the batch after memory ran out, and returns its new size.
        fitting: rows, at most the given number, that fit the memory when the longest may take that many tokens.
        label: of the progress line; empty shows none.
        total: rows to expect; 0 if not known.
    """

    def __init__(
        self,
        new_pool: Callable[[], DecodingPool],
        batch_size: int,
        announce: Callable[[Sequence[tuple[int, ...]]], None],
        shrink: Callable[[], int],
        fitting: Callable[[int, int], int],
        *,
        label: str = "",
        total: int = 0,
    ) -> None:
        self._new_pool = new_pool
        self._batch_size = batch_size
        self._announce = announce
        self._shrink = shrink
        self._fitting = fitting
        self._longest = 0
        self._pool = new_pool()
        self._alive = 0
        self._collected = False
        self._open: dict[int, GenerationRequest] = {}
        self._waiting: deque[int] = deque()
        self._exit = ExitStack()
        self._bar = self._exit.enter_context(progress(label, total))

    @property
    def slots(self) -> int:
        """Rows decoded together at present."""
        return self._fitting(self._batch_size, self._longest)

    def put(self, requests: Sequence[tuple[int, GenerationRequest]]) -> None:
        """Queue requests, each under a number that is not in flight.

        Raises:
            EngineError: a prompt is empty.
        """
        if any(not request.prompt_ids for _, request in requests):
            raise EngineError("a prompt has no tokens; there is nothing to continue")
        # Longest first: memory runs out at once or never, and short rows fill the batch towards the end.
        # Equal prompts end up side by side and are prefilled once.
        ordered = sorted(requests, key=lambda one: (-len(one[1].prompt_ids), one[1].prompt_ids, one[0]))
        self._announce([request.prompt_ids for _, request in requests])
        most = [len(request.prompt_ids) + request.sampling.max_tokens for _, request in requests]
        self._longest = max([self._longest if self._open else 0, *most])
        self._open |= dict(ordered)
        self._waiting.extend(number for number, _ in ordered)

    def drop(self, numbers: Collection[int]) -> None:
        """Forget requests; numbers that are not in flight are ignored."""
        gone = {number for number in numbers if self._open.pop(number, None) is not None}
        waiting = gone.intersection(self._waiting)
        if waiting:
            self._waiting = deque(number for number in self._waiting if number not in waiting)
        if running := gone - waiting:
            with torch.inference_mode():
                self._pool.abort(running)
                self._alive = self._pool.alive

    def take(self, seconds: float | None = None) -> list[tuple[int, Generation]]:
        """Decode until rows are finished, for `seconds` at most, and return them; empty if nothing is in flight.

        Raises:
            EngineError: the logits are not finite, or memory runs out with a single row.
        """
        deadline = math.inf if seconds is None else time.monotonic() + seconds
        with torch.inference_mode():
            while self._open:
                try:
                    if (finished := self._advance()) or time.monotonic() > deadline:
                        return finished
                    continue
                except RuntimeError as error:
                    if not is_out_of_memory(error):
                        raise
                    if self._batch_size == 1:
                        raise EngineError(
                            "out of memory while generating a single row; shorten model.max_context "
                            "or use a smaller model.dtype"
                        ) from error
                self._restart()  # after the handler: inside it, the traceback would keep the batch's memory
        return []

    def close(self) -> None:
        """Drop what is in flight and end the progress line."""
        self._open.clear()
        self._waiting.clear()
        self._pool, self._alive = self._new_pool(), 0
        self._exit.close()

    def _advance(self) -> list[tuple[int, Generation]]:
        """Collect finished rows, or give their places away, or decode one step."""
        slots = self.slots
        size = slots if self._waiting else len(self._pool)
        if (size - self._alive) * REPLACE_SHARE < size or size == self._alive:
            self._pool.step()
            self._collected = False
            self._bar.advance(0, self._alive)
        elif not self._collected:
            finished = [(number, one) for number, one in self._pool.harvest() if self._open.pop(number, None)]
            self._bar.advance(len(finished), 0)
            self._collected = True
            return finished
        else:
            count = max(0, min(len(self._waiting), slots - self._alive))
            newcomers = [self._waiting.popleft() for _ in range(count)]
            self._pool.replace([(number, self._open[number]) for number in newcomers])
            self._bar.advance(0, len(newcomers))
            self._collected = False
        self._alive = self._pool.alive
        return []

    def _restart(self) -> None:
        """Begin all open requests again in a smaller batch."""
        self._pool, self._alive, self._collected = self._new_pool(), 0, False
        self._batch_size = self._shrink()
        self._waiting = deque(self._open)
