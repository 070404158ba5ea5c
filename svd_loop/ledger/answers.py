"""Write and read replies in the `answers` table, by the policy's content key."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from svd_loop.contracts import NO_CANDIDATE, AgentCall, CallId, FinishReason, PolicyVersion, Reply, Role
from svd_loop.errors import LedgerError
from svd_loop.ledger.checks import answer_digest, damaged
from svd_loop.ledger.contents import Base, ContentStore, Stored, decode_ids, decode_text, encode_ids, encode_text

Answered = tuple[str, AgentCall, Reply]
"""A content key, the call it belongs to, and the reply."""

Speaker = tuple[int, str, str, str]
"""Round and fingerprint of the policy, role, and version of the template."""

_INSERT = f"""
INSERT INTO answers (key, batch, speaker, purpose, round, prompt_id, candidate, stage, vote, attempt,
                     finish_reason, prompt_tokens, output_tokens, text, prompt_ids, token_ids, digest)
VALUES ({", ".join("?" * 17)}) ON CONFLICT (key) DO NOTHING
"""
_SELECT = """
SELECT key, purpose, round, role, prompt_id, candidate, stage, vote, attempt, finish_reason, policy_round, fingerprint,
       template_version, prompt_tokens, output_tokens, text, prompt_ids, token_ids, digest
FROM answers LEFT JOIN speakers ON speakers.id = answers.speaker
"""
_SOLUTION = """
SELECT token_ids FROM answers JOIN speakers ON speakers.id = speaker
WHERE prompt_id = ? AND round = ? AND candidate = ? AND purpose = ? AND role = 'solver' ORDER BY seq DESC LIMIT 1
"""
_SPEAKER = "policy_round, fingerprint, role, template_version"
_KEYS_PER_QUERY = 500
_LEAST_BASED = 256
"""Bytes of a prompt's ids below which looking for its base costs more than it saves."""


def key_bytes(key: str) -> bytes:
    """Return the stored form of a content key, half its size.

    Raises:
        LedgerError: the key is not lower-case hexadecimal, so reading it would give another key.
    """
    try:
        data = bytes.fromhex(key)
    except ValueError:
        data = b""
    if not data or data.hex() != key:
        raise LedgerError(f"a policy's key must be a lower-case hex digest, found {key!r}")
    return data


def insert(connection: sqlite3.Connection, store: ContentStore, items: Sequence[Answered]) -> None:
    """Write one batch within the caller's transaction. A known key keeps its first answer."""
    batch = connection.execute("INSERT INTO batches (written_at) VALUES (?)", (time.time(),)).lastrowid
    speakers: dict[Speaker, int] = _speakers(connection, {reply.policy.round for *_, reply in items})
    contents = _stored(connection, store, items)
    rows = []
    for (key, call, reply), of in zip(items, contents, strict=True):
        said_by = (reply.policy.round, reply.policy.fingerprint, call.id.role, call.template_version)
        speaker = speakers.get(said_by) or speakers.setdefault(said_by, _speaker(connection, said_by))
        at = call.id
        spot = (at.candidate, at.stage, at.vote, at.attempt)
        counts = (reply.finish_reason, reply.prompt_tokens, reply.output_tokens)
        known = key_bytes(key)
        text, prompt, output = of
        contained = (text.digest, prompt.digest, output.digest)
        digest = answer_digest((known, *said_by, at.purpose, at.round, *spot, *counts, at.prompt_id, *contained))
        name = (at.purpose, at.round, at.prompt_id)
        rows.append((known, batch, speaker, *name, *spot, *counts, text.id, prompt.id, output.id, digest))
    connection.executemany(_INSERT, rows)


def _stored(
    connection: sqlite3.Connection, store: ContentStore, items: Sequence[Answered]
) -> list[tuple[Stored, Stored, Stored]]:
    """Store text, prompt ids and token ids of each reply; returns where they are."""
    found: list[tuple[Stored, Stored, Stored] | None] = [None] * len(items)
    solved = [place for place, (_, call, _) in enumerate(items) if call.id.role == Role.SOLVER]
    judged = [place for place, (_, call, _) in enumerate(items) if call.id.role != Role.SOLVER]
    # Solutions first: what judges read about them is compressed against them.
    for places in (solved, judged):
        if places:
            stored = _stored_replies(connection, store, [items[place] for place in places])
            for place, one in zip(places, stored, strict=True):
                found[place] = one
    return [one for one in found if one is not None]


def _stored_replies(
    connection: sqlite3.Connection, store: ContentStore, items: Sequence[Answered]
) -> list[tuple[Stored, Stored, Stored]]:
    groups: dict[str, list[bytes]] = {}
    bases: dict[bytes, Base] = {}
    encoded: list[tuple[bytes, bytes]] = []
    prompts: dict[int, bytes | Stored] = {}  # by the identity of their ids, which votes share
    for _, call, reply in items:
        at, role, ids = call.id, call.id.role, reply.prompt_ids
        encoded.append((encode_text(reply.text), encode_ids(reply.token_ids)))
        groups.setdefault(role, []).append(encoded[-1][0])
        groups.setdefault(f"{role} ids", []).append(encoded[-1][1])
        if id(ids) in prompts:
            continue
        prompts[id(ids)] = known = store.known(ids) or encode_ids(ids)
        if isinstance(known, bytes):
            groups.setdefault(f"{role} prompt ids", []).append(known)
            if role != Role.SOLVER and (base := _base(connection, store, at, known)):
                bases[known] = base
    stored = store.put_all(groups, bases)
    where: list[tuple[Stored, Stored, Stored]] = []
    for (_, call, reply), (text, output) in zip(items, encoded, strict=True):
        prompt = prompts[id(reply.prompt_ids)]
        if isinstance(prompt, bytes):
            prompt = prompts[id(reply.prompt_ids)] = stored[prompt]
            store.note(reply.prompt_ids, prompt)
        if call.id.role == Role.SOLVER:
            store.remember(_solution(call.id), Base(stored[output].id, output))
        where.append((stored[text], prompt, stored[output]))
    return where


def _base(connection: sqlite3.Connection, store: ContentStore, at: CallId, prompt: bytes) -> Base | None:
    """The ids of the solution that a judge's prompt is about, if they are stored and it is long enough to hold them."""
    if at.candidate == NO_CANDIDATE or len(prompt) < _LEAST_BASED:
        return None
    if (base := store.recall(_solution(at))) is None:
        row = connection.execute(_SOLUTION, (at.prompt_id, at.round, at.candidate, at.purpose)).fetchone()
        if row is not None:
            store.remember(_solution(at), Base(row[0], store.load(row)[row[0]].data))
            base = store.recall(_solution(at))
    return base if base is not None and len(base.data) < len(prompt) else None


def _solution(at: CallId) -> tuple[str, int, str, int]:
    return at.purpose, at.round, at.prompt_id, at.candidate


def select(connection: sqlite3.Connection, store: ContentStore, keys: Iterable[str]) -> dict[str, Reply]:
    """The stored replies among `keys`, each verified.

    Raises:
        LedgerError: one is not what was recorded.
    """
    wanted = [key_bytes(key) for key in keys]
    found: dict[str, Reply] = {}
    for start in range(0, len(wanted), _KEYS_PER_QUERY):
        part = wanted[start : start + _KEYS_PER_QUERY]
        where = f"WHERE key IN ({','.join('?' * len(part))})"
        if rows := connection.execute(_SELECT + where, part).fetchall():
            found.update(_replies(rows, store))
    return found


def _replies(rows: Sequence[tuple[Any, ...]], store: ContentStore) -> Iterator[tuple[str, Reply]]:
    contents = store.load(id for row in rows for id in row[-4:-1])
    ids = {id: decode_ids(contents[id].data) for id in {id for row in rows for id in row[-3:-1]}}
    for row in rows:
        (
            key,
            purpose,
            round,
            role,
            prompt_id,
            candidate,
            stage,
            vote,
            attempt,
            finish_reason,
            policy_round,
            fingerprint,
            template,
            prompt_tokens,
            output_tokens,
            text,
            prompt_ids,
            token_ids,
            digest,
        ) = row
        names = (policy_round, fingerprint, role, template, purpose, round, candidate, stage, vote, attempt)
        counts = (finish_reason, prompt_tokens, output_tokens, prompt_id)
        words, prompt, output = contents[text], contents[prompt_ids], contents[token_ids]
        if answer_digest((key, *names, *counts, words.digest, prompt.digest, output.digest)) != digest:
            raise damaged(store.path, f"table answers: the row with key {key.hex()} does not match its digest")
        call = CallId(purpose, round, role, prompt_id, candidate, stage, vote, attempt)
        yield (
            key.hex(),
            Reply(
                call=call,
                text=decode_text(words.data),
                finish_reason=FinishReason(finish_reason),
                policy=PolicyVersion(policy_round, fingerprint),
                prompt_ids=ids[prompt_ids],
                token_ids=ids[token_ids],
                prompt_tokens=prompt_tokens,
                output_tokens=output_tokens,
            ),
        )


def _speakers(connection: sqlite3.Connection, rounds: Iterable[int]) -> dict[Speaker, int]:
    """The speakers of some rounds that are stored, and their ids."""
    query = f"SELECT id, {_SPEAKER} FROM speakers WHERE policy_round = ?"
    found = (row for round in rounds for row in connection.execute(query, (round,)))
    return {(round, fingerprint, role, template): id for id, round, fingerprint, role, template in found}


def _speaker(connection: sqlite3.Connection, said_by: Speaker) -> int:
    """Store a speaker that is not stored; returns its id."""
    id = connection.execute(f"INSERT INTO speakers ({_SPEAKER}) VALUES (?, ?, ?, ?)", said_by).lastrowid
    if id is None:
        raise LedgerError(f"the speaker {said_by} was not stored")
    return id
