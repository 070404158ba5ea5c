"""Records of registered versions and of their history."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

NOTHING_GAINED = "nothing gained"
"""Value of `Event.what` for a job without a version to promote."""


@dataclass(frozen=True, slots=True)
class RegisteredVersion:
    """One version of a registered model; `source` is the location of its weights."""

    name: str
    number: int
    source: str
    tags: Mapping[str, str] = field(default_factory=dict)
    aliases: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Return the name used in messages."""
        return f"{self.name} version {self.number}"


@dataclass(frozen=True, slots=True)
class Event:
    """One change of a model's champion, or a decision that left it unchanged.

    Attributes:
        number: position in the history.
        what: `first`, `promoted`, `forced`, `refused`, `rolled back`, `moved` (the alias was moved outside this
            history), or `nothing gained` (a job without a version to promote).
        version: the version concerned; for `nothing gained` the champion.
        over: the champion before the event; 0 for none.
        why: reason, in words.
        at: UTC time, for display; the order is that of `number`.
        test: this and the following fields are those of `Measured`.
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
        """Number of the champion after the event."""
        return self.over if self.what == "refused" else self.version


@dataclass(frozen=True, slots=True)
class Measured:
    """What the gate measured: pass@1 of the version and of the champion, on one test set.

    Fields are empty or None if nothing was measured.

    Attributes:
        test: digest of the problems with their gold, sampling and templates; only scores with equal digests may be
            compared.
        score: pass@1 of the version.
        over_score: pass@1 of the champion.
        level: the part of the test set's error budget at which the comparison was made.
        alpha: the whole budget.
        looks: number of comparisons that share it.
    """

    test: str = ""
    score: float | None = None
    over_score: float | None = None
    level: float | None = None
    alpha: float | None = None
    looks: int | None = None


NOT_MEASURED = Measured()
