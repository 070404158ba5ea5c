"""What a play brought, as one JSON file each, written whole or not at all; and all of a sweep's together."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from svd_loop.contracts import Scores
from svd_loop.errors import DataError
from svd_loop.ledger.identity import write_atomically

TEST: Literal["test"] = "test"
"""Name of the configuration's own test split among the held-out sets."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One version on one held-out set: `correct[m]` of `samples` samples of problem m were right.

    `undecided[m]` of them could not be scored; empty means none of any problem.
    """

    round: int
    samples: int
    domains: tuple[str, ...]
    correct: tuple[int, ...]
    undecided: tuple[int, ...] = ()

    @classmethod
    def of(cls, round: int, scores: Scores) -> Outcome:
        """What of the scores a sweep keeps."""
        return cls(round, scores.samples, scores.domains, scores.correct, scores.undecided)


@dataclass(frozen=True, slots=True)
class RoundFigures:
    """One round as a sweep shows it; fractions, and None where there is nothing to divide.

    `precision` and `recall` are of the whole cascade on held-out samples of the version the round produced;
    `right` is the share of this round's accepted solutions that gold calls right, measured after the job's end.
    """

    round: int
    development: float
    prompts: int
    accepted: int
    rows: int
    right: float | None
    precision: float | None
    recall: float | None
    distinct: float | None
    length: float | None
    alarms: tuple[str, ...]

    @property
    def accepted_share(self) -> float | None:
        """Share of the round's prompts with an accepted solution."""
        return self.accepted / self.prompts if self.prompts else None


@dataclass(frozen=True, slots=True)
class ArmResult:
    """One arm with one seed.

    Attributes:
        digest: of the configuration played.
        seconds: of wall time, shared answers costing nothing.
        tokens: output tokens asked for, by role; those of other jobs' answers count too.
        calls: likewise.
        taken: answers that another arm had paid for.
        rounds: the rounds, from 0.
        base, last, kept: test outcomes by held-out set, `test` and those of `also`.
        stages: precision and recall by stage of the base as judge (`precision.<step>`, `recall.<step>`).
    """

    arm: str
    seed: int
    digest: str
    seconds: float
    tokens: Mapping[str, int]
    calls: Mapping[str, int]
    taken: int
    rounds: tuple[RoundFigures, ...]
    base: Mapping[str, Outcome]
    last: Mapping[str, Outcome]
    kept: Mapping[str, Outcome]
    stages: Mapping[str, float] = field(default_factory=dict)


def store(folder: Path, result: ArmResult) -> None:
    """Write a play's file; it appears whole."""
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(_file(folder, f"{result.arm}-s{result.seed}"), json.dumps(asdict(result)))


def stored(folder: Path, name: str) -> ArmResult | None:
    """What a play brought, or None while it has not been played.

    Raises:
        DataError: the file is not what `store` writes.
    """
    path = _file(folder, name)
    if not path.exists():
        return None
    try:
        return from_json(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: is no result of a sweep ({error}); remove it and the arm is played again") from None


def collect(results: Iterable[ArmResult], path: Path) -> None:
    """All results of a sweep in one file, for keeping."""
    write_atomically(path, json.dumps([asdict(result) for result in results], separators=(",", ":")) + "\n")


def read_collection(path: Path) -> list[ArmResult]:
    """Results as `collect` wrote them.

    Raises:
        DataError: the file cannot be read or is something else.
    """
    try:
        return [from_json(item) for item in json.loads(path.read_text(encoding="utf-8"))]
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: is no collection of a sweep's results ({error})") from None


def from_json(data: Mapping[str, Any]) -> ArmResult:
    """Inverse of `dataclasses.asdict`."""
    outcomes = {name: {key: _outcome(item) for key, item in data[name].items()} for name in ("base", "last", "kept")}
    rounds = tuple(RoundFigures(**{**item, "alarms": tuple(item["alarms"])}) for item in data["rounds"])
    return ArmResult(**{**data, **outcomes, "rounds": rounds})


def _outcome(item: Mapping[str, Any]) -> Outcome:
    return Outcome(
        item["round"], item["samples"], tuple(item["domains"]), tuple(item["correct"]), tuple(item.get("undecided", ()))
    )


def _file(folder: Path, name: str) -> Path:
    return folder / f"{name}.json"


def by_arm(results: Sequence[ArmResult]) -> dict[str, dict[int, ArmResult]]:
    """Results by arm and seed, in their order."""
    arms: dict[str, dict[int, ArmResult]] = {}
    for result in results:
        arms.setdefault(result.arm, {})[result.seed] = result
    return arms
