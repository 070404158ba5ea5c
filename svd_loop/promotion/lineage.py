"""Explain an accepted row: everything the ledger records about it, and the versions trained on it.

Which later updates trained on a row again is not stored: replay is a seeded function of the accepted rows
(`svd_loop.loop.replay`), so it is computed again here, without anchors, with the same result.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from svd_loop.assembly.inherited import inherited_rows
from svd_loop.config import parse_config
from svd_loop.contracts import RootPaths, TrainingRow
from svd_loop.ledger import LedgerReader
from svd_loop.loop.replay import Replay
from svd_loop.promotion.verdicts_of_prompts import VOTES, find_prompt, parse_example


@dataclass(frozen=True, slots=True)
class TrainedVersion:
    """A version that was trained on the row; `round` is the round whose update made it."""

    round: int
    name: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """One accepted row.

    Attributes:
        round: the round that accepted it.
        prompt_id: id of its prompt; `text`, `domain` and `source` (`file:line`) are the prompt's.
        candidate: its number among the prompt's candidates; `solution` is its text.
        written_by: name and fingerprint of the version that wrote and judged it.
        votes: every vote in the order they were cast: `stage`, `vote`, `value`, `words`.
        trained: the versions whose own update used the row, oldest first.
        inherited: later versions that started from one of them and were not trained on the row again.
    """

    round: int
    prompt_id: str
    text: str
    domain: str
    source: str
    candidate: int
    solution: str
    written_by: Mapping[str, str]
    votes: Sequence[Mapping[str, Any]]
    trained: Sequence[TrainedVersion]
    inherited: Sequence[TrainedVersion]


_ROWS = """
SELECT rows.round AS round, rows.prompt_id AS prompt_id, rows.candidate AS candidate, prompts.domain AS domain,
       coalesce(prompts.source, '') AS source, content_text(prompts.text) AS text, content_text(c.text) AS solution,
       c.policy_round AS policy_round, c.fingerprint AS fingerprint
FROM accepted_rows AS rows
LEFT JOIN prompts ON prompts.id = rows.prompt_id
JOIN candidates AS c ON c.round = rows.round AND c.prompt_id = rows.prompt_id AND c.candidate = rows.candidate
WHERE rows.prompt_id = ? AND (? IS NULL OR rows.candidate = ?) ORDER BY rows.round, rows.candidate
"""


def explain(job: str, root: Path, example: str) -> list[Explanation]:
    """Return every accepted row that `PROMPT_ID[:CANDIDATE]` matches, oldest round first; may be empty.

    Args:
        job: job name.
        root: `job.root`.
        example: a prompt's id or a unique prefix of it, and optionally a candidate's number.

    Raises:
        DataError: there is no such prompt.
        LedgerError: there is no such job.
    """
    name, candidate = parse_example(example)
    with LedgerReader.open_for_reading(RootPaths(root).job(job).folder) as reader:
        prompt_id = find_prompt(reader, job, name)
        reader.verify_prompts([prompt_id])
        rows = list(reader.query(_ROWS, [prompt_id, candidate, candidate]))
        if not rows:
            return []
        updates = updates_of(reader)
        return [_explanation(reader, row, updates) for row in rows]


def _explanation(reader: LedgerReader, row: Mapping[str, Any], updates: Mapping[int, Update]) -> Explanation:
    trained, inherited = versions_of((row["prompt_id"], row["candidate"], row["round"]), updates)
    writer = row["policy_round"]
    return Explanation(
        round=row["round"],
        prompt_id=row["prompt_id"],
        text=row["text"] or "",
        domain=row["domain"] or "",
        source=row["source"],
        candidate=row["candidate"],
        solution=row["solution"],
        written_by={"name": "" if writer is None else f"round-{writer:03d}", "fingerprint": row["fingerprint"] or ""},
        votes=list(reader.query(VOTES, [row["round"], row["prompt_id"], row["candidate"]])),
        trained=trained,
        inherited=inherited,
    )


@dataclass(frozen=True, slots=True)
class Update:
    """A finished update: the version it made, and the accepted rows that it trained on.

    Attributes:
        version: what it made.
        rows: prompt id, candidate and round of each row; anchors are left out.
        from_base: whether it started from the base model, so that it inherits nothing.
    """

    version: TrainedVersion
    rows: frozenset[tuple[str, int, int]]
    from_base: bool


def updates_of(reader: LedgerReader) -> dict[int, Update]:
    """Return each finished update, by round. The rows are read without their tokens and not verified."""
    config = parse_config(reader.config())
    inherited = inherited_rows(config.schedule.replay, reader.folder.parents[1])
    section = config.update.replay
    replay = Replay(section.rounds, section.ratio, 0.0, config.job.seed, inherited=inherited)
    query = """SELECT origin, prompt_id, candidate, origin_round, domain FROM accepted_rows ORDER BY round, place"""
    accepted = [
        TrainingRow((), 0, row["origin"], row["prompt_id"], row["candidate"], row["origin_round"], row["domain"])
        for row in reader.query(query)
    ]
    found: dict[int, Update] = {}
    for row in reader.query("SELECT round, policy_round, fingerprint FROM updates ORDER BY round"):
        round = row["round"]
        new = [item for item in accepted if item.round == round]
        mixed = replay.mix(new, [item for item in accepted if item.round < round], round=round)
        version = TrainedVersion(round, f"round-{row['policy_round']:03d}", row["fingerprint"])
        found[round] = Update(version, frozenset(map(_key, mixed)), config.update.start == "base")
    return found


def versions_of(
    key: tuple[str, int, int], updates: Mapping[int, Update]
) -> tuple[list[TrainedVersion], list[TrainedVersion]]:
    """Return the versions whose own update used a row, and later ones that only started from one of them.

    Args:
        key: prompt id, candidate and round of the row.
        updates: as `updates_of` returns them.
    """
    trained = [update.version for update in updates.values() if key in update.rows]
    first = min((version.round for version in trained), default=None)
    rounds = {version.round for version in trained}
    inherited = [
        update.version
        for round, update in updates.items()
        if first is not None and round > first and round not in rounds and not update.from_base
    ]
    return trained, inherited


def _key(row: TrainingRow) -> tuple[str, int, int]:
    return row.prompt_id, row.candidate, row.round
