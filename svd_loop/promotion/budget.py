"""Error budget of a test set: the level of its next comparison, and when it may decide no further comparison.

A test set that decides week after week will at some time pass a version by chance. So the level of the pass@1 rule,
1 - `gate.confidence`, holds for all comparisons on one test set together, and each comparison gets a part of it. The
parts follow the online fallback procedure (Tian and Ramdas 2021, "Online control of the familywise error rate",
Statistical Methods in Medical Research 30(4), arXiv 1910.04900; for a fixed number of tests Wiens 2003): comparison i
is made at

    level_i = alpha * share_i + (level_(i-1) if comparison i-1 promoted, else 0)

with shares that sum to at most 1. The probability of any false promotion is then at most alpha, however comparisons
depend on each other (they share problems, and often the champion), and wherever the sequence ends. A promotion passes
its level on to the next comparison, so a model that keeps improving uses none of the budget; a refusal uses its level.

Shares are 1 / (i * H), H = 1 + 1/2 + ... + 1/N, for N = `gate.looks`. The number of comparisons is not known in
advance, and with these shares each doubling of it gets the same part of the budget.

Left out: procedures that control the false discovery rate (LORD, alpha-investing). They keep more power, but need
p-values that are valid given the past, which comparisons on one set of problems are not.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from svd_loop.config.gate import GateSection
from svd_loop.mlflow_store.records import Event


@dataclass(frozen=True, slots=True)
class Look:
    """One comparison on a test set: a version, the champion before it, and whether the rules promoted the version."""

    version: int
    over: int
    promoted: bool


@dataclass(frozen=True, slots=True)
class AlphaBudget:
    """The budget of one test set after some comparisons.

    Attributes:
        test: digest of the test set.
        alpha: the whole budget.
        limit: number of comparisons that share it.
        looks: the comparisons made, in order.
    """

    test: str
    alpha: float
    limit: int
    looks: tuple[Look, ...] = ()

    @classmethod
    def of(cls, settings: GateSection, events: Sequence[Event], test: str) -> AlphaBudget:
        """Return the budget of a test set after the comparisons in a model's history, under the given settings."""
        return cls(test, 1 - settings.confidence, settings.looks, looks_of(events, test))

    @property
    def levels(self) -> tuple[float, ...]:
        """The level of each comparison made, then that of the next one; 0 when the budget is spent."""
        return tuple(levels(self.alpha, self.limit, [look.promoted for look in self.looks]))

    @property
    def left(self) -> float:
        """The part of the budget that is not used up; a promotion uses nothing."""
        if self.spent:
            return 0.0
        used = (level for level, look in zip(self.levels, self.looks, strict=False) if not look.promoted)
        return self.alpha - sum(used)

    @property
    def spent(self) -> bool:
        """Whether the test set may decide no further comparison."""
        return self.levels[-1] == 0.0

    def level(self, version: int, over: int) -> float:
        """Return the level at which a version is compared with a champion; 0 if the budget is spent.

        Repeating a comparison of the same two versions keeps its level and costs nothing.
        """
        return self.levels[self._index(version, over)]

    def number(self, version: int, over: int) -> int:
        """Return the comparison's number on this set, from 1."""
        return self._index(version, over) + 1

    def json(self) -> dict[str, Any]:
        """Return JSON data."""
        return {
            "test": self.test,
            "alpha": round(self.alpha, 12),
            "limit": self.limit,
            "looks": len(self.looks),
            "left": self.left,
            "next_level": self.levels[-1],
            "spent": self.spent,
        }

    def _index(self, version: int, over: int) -> int:
        made = [(look.version, look.over) for look in self.looks]
        return made.index((version, over)) if (version, over) in made else len(made)


def levels(alpha: float, limit: int, promoted: Sequence[bool]) -> Iterator[float]:
    """Yield the levels of comparisons with these outcomes, then that of the next one."""
    whole = sum(1 / number for number in range(1, limit + 1))
    level = 0.0
    for number, before in enumerate((False, *promoted), 1):
        share = 1 / (number * whole) if number <= limit else 0.0
        level = alpha * share + (level if before else 0.0)
        yield level


def looks_of(events: Sequence[Event], test: str) -> tuple[Look, ...]:
    """Return the comparisons on one test set in a model's history, each once, in the order they were first made.

    A forced promotion counts as a comparison that the rules did not promote.
    """
    found: dict[tuple[int, int], bool] = {}
    for event in events:
        if event.test == test and event.over_score is not None:
            key = (event.version, event.over)
            found[key] = found.get(key, False) or event.what == "promoted"
    return tuple(Look(version, over, promoted) for (version, over), promoted in found.items())


def budgets(events: Sequence[Event]) -> list[AlphaBudget]:
    """Return the budgets of all test sets in a model's history, oldest first.

    A budget has the settings of its newest comparison. Comparisons recorded by program versions without budgets count
    under the default settings.
    """
    found: dict[str, AlphaBudget] = {}
    default = GateSection()
    for event in events:
        if event.test and event.over_score is not None:
            alpha = 1 - default.confidence if event.alpha is None else event.alpha
            limit = default.looks if event.looks is None else event.looks
            found[event.test] = AlphaBudget(event.test, alpha, limit, looks_of(events, event.test))
    return list(found.values())
