"""Call `math-verify` and `pint` in a child process with limits on processor time and memory.

Neither library can be interrupted in the middle of a long C computation (`9^{9^{9^9}}` as an integer), so the child is
killed by its own timer of processor time (`envs.domains.math_worker`) and replaced. A wall-clock limit would also hit
questions that only wait for a busy machine: it is a last resort here, far beyond what an answer takes. What the child
could not answer is undecided, never wrong.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from envs.domains.marks import marks_of
from envs.sandbox.child import ChannelClosed, ChannelTimeout, Child

_WALL_SECONDS: Final = 600.0
"""Seconds until a silent child is given up; it normally stops itself after seconds of processor time."""


class UndecidedError(Exception):
    """The libraries gave no result: the child ran out of processor time or memory, or died."""


class Library:
    """Owns the child process, which starts at the first question."""

    def __init__(self) -> None:
        self._child: Child | None = None
        self._known: dict[tuple[str, str, str], Any] = {}

    def __enter__(self) -> Library:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def equal(self, gold: str, answer: str) -> bool:
        """Whether two normalised expressions are mathematically equal; those with different marks are not.

        Raises:
            UndecidedError: the child gave no result.
        """
        return marks_of(gold) == marks_of(answer) and self._ask("equal", gold, answer) is True

    def factor(self, given: str, wanted: str) -> float | None:
        """How many `wanted` one `given` is (`km` in `m`: 1000.0); None if they measure different things.

        Units with an offset (degrees Celsius) have no factor; `envs.domains.units.temperature` converts them.

        Raises:
            UndecidedError: the child gave no result.
        """
        if given == wanted:
            return 1.0
        return self._ask("factor", given, wanted) if given and wanted else None

    def _ask(self, what: str, one: str, other: str) -> Any:
        key = (what, one, other)
        if key not in self._known:
            try:
                self._known[key] = self._ready_child().ask({"what": what, "one": one, "other": other}, _WALL_SECONDS)
            except (ChannelTimeout, ChannelClosed):
                self._stop()
                self._known[key] = {}
        if "found" not in self._known[key]:
            raise UndecidedError
        return self._known[key]["found"]

    def _ready_child(self) -> Child:
        if self._child is None:
            paths = [str(Path(__file__).resolve().parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])]
            self._child = Child(
                [sys.executable, "-P", "-m", "envs.domains.math_worker"],
                {**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
            )
        return self._child

    def _stop(self) -> None:
        if self._child is not None:
            self._child.close()
            self._child = None
