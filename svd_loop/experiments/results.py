"""Results of plays, one JSON file each, written atomically; and all results of a sweep in one file."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from svd_loop.contracts import Scores
from svd_loop.errors import DataError
from svd_loop.support.atomic import write_atomically

TEST: Literal["test"] = "test"
"""Name of the configuration's own test split among the held-out sets."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """Scores of one version on one held-out set: `correct[m]` of `samples` samples of problem m were right.

    `undecided[m]` of them could not be scored; an empty tuple means none of any problem.
    """

    round: int
    samples: int
    domains: tuple[str, ...]
    correct: tuple[int, ...]
    undecided: tuple[int, ...] = ()

    @classmethod
    def of(cls, round: int, scores: Scores) -> Outcome:
        """Return the part of the scores that a sweep stores."""
        return cls(round, scores.samples, scores.domains, scores.correct, scores.undecided)


@dataclass(frozen=True, slots=True)
class RoundFigures:
    """One round as a sweep shows it; shares are None if there is nothing to divide.

    Attributes:
        precision: of the whole cascade, on held-out samples of the version the round produced.
        recall: likewise.
        right: share of this round's accepted solutions that are right by gold, computed after the job's end.
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
    """The result of one arm with one seed.

    Attributes:
        digest: digest of the configuration played.
        seconds: wall time; shared answers take none.
        tokens: output tokens by role, including those of answers copied from other jobs.
        calls: calls by role, including those of copied answers.
        taken: number of answers copied from another arm.
        rounds: the rounds, from 0.
        base: test outcomes of the base by held-out set, `test` and those of `also`.
        last: those of the last version.
        kept: those of the best version.
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
    """Write a play's file atomically."""
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(_file(folder, f"{result.arm}-s{result.seed}"), json.dumps(asdict(result)))


def stored(folder: Path, name: str) -> ArmResult | None:
    """Return the result of a play, or None if it has not been played.

    Raises:
        DataError: the file is not what `store` writes.
    """
    path = _file(folder, name)
    if not path.exists():
        return None
    try:
        return from_json(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: is not a result of a sweep ({error}); remove it to play the arm again") from None


def collect(results: Iterable[ArmResult], path: Path) -> None:
    """Write all results of a sweep into one file, to keep."""
    write_atomically(path, json.dumps([asdict(result) for result in results], separators=(",", ":")) + "\n")


def read_collection(path: Path) -> list[ArmResult]:
    """Return the results that `collect` wrote.

    Raises:
        DataError: the file cannot be read or has other contents.
    """
    try:
        return [from_json(item) for item in json.loads(path.read_text(encoding="utf-8"))]
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: is not a collection of a sweep's results ({error})") from None


def from_json(data: Mapping[str, Any]) -> ArmResult:
    """Convert back what `dataclasses.asdict` returned."""
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
    """Return results by arm and seed, in their order."""
    arms: dict[str, dict[int, ArmResult]] = {}
    for result in results:
        arms.setdefault(result.arm, {})[result.seed] = result
    return arms
