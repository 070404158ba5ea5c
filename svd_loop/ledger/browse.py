"""Browse the played prompts of a ledger: pages of prompts with filters, and one prompt with its candidates and votes.

Every function reads through an open `LedgerReader` and changes nothing. Pages go by key and not by offset, so page
10,000 costs what page 1 costs. A filter that matches rarely has to look at many prompts: `find_prompts` looks at them
in the order of their ids until the page is full or its time is up, and says where to go on.

Rows are not verified against the digests of their table (`LedgerReader.verify` reads all of them); texts are.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from svd_loop.contracts import Rejection, VoteValue
from svd_loop.ledger.prompt_filter import PATTERN, ROUND, PromptFilter, conditions
from svd_loop.ledger.reader import LedgerReader

_CHUNK, _TEXT_CHUNK = 500, 100
"""Prompts looked at between two looks at the clock; a search for words reads every text."""

_EXCERPT = 240


@dataclass(frozen=True, slots=True)
class CandidateMark:
    """The outcome of one candidate, for lists: its number, verdict and votes (`yyn`)."""

    candidate: int
    accepted: bool
    selected: bool
    rejection: str
    stage: str
    votes: str


@dataclass(frozen=True, slots=True)
class PlayedPrompt:
    """A prompt in a round: the beginning of its text, and the outcome of each candidate."""

    round: int
    id: str
    domain: str
    words: str
    marks: Sequence[CandidateMark]

    @property
    def accepted(self) -> int:
        """Number of accepted candidates."""
        return sum(mark.accepted for mark in self.marks)


@dataclass(frozen=True, slots=True)
class PromptPage:
    """One page of a search.

    Attributes:
        prompts: the matches, in the order of their ids.
        after: id after which the search goes on, None at the end.
        looked_at: prompts that were looked at for this page.
    """

    prompts: Sequence[PlayedPrompt]
    after: str | None
    looked_at: int


@dataclass(frozen=True, slots=True)
class CastVote:
    """A vote in the judge's words; `decided` marks the one that rejected the candidate."""

    stage: str
    vote: int
    value: VoteValue
    words: str
    decided: bool


@dataclass(frozen=True, slots=True)
class Call:
    """One reply of the policy: who was asked for what, what it answered, and its tokens."""

    seq: int
    purpose: str
    round: int
    role: str
    prompt_id: str
    candidate: int
    stage: str
    vote: int
    attempt: int
    policy_round: int
    fingerprint: str
    finish_reason: str
    prompt_tokens: int
    output_tokens: int
    words: str
    prompt_ids: int


@dataclass(frozen=True, slots=True)
class ShownCandidate:
    """A candidate with its verdict, its votes, and every call made for it (solver and judge, committed or not)."""

    mark: CandidateMark
    text: str
    finish_reason: str
    policy_round: int | None
    fingerprint: str
    deciding_vote: int | None
    votes: Sequence[CastVote]
    calls: Sequence[Call] = field(default_factory=tuple)

    @property
    def output_tokens(self) -> int:
        """Tokens of the solution."""
        return sum(call.output_tokens for call in self.calls if call.role == "solver")

    @property
    def judge_tokens(self) -> int:
        """Tokens that judging it generated."""
        return sum(call.output_tokens for call in self.calls if call.role != "solver")


def find_prompts(
    reader: LedgerReader,
    round: int,
    wanted: PromptFilter | None = None,
    *,
    after: str = "",
    before: str | None = None,
    limit: int = 50,
    seconds: float = 0.5,
) -> PromptPage:
    """Return up to `limit` prompts of a committed round that match, in the order of their ids.

    Args:
        reader: the ledger.
        round: the round.
        wanted: the filter; None matches all.
        after: only ids greater than this one.
        before: only ids smaller than this one, the nearest first; `after` of the page then continues downwards.
        limit: size of a page.
        seconds: time after which a search returns what it has; at least one chunk of prompts is looked at.
    """
    wanted = wanted or PromptFilter()
    found: list[str] = []
    looked_at, edge, end = 0, (after if before is None else before), time.monotonic() + seconds
    size = limit + 1 if wanted.is_empty else _TEXT_CHUNK if wanted.text else _CHUNK
    while True:
        ids = _chunk(reader, round, edge, down=before is not None, size=size)
        looked_at += len(ids)
        for id in _matching(reader, round, wanted, ids):
            if len(found) == limit:  # one more than a page: the next page begins behind the last of this one
                return PromptPage(_marked(reader, round, found), found[-1], looked_at)
            found.append(id)
        if not ids:
            return PromptPage(_marked(reader, round, found), None, looked_at)
        edge = ids[-1]
        if time.monotonic() > end and len(found) < limit:
            return PromptPage(_marked(reader, round, found), edge, looked_at)


def neighbours(
    reader: LedgerReader, round: int, id: str, wanted: PromptFilter | None = None, *, seconds: float = 0.3
) -> tuple[str | None, str | None]:
    """Return the ids of the matching prompts before and after a prompt; None where there is none, or none was found."""
    previous = find_prompts(reader, round, wanted, before=id, limit=1, seconds=seconds).prompts
    following = find_prompts(reader, round, wanted, after=id, limit=1, seconds=seconds).prompts
    return (previous[0].id if previous else None), (following[0].id if following else None)


def rounds_of(reader: LedgerReader, id: str) -> list[int]:
    """Return the committed rounds that played a prompt, oldest first."""
    query = """SELECT round FROM rounds WHERE EXISTS (
               SELECT 1 FROM verdicts AS v WHERE v.round = rounds.round AND v.prompt_id = ?) ORDER BY round"""
    return [row["round"] for row in reader.query(query, [id])]


def ids_beginning(reader: LedgerReader, prefix: str, limit: int = 20) -> list[str]:
    """Return ids of recorded prompts that begin with `prefix`."""
    query = "SELECT id FROM prompts WHERE id >= ? AND substr(id, 1, length(?)) = ? ORDER BY id LIMIT ?"
    return [row["id"] for row in reader.query(query, [prefix, prefix, prefix, limit])]


def prompt_of(reader: LedgerReader, id: str) -> Mapping[str, Any] | None:
    """Return `id`, `domain`, `source` and `text` of a training prompt, or None."""
    query = "SELECT id, domain, source, content_text(text) AS text FROM prompts WHERE id = ?"
    return next(reader.query(query, [id]), None)


def candidates_of(reader: LedgerReader, round: int, id: str) -> list[ShownCandidate]:
    """Return a prompt's candidates in a committed round, with votes and calls."""
    query = """
    SELECT c.candidate, c.finish_reason, c.policy_round, c.fingerprint, c.selected, content_text(c.text) AS text,
           coalesce(v.accepted, 0) AS accepted, v.rejection, v.stage, v.vote
    FROM candidates AS c LEFT JOIN verdicts AS v USING (round, prompt_id, candidate)
    WHERE c.round = ? AND c.prompt_id = ? ORDER BY c.candidate
    """
    votes: dict[int, list[dict[str, Any]]] = {}
    cast = """SELECT candidate, stage, vote, value, content_text(text) AS words FROM votes
              WHERE round = ? AND prompt_id = ? ORDER BY candidate, place"""
    for row in reader.query(cast, [round, id]):
        votes.setdefault(row["candidate"], []).append(row)
    calls: dict[int, list[Call]] = {}
    for call in calls_of(reader, id, round, "train"):
        calls.setdefault(call.candidate, []).append(call)
    return [
        _candidate(row, votes.get(row["candidate"], []), calls.get(row["candidate"], []))
        for row in reader.query(query, [round, id])
    ]


_CALLS = """
SELECT seq, purpose, round, role, prompt_id, candidate, stage, vote, attempt, policy_round, fingerprint, finish_reason,
       prompt_tokens, output_tokens, content_text(text) AS words, prompt_ids
FROM answers JOIN speakers ON speakers.id = answers.speaker
"""


def calls_of(reader: LedgerReader, id: str, round: int, purpose: str) -> list[Call]:
    """Return every reply to a call of one purpose about a prompt, in the order written.

    Held-out problems are sampled under round 0 whatever the version; `policy_round` says which version answered.
    """
    where = "WHERE prompt_id = ? AND round = ? AND purpose = ? ORDER BY candidate, seq"
    return [Call(**row) for row in reader.query(_CALLS + where, [id, round, purpose])]


def call_of(reader: LedgerReader, seq: int) -> Call | None:
    """Return the reply with this number, or None."""
    return next((Call(**row) for row in reader.query(f"{_CALLS} WHERE seq = ?", [seq])), None)


def newest_calls(reader: LedgerReader, limit: int = 40, *, after: int = -1) -> list[Call]:
    """Return the newest replies of the ledger with a `seq` greater than `after`, newest first."""
    return [Call(**row) for row in reader.query(f"{_CALLS} WHERE seq > ? ORDER BY seq DESC LIMIT ?", [after, limit])]


def rejections_of(reader: LedgerReader, round: int) -> list[tuple[str, str, int]]:
    """Return how often each rejection and stage occurs among a round's verdicts, the most frequent first."""
    query = """SELECT coalesce(rejection, '') AS rejection, coalesce(stage, '') AS stage, count(*) AS n
               FROM verdicts WHERE round = ? GROUP BY 1, 2 ORDER BY 3 DESC"""
    return [(row["rejection"], row["stage"], row["n"]) for row in reader.query(query, [round])]


def domains_of(reader: LedgerReader) -> list[str]:
    """Return the domains of the recorded prompts."""
    return [row["domain"] for row in reader.query("SELECT DISTINCT domain FROM prompts ORDER BY domain")]


def _chunk(reader: LedgerReader, round: int, edge: str, *, down: bool, size: int) -> list[str]:
    side, order = ("<", "DESC") if down else (">", "ASC")
    query = f"""SELECT DISTINCT prompt_id FROM verdicts WHERE round = ? AND prompt_id {side} ?
                ORDER BY prompt_id {order} LIMIT ?"""
    return [row["prompt_id"] for row in reader.query(query, [round, edge, size])]


def _matching(reader: LedgerReader, round: int, wanted: PromptFilter, ids: Sequence[str]) -> Sequence[str]:
    """The ids of prompts that match, in the order of `ids`, which are consecutive."""
    if wanted.is_empty or not ids:
        return ids
    clauses, values = conditions(wanted)
    query = f"""SELECT prompt_id FROM (SELECT DISTINCT prompt_id FROM verdicts
                WHERE round = ? AND prompt_id BETWEEN ? AND ?) AS p WHERE {" AND ".join(clauses) or "true"}"""
    parameters = [round, min(ids), max(ids), *(round if value is ROUND else value for value in values)]
    found = {row["prompt_id"] for row in reader.query(query, parameters)}
    if wanted.text and found:
        found &= _holding(reader, round, ids, wanted.text.lower())
    return [id for id in ids if id in found]


_TEXTS = """
SELECT id AS prompt_id, text FROM prompts WHERE id BETWEEN ?2 AND ?3
UNION SELECT prompt_id, text FROM candidates WHERE round = ?1 AND prompt_id BETWEEN ?2 AND ?3
UNION SELECT prompt_id, text FROM votes WHERE round = ?1 AND prompt_id BETWEEN ?2 AND ?3
"""


def _holding(reader: LedgerReader, round: int, ids: Sequence[str], words: str) -> set[str]:
    """The ids of prompts that have `words` (in lower case) in the prompt, a candidate or a vote."""
    rows = list(reader.query(_TEXTS, [round, min(ids), max(ids)]))
    texts = reader.texts(row["text"] for row in rows)
    holding = {id for id, text in texts.items() if words in text.lower()}
    return {row["prompt_id"] for row in rows if row["text"] in holding}


def _marked(reader: LedgerReader, round: int, ids: Sequence[str]) -> list[PlayedPrompt]:
    """The prompts with the beginning of their text and the outcome of each candidate."""
    marks = ",".join("?" * len(ids))
    about = {
        row["id"]: row
        for row in reader.query(
            f"SELECT id, domain, content_text(text) AS text FROM prompts WHERE id IN ({marks})", list(ids)
        )
    }
    outcomes: dict[str, list[CandidateMark]] = {id: [] for id in ids}
    query = f"""
    SELECT v.prompt_id, v.candidate, v.accepted, v.rejection, v.stage, coalesce(c.selected, 0) AS selected,
           coalesce({PATTERN}, '') AS votes
    FROM verdicts AS v LEFT JOIN candidates AS c USING (round, prompt_id, candidate)
    WHERE v.round = ? AND v.prompt_id IN ({marks}) ORDER BY v.prompt_id, v.candidate
    """
    for row in reader.query(query, [round, *ids]):
        outcomes[row["prompt_id"]].append(_mark(row, row["votes"]))
    return [
        PlayedPrompt(
            round,
            id,
            about[id]["domain"] if id in about else "",
            " ".join(about[id]["text"][: 4 * _EXCERPT].split())[:_EXCERPT] if id in about else "",
            outcomes[id],
        )
        for id in ids
    ]


def _mark(row: Mapping[str, Any], votes: str) -> CandidateMark:
    return CandidateMark(
        row["candidate"],
        bool(row["accepted"]),
        bool(row["selected"]),
        row["rejection"] or "",
        row["stage"] or "",
        votes,
    )


def _candidate(row: Mapping[str, Any], cast: Sequence[Mapping[str, Any]], calls: Sequence[Call]) -> ShownCandidate:
    deciding = None if row["accepted"] or row["rejection"] != Rejection.VOTE else (row["stage"], row["vote"])
    votes = tuple(
        CastVote(
            vote["stage"],
            vote["vote"],
            VoteValue(vote["value"]),
            vote["words"],
            (vote["stage"], vote["vote"]) == deciding,
        )
        for vote in cast
    )
    return ShownCandidate(
        mark=_mark(row, "".join(vote.value.value[0] for vote in votes)),
        text=row["text"],
        finish_reason=row["finish_reason"],
        policy_round=row["policy_round"],
        fingerprint=row["fingerprint"] or "",
        deciding_vote=row["vote"],
        votes=votes,
        calls=tuple(calls),
    )
