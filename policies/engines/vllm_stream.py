"""Requests in flight at vLLM's child processes, each of which decodes rows that come and go.

put ──> the child that had the prompt before, or the emptiest ──> finished ──> take
                                    │
        drop ───────────────────────┘ aborts the row
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import ExitStack
from itertools import count
from typing import Any

from policies.engines.vllm_child import Answer, Row
from svd_loop.contracts import Generation, GenerationRequest
from svd_loop.errors import EngineError
from svd_loop.support.child_process import Child, next_messages
from svd_loop.support.progress import progress


class VllmStream:
    """Implements `svd_loop.contracts.GenerationStream`, but for choices of more than one token.

    Args:
        children: at least one, none of which is answering.
        slots: rows that a child decodes together.
        stall_seconds: longest time without a finished row.
        row: a request as the child takes it.
        generation: a child's answer to a request.
        failed: called when a child has failed; ends them all.
        label: of the progress line; empty shows none.
        total: requests to expect; 0 if not known.

    Raises:
        EngineError: a child is gone.
    """

    def __init__(
        self,
        children: Sequence[Child],
        slots: int,
        stall_seconds: float,
        row: Callable[[GenerationRequest], Row],
        generation: Callable[[GenerationRequest, Answer], Generation],
        failed: Callable[[], None],
        *,
        label: str = "",
        total: int = 0,
    ) -> None:
        self._children = list(children)
        self._slots = slots
        self._stall_seconds = stall_seconds
        self._row = row
        self._generation = generation
        self._failed = failed
        # A number may be put again while the answer to a dropped row is on its way, so the children get serials.
        self._serials = count()
        self._serial_of: dict[int, int] = {}
        self._open: dict[int, tuple[int, GenerationRequest, Child]] = {}
        self._heard = time.monotonic()
        self._load = dict.fromkeys(self._children, 0)
        self._exit = ExitStack()
        self._bar = self._exit.enter_context(progress(label, total))
        for child in self._children:
            self._send(child, "stream", None)

    @property
    def slots(self) -> int:
        """Rows decoded together by all children."""
        return self._slots * len(self._load)

    def put(self, requests: Sequence[tuple[int, GenerationRequest]]) -> None:
        """Queue requests.

        Raises:
            EngineError: a prompt is empty, or a child is gone.
        """
        if any(not request.prompt_ids for _, request in requests):
            raise EngineError("a prompt has no tokens; there is nothing to continue")
        if not self._open:
            self._heard = time.monotonic()
        rows: dict[Child, list[tuple[int, Row]]] = {child: [] for child in self._children}
        for number, request in requests:
            serial, child = next(self._serials), self._child_for(request)
            self._open[serial], self._serial_of[number] = (number, request, child), serial
            self._load[child] += 1
            rows[child].append((serial, self._row(request)))
        for child, some in rows.items():
            if some:
                self._send(child, "put", some)

    def drop(self, numbers: Collection[int]) -> None:
        """Forget requests and abort them."""
        gone: dict[Child, list[int]] = {child: [] for child in self._children}
        for number in numbers:
            if (serial := self._serial_of.pop(number, None)) is not None:
                *_, child = self._open.pop(serial)
                self._load[child] -= 1
                gone[child].append(serial)
        for child, serials in gone.items():
            if serials:
                self._send(child, "drop", serials)

    def take(self, seconds: float | None = None) -> list[tuple[int, Generation]]:
        """Wait for answers, and for `seconds` at most.

        Raises:
            EngineError: a child failed, died or hangs; all are ended then.
        """
        found: list[tuple[int, Generation]] = []
        deadline = math.inf if seconds is None else time.monotonic() + seconds
        while self._open and not found and (left := deadline - time.monotonic()) > 0:
            for _, _, answers in self._receive(self._children, left):
                found += [self._settle(serial, answer) for serial, answer in answers if serial in self._open]
        return found

    def close(self) -> None:
        """Abort what is in flight."""
        children, self._children = self._children, []
        self._open.clear()
        self._serial_of.clear()
        self._exit.close()
        for child in children:
            self._send(child, "end", None)
        while children:
            ended = [child for child, word, _ in self._receive(children, math.inf) if word == "ended"]
            children = [child for child in children if child not in ended]

    # -------------------------------------------------------------------------------------------------------- inside

    def _child_for(self, request: GenerationRequest) -> Child:
        """Equal prompts go to the same child, whose prefix cache has them, while it has a free slot."""
        home = self._children[hash(request.prompt_ids) % len(self._children)]
        return home if self._load[home] < self._slots else min(self._children, key=self._load.__getitem__)

    def _settle(self, serial: int, answer: Answer) -> tuple[int, Generation]:
        number, request, child = self._open.pop(serial)
        del self._serial_of[number]
        self._load[child] -= 1
        generation = self._generation(request, answer)
        self._bar.advance(1, len(generation.token_ids))
        return number, generation

    def _send(self, child: Child, word: str, data: Any) -> None:
        try:
            child.send(word, data)
        except BaseException:
            self._end()
            raise

    def _receive(self, children: Sequence[Child], seconds: float) -> list[tuple[Child, str, Any]]:
        try:
            messages = next_messages(children, min(seconds, self._stall_seconds))
            now = time.monotonic()
            if not messages and now - self._heard >= self._stall_seconds:
                raise children[0].failure(f"gave no sign for {self._stall_seconds:g} s")
            self._heard = now if messages else self._heard
            return messages
        except BaseException:
            self._end()
            raise

    def _end(self) -> None:
        self._children = []
        self._failed()
