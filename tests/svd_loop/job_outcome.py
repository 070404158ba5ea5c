"""What a job left behind, for comparing one that was killed or stopped with one that was not."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from svd_loop.contracts import PolicyVersion, StopReason, TrainingRow
from svd_loop.ledger import LedgerReader, content_digest


@dataclass(frozen=True)
class Outcome:
    """Everything that must not depend on how often a job was started."""

    digest: str
    rows: tuple[TrainingRow, ...]
    versions: tuple[PolicyVersion, ...]
    best: PolicyVersion
    stop: StopReason


def outcome_of(folder: Path) -> Outcome:
    """The outcome of a job that has ended."""
    with LedgerReader.open_for_reading(folder) as reader:
        result = reader.result()
        assert result is not None, "the job has no recorded end"
        return Outcome(
            content_digest(reader),
            tuple(reader.accepted_rows()),
            tuple(record.version for record in result.history),
            result.best.version,
            result.stop,
        )


def is_finished(folder: Path) -> bool:
    """Whether a job has committed its stop."""
    if not (folder / "config.json").exists():
        return False
    with LedgerReader.open_for_reading(folder) as reader:
        return reader.result() is not None


def replies_asked(record: Path) -> Counter[tuple[object, ...]]:
    """How often each reply was really asked for, from the file of `--record`; a kill may cut a line short."""
    asked: Counter[tuple[object, ...]] = Counter()
    for line in record.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            reply = json.loads(line)
        except ValueError:
            continue
        del reply["text"], reply["finish_reason"]
        asked[tuple(sorted(reply.items()))] += 1
    return asked


def asked_again(record: Path) -> int:
    """How many replies were asked for a second time or more."""
    asked = replies_asked(record)
    return sum(asked.values()) - len(asked)
