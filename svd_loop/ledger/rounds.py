"""Write and read committed rounds and stops.

A round's rows are written in one transaction by `write`, so a round is in the ledger completely or not at all. Figures
that users query have columns; mappings (figures, metrics, seconds) are JSON. The trainer's own figures are in
`updates`.
"""

from __future__ import annotations

import json
import math
import sqlite3
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from svd_loop.contracts import (
    Candidate,
    Episode,
    Estimate,
    JobResult,
    JudgeRow,
    PolicyVersion,
    RoundRecord,
    Scores,
    StopReason,
    TrainingRow,
    UpdateResult,
    VoteValue,
)
from svd_loop.ledger.checks import ROUND_TABLES, seal_round
from svd_loop.ledger.contents import Base, ContentStore, encode_ids
from svd_loop.ledger.shelving import stored_candidates, stored_verdicts
from svd_loop.ledger.typed_rounds import from_json, from_names, to_json
from svd_loop.support.shelved import held

_PART = 4096
"""Candidates whose rows are made together."""


@dataclass(frozen=True, slots=True)
class Stop:
    """How a job ended: the fields of `JobResult` besides the history."""

    reason: StopReason
    best_round: int
    test: Mapping[str, Scores]
    notes: tuple[str, ...]


def write(
    connection: sqlite3.Connection,
    store: ContentStore,
    record: RoundRecord,
    episode: Episode | None,
    rows: Sequence[TrainingRow],
    update: UpdateResult | None,
    judged: Sequence[JudgeRow] = (),
) -> None:
    """Write a new round within the caller's transaction."""
    values = (
        record.round,
        record.version.round,
        record.version.fingerprint,
        record.prompts,
        record.accepted_prompts,
        record.rows,
        record.scores.split,
        record.scores.samples,
        json.dumps(dict(record.metrics)),
        json.dumps(dict(record.seconds)),
        json.dumps(dict(record.funnel)),
        "{}",
        time.time(),
        to_json(record),
        None,  # digests: written below, after all rows
        None,
    )
    _insert(connection, "rounds", [values])
    if episode:
        _write_episode(connection, store, record.round, episode)
    _write_rows(connection, store, record.round, rows)
    _write_judge_rows(connection, store, record.round, judged)
    _write_scores(connection, record.round, record.scores)
    if update:
        version = update.version
        trained = (
            record.round,
            version.round,
            version.fingerprint,
            str(update.path),
            update.rows,
            update.steps,
            json.dumps(dict(update.metrics)),
        )
        _insert(connection, "updates", [trained])
    counts = json.dumps(count_rows(connection, record.round))
    connection.execute("UPDATE rounds SET counts = ? WHERE round = ?", (counts, record.round))
    seal_round(connection, record.round)


def count_rows(connection: sqlite3.Connection, round: int) -> dict[str, int]:
    """Return the number of rows of a round in each of its tables."""
    query = "SELECT count(*) FROM {} WHERE round = ?"
    return {table: connection.execute(query.format(table), (round,)).fetchone()[0] for table in ROUND_TABLES}


def read_history(connection: sqlite3.Connection) -> tuple[RoundRecord, ...]:
    """Return all committed rounds, in order."""
    columns = (
        "round, policy_round, fingerprint, accepted_prompts, prompts, rows, metrics, seconds, funnel, split, samples, "
        "figures"
    )
    updates = dict(connection.execute("SELECT round, metrics FROM updates").fetchall())
    records = []
    for row in connection.execute(f"SELECT {columns} FROM rounds ORDER BY round").fetchall():
        number, policy_round, fingerprint, accepted, prompts, rows, named, seconds, funnel, split, samples, typed = row
        update, metrics = json.loads(updates.get(number, "{}")), json.loads(named)
        if typed is None:  # written by an earlier version: all figures by name, including those of the update
            figures, metrics = from_names({name: value for name, value in metrics.items() if name not in update})
        else:
            figures = from_json(typed)
        records.append(
            RoundRecord(
                round=number,
                version=PolicyVersion(policy_round, fingerprint),
                scores=_read_scores(connection, number, split, samples),
                accepted_prompts=accepted,
                prompts=prompts,
                rows=rows,
                usage=figures.usage,
                votes=figures.votes,
                health=figures.health,
                audit=figures.audit,
                verifiers=figures.verifiers,
                choice=figures.choice,
                update=update,
                metrics=metrics,
                seconds=json.loads(seconds),
                funnel=json.loads(funnel),
            )
        )
    return tuple(records)


def read_rows(connection: sqlite3.Connection, store: ContentStore, rounds: range | None) -> list[TrainingRow]:
    """Return the accepted rows of the given rounds (None: all), oldest round first, in committed order."""
    columns = "round, input_ids, supervised_from, origin, prompt_id, candidate, origin_round, domain"
    query = f"SELECT {columns} FROM accepted_rows ORDER BY round, place"
    return [
        TrainingRow(store.ids(ids), supervised_from, origin, prompt_id, candidate, origin_round, domain)
        for round, ids, supervised_from, origin, prompt_id, candidate, origin_round, domain in connection.execute(query)
        if rounds is None or round in rounds
    ]


def read_judge_rows(connection: sqlite3.Connection, store: ContentStore) -> list[JudgeRow]:
    """Return the judge rows of all rounds, oldest round first, in committed order."""
    columns = "round, input_ids, supervised_from, prompt_id, candidate, domain, stage, value, reason"
    query = f"SELECT {columns} FROM judge_rows ORDER BY round, place"
    return [
        JudgeRow(
            TrainingRow(store.ids(ids), supervised_from, "judge", prompt_id, candidate, round, domain),
            stage,
            VoteValue(value) if value else None,
            reason,
        )
        for round, ids, supervised_from, prompt_id, candidate, domain, stage, value, reason in connection.execute(query)
    ]


def write_stop(connection: sqlite3.Connection, result: JobResult, config_digest: str) -> None:
    """Record how the job ended after its last round, replacing an earlier stop after the same round."""
    test = json.dumps({name: asdict(scores) for name, scores in result.test.items()})
    after = result.history[-1].round
    values = (after, result.stop.value, result.best.round, config_digest, test, json.dumps(result.notes))
    connection.execute(f"INSERT OR REPLACE INTO stops VALUES ({', '.join('?' * len(values))})", values)


def read_stop(connection: sqlite3.Connection, config_digest: str) -> Stop | None:
    """Return the stop that is in force, or None.

    A stop is void once another round was played after it. A stop caused by a limit (rounds, budget, verifiers) is also
    void once the configuration has changed, because of the keys that may change only limits can affect it. An
    interruption ends a process and not the job.
    """
    query = """SELECT reason, best_round, config_digest, test, notes FROM stops
               WHERE after_round = (SELECT max(round) FROM rounds)"""
    row = connection.execute(query).fetchone()
    if row is None:
        return None
    reason, best, digest, test, notes = row
    reason = StopReason(reason)
    limited = reason in (StopReason.ROUND_LIMIT, StopReason.BUDGET, StopReason.NO_VERIFIER)
    if reason is StopReason.INTERRUPTED or (limited and digest != config_digest):
        return None
    scores = {name: _scores_from(data) for name, data in json.loads(test).items()}
    return Stop(reason, best, scores, tuple(json.loads(notes)))


def _write_episode(connection: sqlite3.Connection, store: ContentStore, round: int, episode: Episode) -> None:
    """Write candidates, verdicts and votes in the order of their keys, a part at a time."""
    selected = {(candidate.prompt_id, candidate.index) for candidate in episode.selected}
    candidates = sorted(held(episode.candidates), key=lambda one: (one.prompt_id, one.index))
    for start in range(0, len(candidates), _PART):
        part = stored_candidates(store, candidates[start : start + _PART])
        _insert(connection, "candidates", [_candidate_row(round, one, selected) for one in part])
    verdicts = sorted(episode.verdicts, key=lambda one: (one.prompt_id, one.candidate))
    for start in range(0, len(verdicts), _PART):
        judged = stored_verdicts(store, verdicts[start : start + _PART])
        rows: list[tuple[object, ...]] = [
            (round, one.prompt_id, one.candidate, one.accepted, one.rejection, one.stage, one.vote) for one in judged
        ]
        _insert(connection, "verdicts", rows)
        rows = [
            (round, one.prompt_id, one.candidate, place, vote.stage, vote.vote, vote.value, vote.stored)
            for one in judged
            for place, vote in enumerate(one.votes)
        ]
        _insert(connection, "votes", rows)


def _candidate_row(round: int, candidate: Candidate, selected: Collection[tuple[str, int]]) -> tuple[object, ...]:
    policy = (candidate.policy.round, candidate.policy.fingerprint) if candidate.policy else (None, None)
    name = (candidate.prompt_id, candidate.index)
    return (round, *name, candidate.finish_reason.value, *policy, name in selected, *(candidate.stored or ()))


def _write_rows(connection: sqlite3.Connection, store: ContentStore, round: int, rows: Sequence[TrainingRow]) -> None:
    for start in range(0, len(rows), _PART):
        part = rows[start : start + _PART]
        encoded = [encode_ids(row.input_ids) for row in part]
        ids = store.put("rows", encoded, _row_bases(connection, store, round, part, encoded))
        values = [
            (
                round,
                place,
                row.origin,
                row.round,
                row.prompt_id,
                row.candidate,
                row.domain,
                row.supervised_from,
                ids[content].id,
            )
            for place, (row, content) in enumerate(zip(part, encoded, strict=True), start)
        ]
        _insert(connection, "accepted_rows", values)


def _row_bases(
    connection: sqlite3.Connection,
    store: ContentStore,
    round: int,
    rows: Sequence[TrainingRow],
    encoded: Sequence[bytes],
) -> dict[bytes, Base]:
    """The ids of the candidates that rows were made of, by the row's ids; of those that can be a base."""
    query = """SELECT contents.id FROM candidates JOIN contents ON contents.id = token_ids
               WHERE round = ? AND prompt_id = ? AND candidate = ? AND base IS NULL"""
    bases: dict[bytes, Base] = {}
    for row, content in zip(rows, encoded, strict=True):
        if found := connection.execute(query, (round, row.prompt_id, row.candidate)).fetchone():
            bases[content] = Base(found[0], store.load(found)[found[0]].data)
    return bases


def _write_judge_rows(
    connection: sqlite3.Connection, store: ContentStore, round: int, judged: Sequence[JudgeRow]
) -> None:
    ids = store.put("judge rows", (encode_ids(one.row.input_ids) for one in judged))
    values = [
        (
            round,
            place,
            one.stage,
            one.value,
            one.reason,
            one.row.prompt_id,
            one.row.candidate,
            one.row.domain,
            one.row.supervised_from,
            ids[encode_ids(one.row.input_ids)].id,
        )
        for place, one in enumerate(judged)
    ]
    _insert(connection, "judge_rows", values)


def _write_scores(connection: sqlite3.Connection, round: int, scores: Scores) -> None:
    undecided = scores.undecided or (0,) * len(scores.correct)
    problems = zip(scores.problem_ids, scores.domains, scores.correct, undecided, strict=True)
    _insert(connection, "evaluations", [(round, place, *problem) for place, problem in enumerate(problems)])
    estimates = [
        (domain, metric, estimate.value, estimate.low, estimate.high)
        for domain, metrics in scores.estimates.items()
        for metric, estimate in metrics.items()
    ]
    _insert(connection, "estimates", [(round, place, *values) for place, values in enumerate(estimates)])


def _read_scores(connection: sqlite3.Connection, round: int, split: str, samples: int) -> Scores:
    query = "SELECT problem_id, domain, correct, undecided FROM evaluations WHERE round = ? ORDER BY place"
    problems = connection.execute(query, (round,)).fetchall()
    estimates: dict[str, dict[str, Estimate]] = {}
    query = "SELECT domain, metric, value, low, high FROM estimates WHERE round = ? ORDER BY place"
    for domain, metric, *values in connection.execute(query, (round,)):
        estimates.setdefault(domain, {})[metric] = Estimate(*(_number(value) for value in values))
    return Scores(
        split=split,
        samples=samples,
        problem_ids=tuple(problem[0] for problem in problems),
        domains=tuple(problem[1] for problem in problems),
        correct=tuple(problem[2] for problem in problems),
        estimates=estimates,
        undecided=_undecided(problem[3] for problem in problems),
    )


def _scores_from(data: Mapping[str, Any]) -> Scores:
    return Scores(
        split=data["split"],
        samples=data["samples"],
        problem_ids=tuple(data["problem_ids"]),
        domains=tuple(data["domains"]),
        correct=tuple(data["correct"]),
        estimates={
            domain: {metric: Estimate(**values) for metric, values in metrics.items()}
            for domain, metrics in data["estimates"].items()
        },
        undecided=_undecided(data.get("undecided", ())),
    )


def _undecided(counts: Iterable[int]) -> tuple[int, ...]:
    found = tuple(counts)
    return found if any(found) else ()


def _number(value: float | None) -> float:
    return math.nan if value is None else value  # SQLite stores a NaN as NULL


def _insert(connection: sqlite3.Connection, table: str, rows: Sequence[tuple[object, ...]]) -> None:
    if rows:
        connection.executemany(f"INSERT INTO {table} VALUES ({', '.join('?' * len(rows[0]))})", rows)
