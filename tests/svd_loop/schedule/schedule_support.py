"""A schedule on trivial sums, with a registry that is one file and a gate that compares test scores."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from envs.problems import arithmetic
from svd_loop.config import Config
from svd_loop.contracts import Domain, JobResult, PolicyVersion, Problem, RoundRecord, StopReason
from svd_loop.ledger import LedgerReader
from svd_loop.promotion.gate import Decision as Decided
from svd_loop.promotion.gate import Finding as Found
from tests.svd_loop.conftest import scores_of
from tests.svd_loop.jobs_support import small

START = 1_750_000_000.0
WEEK = 7 * 86_400.0


def problems(split: Any, count: int, seed: int) -> list[Problem]:
    """Sums alone: they need no sandbox."""
    return [item for item in arithmetic.generate(split, count, seed) if item.domain == Domain.MATH]


def held_out_file(path: Path, items: Iterable[Problem]) -> str:
    rows = [{"prompt": item.text, "answer": item.answer, "domain": "math"} for item in items]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return json.dumps({"type": "files", "paths": [str(path)]})


def schedule_config(root: Path, *overrides: str, development: int = 40, test: int = 40) -> Config:
    root.mkdir(parents=True, exist_ok=True)
    held_out = [
        f"data.{split}={held_out_file(root / f'{split}.jsonl', problems(split, count, 5))}"
        for split, count in (("development", development), ("test", test))
    ]
    return small(
        root,
        "data.prompts_per_round=null",
        "sampling.n=2",
        "sampling.block=1",
        "cascade.votes=1",
        "job.rounds=1",
        "engine.gain=0.15",
        "engine.skill=0.3",
        "schedule.min_prompts=10",
        "schedule.settle_seconds=60",
        *held_out,
        *overrides,
    )


def drop(inbox: Path, name: str, texts: Iterable[str], *, now: float = START, age: float = 3600.0) -> Path:
    """A file of prompts in the inbox that was last changed `age` seconds before `now`."""
    inbox.mkdir(parents=True, exist_ok=True)
    path = inbox / name
    path.write_text("".join(json.dumps({"prompt": text, "domain": "math"}) + "\n" for text in texts))
    os.utime(path, (now - age, now - age))
    return path


def texts(count: int, seed: int) -> list[str]:
    return [item.text for item in problems("train", count, seed)]


@dataclass
class Clock:
    now: float = START

    def __call__(self) -> float:
        return self.now


@dataclass
class StandIn:
    """Registry and gate: the champion's folder is kept in a file, as an alias would be; `asked` are the jobs judged."""

    root: Path
    margin: float = 0.0
    asked: list[str] = field(default_factory=list)
    promoted: list[str] = field(default_factory=list)
    idle: list[str] = field(default_factory=list)

    def champion(self) -> Path | None:
        path = self.root / "champion"
        return Path(path.read_text()) if path.exists() else None

    def is_champion(self, folder: Path) -> bool:
        return self.champion() == folder.resolve()

    def is_registered(self, folder: Path) -> bool:
        return True

    def record_nothing_gained(self, why: str) -> None:
        self.idle.append(why)

    def promote(self, folder: Path) -> None:
        self.promoted.append(folder.parents[1].name)
        (self.root / "champion").write_text(str(folder.resolve()))

    def gate(self, config: Config, name: str) -> Decided:
        """Promotes when the best version is better than the job's start on the test split by more than `margin`."""
        self.asked.append(config.job.name)
        folder = config.job.root / "jobs" / config.job.name
        with LedgerReader.open_for_reading(folder) as reader:
            result = reader.result()
        assert result is not None
        gain = result.test[result.best.version.name].pass_at_1.value - result.test["round-000"].pass_at_1.value
        found = Found("test pass@1", gain > self.margin, gain, self.margin, f"gains {gain:+.3f} on the test split")
        if found.passed:
            self.promote(folder / "versions" / result.best.version.name)
        return Decided(found.passed, (found,))


def quick_result(config: Config) -> JobResult:
    """A job that took no time and ended with a better round 1."""
    history = tuple(RoundRecord(number, PolicyVersion(number, "f"), scores_of(0.4 + 0.1 * number)) for number in (0, 1))
    return JobResult(config.job.name, StopReason.ROUND_LIMIT, history[1], history)
