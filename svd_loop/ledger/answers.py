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
    speakers: dict[tuple[int, str, str, str], int] = {}
    contents = _stored(connection, store, items)
    rows = []
    for (key, call, reply), of in zip(items, contents, strict=True):
        said_by = (reply.policy.round, reply.policy.fingerprint, call.id.role, call.template_version)
        speaker = speakers.get(said_by) or speakers.setdefault(said_by, _speaker(connection, said_by))
        at = call.id
        spot = (at.candidate, at.stage, at.vote, at.attempt)
        counts = (reply.finish_reason.value, reply.prompt_tokens, reply.output_tokens)
        known = key_bytes(key)
        digest = answer_digest(
            (known, *said_by, at.purpose, at.round, *spot, *counts, at.prompt_id, *(c.digest for c in of))
        )
        name = (at.purpose, at.round, at.prompt_id)
        rows.append((known, batch, speaker, *name, *spot, *counts, *(c.id for c in of), digest))
    connection.executemany(_INSERT, rows)


def _stored(
    connection: sqlite3.Connection, store: ContentStore, items: Sequence[Answered]
) -> list[tuple[Stored, Stored, Stored]]:
    """Store text, prompt ids and token ids of each reply; returns where they are."""
    texts, prompts, outputs = dict[bytes, Stored](), dict[int, Stored](), dict[bytes, Stored]()
    encoded = [(encode_text(reply.text), encode_ids(reply.token_ids)) for _, _, reply in items]
    # Solutions first: what judges read about them is compressed against them.
    for role in sorted({call.id.role for _, call, _ in items}, key=lambda role: (role != Role.SOLVER, role)):
        own = [(place, call.id, reply) for place, (_, call, reply) in enumerate(items) if call.id.role == role]
        texts |= store.put(role, (encoded[place][0] for place, _, _ in own))
        outputs |= store.put(f"{role} ids", (encoded[place][1] for place, _, _ in own))
        if role == Role.SOLVER:
            for place, at, _ in own:
                ids = encoded[place][1]
                store.remember(_solution(at), Base(outputs[ids].id, ids))
        prompts |= _stored_prompts(connection, store, role, [(at, reply.prompt_ids) for _, at, reply in own])
    return [
        (texts[text], prompts[id(reply.prompt_ids)], outputs[ids])
        for (text, ids), (_, _, reply) in zip(encoded, items, strict=True)
    ]


def _stored_prompts(
    connection: sqlite3.Connection, store: ContentStore, role: str, prompts: Sequence[tuple[CallId, tuple[int, ...]]]
) -> dict[int, Stored]:
    """Store prompts; returns where they are by the identity of their ids, which votes share."""
    found = {id(ids): known for _, ids in prompts if (known := store.known(ids))}
    new = {id(ids): (at, ids, encode_ids(ids)) for at, ids in prompts if id(ids) not in found}
    bases: dict[bytes, Base] = {}
    for at, _, encoded in new.values():
        if role != Role.SOLVER and (base := _base(connection, store, at, encoded)):
            bases[encoded] = base
    stored = store.put(f"{role} prompt ids", (encoded for *_, encoded in new.values()), bases)
    for place, (_, ids, encoded) in new.items():
        found[place] = stored[encoded]
        store.note(ids, stored[encoded])
    return found


def _base(connection: sqlite3.Connection, store: ContentStore, at: CallId, prompt: bytes) -> Base | None:
    """The ids of the solution that a judge's prompt is about, if they are stored."""
    if at.candidate == NO_CANDIDATE or len(prompt) < _LEAST_BASED:
        return None
    if (base := store.recall(_solution(at))) is not None:
        return base
    row = connection.execute(_SOLUTION, (at.prompt_id, at.round, at.candidate, at.purpose)).fetchone()
    if row is not None:
        store.remember(_solution(at), Base(row[0], store.load(row)[row[0]].data))
    return store.recall(_solution(at))


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
        found.update(_replies(connection.execute(_SELECT + where, part).fetchall(), store))
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


def _speaker(connection: sqlite3.Connection, said_by: tuple[int, str, str, str]) -> int:
    columns = "policy_round, fingerprint, role, template_version"
    connection.execute(f"INSERT INTO speakers ({columns}) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING", said_by)
    where = "policy_round = ? AND fingerprint = ? AND role = ? AND template_version = ?"
    return int(connection.execute(f"SELECT id FROM speakers WHERE {where}", said_by).fetchone()[0])
