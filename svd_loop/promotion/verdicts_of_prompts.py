"""Verdicts on a job's prompts: a list of the prompts, and all candidates of a prompt with their votes.

Only committed rounds are read; a round in progress has no verdicts yet. The versions trained on an accepted candidate
are in `svd_loop.promotion.lineage`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from svd_loop.contracts import Rejection, RootPaths
from svd_loop.contracts.conversation import shown_text
from svd_loop.errors import DataError
from svd_loop.ledger import LedgerReader
from svd_loop.support.listing import listing

VOTES = """
SELECT stage, vote, value, content_text(text) AS words FROM votes
WHERE round = ? AND prompt_id = ? AND candidate = ? ORDER BY place
"""
_PROMPTS = """
SELECT v.round AS round, v.prompt_id AS id, coalesce(p.domain, '') AS domain, count(*) AS candidates,
       sum(v.accepted) AS accepted, coalesce(content_text(p.text), '') AS text
FROM verdicts AS v LEFT JOIN prompts AS p ON p.id = v.prompt_id
GROUP BY v.round, v.prompt_id ORDER BY v.round, v.prompt_id LIMIT ? OFFSET ?
"""
_CANDIDATES = """
SELECT c.round AS round, c.prompt_id AS prompt_id, c.candidate AS candidate, coalesce(p.domain, '') AS domain,
       coalesce(p.source, '') AS source, coalesce(content_text(p.text), '') AS text, content_text(c.text) AS solution,
       c.policy_round AS policy_round, c.fingerprint AS fingerprint, c.selected AS selected, v.accepted AS accepted,
       v.rejection AS rejection, v.stage AS stage, v.vote AS vote
FROM candidates AS c
JOIN verdicts AS v ON v.round = c.round AND v.prompt_id = c.prompt_id AND v.candidate = c.candidate
LEFT JOIN prompts AS p ON p.id = c.prompt_id
WHERE c.prompt_id = ? AND (? IS NULL OR c.candidate = ?) ORDER BY c.round, c.candidate
"""
_CANARIES = """
SELECT round, candidate AS canary, role, stage, vote, content_text(text) AS words FROM replies
WHERE prompt_id = ? AND purpose = 'canary' ORDER BY round, candidate, seq
"""
_EXCERPT = 60
"""Characters of a prompt shown in the list."""


@dataclass(frozen=True, slots=True)
class PlayedPrompt:
    """A prompt in a round: number of candidates, number of accepted ones, and the beginning of its text."""

    round: int
    id: str
    domain: str
    candidates: int
    accepted: int
    words: str


@dataclass(frozen=True, slots=True)
class JudgedCandidate:
    """One candidate and its verdict.

    Attributes:
        round: round that judged it.
        prompt_id: id of its prompt; `text`, `domain` and `source` (`file:line`) are the prompt's.
        candidate: its number among the prompt's candidates; `solution` is its text.
        written_by: name and fingerprint of the version that wrote and judged it.
        accepted: whether the verdict was yes.
        selected: whether it became a training row.
        decided: reason of the verdict, in words.
        votes: every vote in the order they were cast: `stage`, `vote`, `value`, `words`.
    """

    round: int
    prompt_id: str
    text: str
    domain: str
    source: str
    candidate: int
    solution: str
    written_by: Mapping[str, str]
    accepted: bool
    selected: bool
    decided: str
    votes: Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class AskedPrompt:
    """A prompt of a job, sampled or not.

    Attributes:
        id: its id; `text`, `domain` and `source` (`file:line`) are the prompt's.
        canaries: every reply of the judge about a planted wrong answer to it, in the order asked: `round`, `canary`
            (its number in the round), `role`, `stage`, `vote`, `words`.
    """

    id: str
    text: str
    domain: str
    source: str
    canaries: Sequence[Mapping[str, Any]]


def list_prompts(job: str, root: Path, *, offset: int = 0, limit: int = 50) -> tuple[int, list[PlayedPrompt]]:
    """Return the number of prompts a job's rounds played, and `limit` of them from `offset` on, oldest round first.

    Raises:
        LedgerError: there is no such job.
    """
    with LedgerReader.open_for_reading(RootPaths(root).job(job).folder) as reader:
        (counted,) = reader.query("SELECT count(*) AS n FROM (SELECT DISTINCT round, prompt_id FROM verdicts)")
        rows = list(reader.query(_PROMPTS, [limit, offset]))
        reader.verify_prompts([*(row["id"] for row in rows), ""])
    return counted["n"], [
        PlayedPrompt(
            row["round"],
            row["id"],
            row["domain"],
            row["candidates"],
            row["accepted"],
            " ".join(row["text"].split())[:_EXCERPT],
        )
        for row in rows
    ]


def judged_candidates(job: str, root: Path, example: str) -> list[JudgedCandidate]:
    """Return every judged candidate that `PROMPT_ID[:CANDIDATE]` matches, oldest round first, accepted or not.

    Without a candidate's number the result is empty for a prompt that no finished round has sampled.

    Raises:
        DataError: there is no such prompt or candidate; the message lists the existing ones.
        LedgerError: there is no such job.
    """
    name, candidate = parse_example(example)
    with LedgerReader.open_for_reading(RootPaths(root).job(job).folder) as reader:
        prompt_id = find_prompt(reader, job, name)
        reader.verify_prompts([prompt_id])
        rows = list(reader.query(_CANDIDATES, [prompt_id, candidate, candidate]))
        if not rows and candidate is not None:
            raise DataError(_no_candidate(reader, job, prompt_id))
        return [_judged(row, list(reader.query(VOTES, [row["round"], prompt_id, row["candidate"]]))) for row in rows]


def asked_prompt(job: str, root: Path, example: str) -> AskedPrompt:
    """Return the prompt that `PROMPT_ID[:CANDIDATE]` names, with what the judge said about canaries of it.

    Raises:
        DataError: there is no such prompt.
        LedgerError: there is no such job.
    """
    name, _ = parse_example(example)
    with LedgerReader.open_for_reading(RootPaths(root).job(job).folder) as reader:
        prompt_id = find_prompt(reader, job, name)
        query = "SELECT domain, source, content_text(text) AS text FROM prompts WHERE id = ?"
        row = next(reader.query(query, [prompt_id]), {"domain": "", "source": "", "text": ""})
        replies = list(reader.query(_CANARIES, [prompt_id]))
        return AskedPrompt(prompt_id, shown_text(row["text"]), row["domain"], row["source"], replies)


def parse_example(example: str) -> tuple[str, int | None]:
    """Parse `PROMPT_ID[:CANDIDATE]` into the prompt's id (or a prefix of it) and the candidate's number.

    Raises:
        DataError: the text has another form.
    """
    name, sign, number = example.partition(":")
    if not name or (sign and not (number.isascii() and number.isdigit() and len(number) < 10)):
        raise DataError(f"{example}: must have the form PROMPT_ID or PROMPT_ID:CANDIDATE")
    return name, int(number) if sign else None


def find_prompt(reader: LedgerReader, job: str, name: str) -> str:
    """Return the id equal to `name`, or the only id that begins with it.

    Raises:
        DataError: there is none, or several; some are listed.
    """
    query = """SELECT DISTINCT id FROM (SELECT id FROM prompts UNION SELECT prompt_id FROM candidates)
               WHERE substr(id, 1, length(?)) = ? ORDER BY id LIMIT 6"""
    found = [row["id"] for row in reader.query(query, [name, name])]
    if name in found:
        return name
    if not found:
        every = "SELECT DISTINCT id FROM (SELECT id FROM prompts UNION SELECT prompt_id FROM candidates) ORDER BY id"
        existing = [row["id"] for row in reader.query(every)]
        some = f"it has {listing(name, existing, most=6)}" if existing else "it has no prompts yet"
        raise DataError(f"{job}: has no prompt {name!r}; {some}; svd-loop samples {job} lists them")
    if len(found) > 1:
        raise DataError(f"{job}: several prompts begin with {name!r}: {', '.join(found)}")
    return str(found[0])


def _judged(row: Mapping[str, Any], votes: Sequence[Mapping[str, Any]]) -> JudgedCandidate:
    writer = row["policy_round"]
    return JudgedCandidate(
        row["round"],
        row["prompt_id"],
        shown_text(row["text"]),
        row["domain"],
        row["source"],
        row["candidate"],
        row["solution"],
        {"name": "" if writer is None else f"round-{writer:03d}", "fingerprint": row["fingerprint"] or ""},
        bool(row["accepted"]),
        bool(row["selected"]),
        _decided(row, votes),
        votes,
    )


def _decided(row: Mapping[str, Any], votes: Sequence[Mapping[str, Any]]) -> str:
    if row["accepted"]:
        chosen = "became a training row" if row["selected"] else "was not selected among the accepted candidates"
        return f"accepted: {f'all {len(votes)} votes are yes' if votes else 'without votes'}; it {chosen}"
    if row["rejection"] != Rejection.VOTE or row["stage"] is None:
        return f"rejected without a deciding vote: {row['rejection']}"
    deciding = next((vote for vote in votes if (vote["stage"], vote["vote"]) == (row["stage"], row["vote"])), None)
    value = "" if deciding is None else f" is {deciding['value']}"
    return f"rejected: vote {row['vote']} of stage {row['stage']}{value}"


def _no_candidate(reader: LedgerReader, job: str, prompt_id: str) -> str:
    query = "SELECT DISTINCT candidate FROM candidates WHERE prompt_id = ? ORDER BY candidate"
    existing = [str(row["candidate"]) for row in reader.query(query, [prompt_id])]
    if not existing:
        return f"{job}: {prompt_id} was not sampled in any finished round; svd-loop explain {job} lists those"
    return f"{job}: {prompt_id} has no such candidate; it has {', '.join(existing)}"
