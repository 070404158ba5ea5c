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
from svd_loop.contracts import JudgeRow, RootPaths, TrainingRow, VoteValue
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


@dataclass(frozen=True, slots=True)
class LearnedJudgement:
    """A judgement about a candidate of a prompt that became a training row of the judge (`update.judge_rows`).

    Attributes:
        round: the round whose judge wrote it.
        stage: the stage it was asked for.
        candidate: number of the candidate; a planted one has a number beyond those of the prompt's own.
        value: the verdict; empty for a reply that prepares one.
        reason: what the verdict was inferred from (`envs.judge_rows`).
        trained: the versions whose own update used the row, oldest first.
    """

    round: int
    stage: str
    candidate: int
    value: str
    reason: str
    trained: Sequence[TrainedVersion]


_ROWS = """
SELECT rows.round AS round, rows.prompt_id AS prompt_id, rows.candidate AS candidate, prompts.domain AS domain,
       coalesce(prompts.source, '') AS source, content_text(prompts.text) AS text, content_text(c.text) AS solution,
       c.policy_round AS policy_round, c.fingerprint AS fingerprint
FROM accepted_rows AS rows
LEFT JOIN prompts ON prompts.id = rows.prompt_id
JOIN candidates AS c ON c.round = rows.round AND c.prompt_id = rows.prompt_id AND c.candidate = rows.candidate
WHERE rows.prompt_id = ? AND (? IS NULL OR rows.candidate = ?) ORDER BY rows.round, rows.candidate
"""

_JUDGE_ROWS = """
SELECT round, place, stage, candidate, coalesce(value, '') AS value, reason FROM judge_rows
WHERE prompt_id = ? AND (? IS NULL OR candidate = ?) ORDER BY round, place
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


def learned_judgements(job: str, root: Path, example: str) -> list[LearnedJudgement]:
    """Return the judge rows about candidates that `PROMPT_ID[:CANDIDATE]` matches, oldest round first.

    Raises:
        DataError: there is no such prompt.
        LedgerError: there is no such job.
    """
    name, candidate = parse_example(example)
    with LedgerReader.open_for_reading(RootPaths(root).job(job).folder) as reader:
        reader.verify()
        return judgements_of(reader, find_prompt(reader, job, name), candidate)


def judgements_of(
    reader: LedgerReader, prompt_id: str, candidate: int | None = None, updates: Mapping[int, Update] | None = None
) -> list[LearnedJudgement]:
    """Return the judge rows about a prompt (and a candidate); `updates` saves computing those of the job again."""
    rows = list(reader.query(_JUDGE_ROWS, [prompt_id, candidate, candidate]))
    if rows and updates is None:
        updates = updates_of(reader)
    return [
        LearnedJudgement(
            row["round"],
            row["stage"],
            row["candidate"],
            row["value"],
            row["reason"],
            [one.version for one in (updates or {}).values() if (row["round"], row["place"]) in one.judged],
        )
        for row in rows
    ]


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
        rows: prompt id, candidate and round of each accepted row; anchors are left out.
        judged: round and place of each judge row.
        from_base: whether it started from the base model, so that it inherits nothing.
    """

    version: TrainedVersion
    rows: frozenset[tuple[str, int, int]]
    judged: frozenset[tuple[int, ...]]
    from_base: bool


def updates_of(reader: LedgerReader) -> dict[int, Update]:
    """Return each finished update, by round. The rows are read without their tokens and not verified."""
    config = parse_config(reader.config())
    inherited = inherited_rows(config.schedule.replay, reader.folder.parents[1])
    section = config.update.replay
    share = config.update.judge_rows.share
    replay = Replay(section.rounds, section.ratio, 0.0, config.job.seed, inherited=inherited, judge_share=share)
    query = """SELECT origin, prompt_id, candidate, origin_round, domain FROM accepted_rows ORDER BY round, place"""
    accepted = [
        TrainingRow((), 0, row["origin"], row["prompt_id"], row["candidate"], row["origin_round"], row["domain"])
        for row in reader.query(query)
    ]
    judged = [_judge_row(row) for row in reader.query("SELECT * FROM judge_rows ORDER BY round, place")]
    found: dict[int, Update] = {}
    for row in reader.query("SELECT round, policy_round, fingerprint FROM updates ORDER BY round"):
        round = row["round"]
        new = [item for item in accepted if item.round == round]
        mixed = replay.mix(
            new,
            [item for item in accepted if item.round < round],
            round=round,
            judged=[item for item in judged if item.row.round == round],
            earlier_judged=[item for item in judged if item.row.round < round],
        )
        version = TrainedVersion(round, f"round-{row['policy_round']:03d}", row["fingerprint"])
        of_judge = frozenset(row.input_ids for row in mixed if row.origin == "judge")
        rows = frozenset(_key(row) for row in mixed if row.origin != "judge")
        found[round] = Update(version, rows, of_judge, config.update.start == "base")
    return found


def _judge_row(row: Mapping[str, Any]) -> JudgeRow:
    """A judge row whose round and place stand in for its tokens."""
    place = TrainingRow((row["round"], row["place"]), 0, "judge", row["prompt_id"], row["candidate"], row["round"])
    return JudgeRow(place, row["stage"], VoteValue(row["value"]) if row["value"] else None, row["reason"])


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
