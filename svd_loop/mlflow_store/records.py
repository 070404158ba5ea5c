"""What the registry tells of versions and of what happened to them, as plain records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

NOTHING_GAINED = "nothing gained"
"""The event of a job without a version to promote."""


@dataclass(frozen=True, slots=True)
class RegisteredVersion:
    """One version of a registered model; `source` is where its weights lie."""

    name: str
    number: int
    source: str
    tags: Mapping[str, str] = field(default_factory=dict)
    aliases: tuple[str, ...] = ()

    def __str__(self) -> str:
        """As messages call it."""
        return f"{self.name} version {self.number}"


@dataclass(frozen=True, slots=True)
class Event:
    """One change of a model's champion, or a refusal of one.

    `what` is `first`, `promoted`, `forced`, `refused`, `rolled back`, `moved` for an alias found elsewhere than the
    history left it, or `nothing gained` for a job without a version to promote; `version` is the one it is about (then
    the champion), `over` the champion before it (0 for none); `at` is a UTC time, for people: `number` is the order.
    `test`, `score` and those below are those of `Measured`.
    """

    number: int
    what: str
    version: int
    over: int
    why: str = ""
    at: str = ""
    test: str = ""
    score: float | None = None
    over_score: float | None = None
    level: float | None = None
    alpha: float | None = None
    looks: int | None = None

    @property
    def champion(self) -> int:
        """The champion after it."""
        return self.over if self.what == "refused" else self.version


@dataclass(frozen=True, slots=True)
class Measured:
    """What a gate measured: pass@1 of the version and of the champion, on one test set.

    `test` is a digest of the problems with their gold and of how they are asked: scores with the same one may be
    compared. Empty, and None, where nothing was measured. `level` is the part of the test set's error budget that the
    comparison was made at, `alpha` the whole budget, `looks` the comparisons it is shared among.
    """

    test: str = ""
    score: float | None = None
    over_score: float | None = None
    level: float | None = None
    alpha: float | None = None
    looks: int | None = None


NOT_MEASURED = Measured()
