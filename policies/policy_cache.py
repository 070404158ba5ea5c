"""Keep the last opened version open between two uses, because opening is expensive.

A round ends with measuring its version and the next one begins with sampling from it: on vLLM that would be two starts,
with the loading, compiling and probing of each. Training needs the memory, so an update has everything closed first.

Left out: keeping more than one. Only `cascade.frozen_judge` needs a second model in memory.
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType

from svd_loop.contracts import Policy, UpdateMaterial, UpdateResult
from svd_loop.support.wrapping import PolicyWrapper


class PolicyCache:
    """Opens versions, and keeps the last one that was closed.

    As a context manager it closes the kept version at the end. A version in use is not closed: an engine that hangs
    must not be closed.

    Args:
        opener: opens the version of a round.
    """

    def __init__(self, opener: Callable[[int], Policy]) -> None:
        self._opener = opener
        self._kept: tuple[int, Policy] | None = None

    def open(self, round: int) -> Policy:
        """Open the version of a round; closing it returns it to the cache."""
        if self._kept is not None and self._kept[0] == round:
            policy = self._kept[1]
            self._kept = None
        else:
            self.release()
            policy = self._opener(round)
        return _BorrowedPolicy(policy, lambda: self._keep(round, policy))

    def release(self) -> None:
        """Close the kept version to free its memory."""
        kept, self._kept = self._kept, None
        if kept is not None:
            kept[1].close()

    def before(
        self, update: Callable[[UpdateMaterial, int, int], UpdateResult]
    ) -> Callable[[UpdateMaterial, int, int], UpdateResult]:
        """Wrap an update so that everything is closed before it."""

        def run(material: UpdateMaterial, round: int, parent: int) -> UpdateResult:
            self.release()
            return update(material, round, parent)

        return run

    def __enter__(self) -> PolicyCache:
        """Return the cache itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the kept version."""
        self.release()

    def _keep(self, round: int, policy: Policy) -> None:
        self.release()
        self._kept = (round, policy)


class _BorrowedPolicy(PolicyWrapper):
    """A policy whose `close` returns it to the cache, once."""

    def __init__(self, policy: Policy, give_back: Callable[[], None]) -> None:
        super().__init__(policy)
        self._give_back: Callable[[], None] | None = give_back

    def close(self) -> None:
        """Return it to the cache."""
        give_back, self._give_back = self._give_back, None
        if give_back is not None:
            give_back()
