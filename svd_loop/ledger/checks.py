"""Digests of rows: every row read is verified, and an error gives the row, the round or the table that changed.

SQLite pages have no checksums, so without digests a flipped bit or an edited value would change a job unnoticed.

- An answer, a prompt and a session have a digest in their row, verified when the row is used.
- A round has digests of its rows in each of its tables (`rounds.digests`) and one of its own row (`rounds.digest`),
  which covers the digest of the round before. The chain is verified whenever the history is read, a table of a round
  when it is read. Tables that grow with the prompts have a digest for every `SEGMENT` of them in the order of their
  ids (`starts` are the first ids), so that reading one prompt verifies no others.
- `meta` has a digest of its other rows, the last round's digest and the stops, so that removed rows at the end are
  detected too.

Columns that refer to `contents` enter with the content's digest, never with its id. Not covered: time stamps of
batches, and the order in which answers were written. A later migration that changes tables must end with
`seal_everything`, because it changes the digests.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from svd_loop.errors import LedgerError

ROUND_TABLES = (
    "candidates",
    "verdicts",
    "votes",
    "accepted_rows",
    "judge_rows",
    "updates",
    "evaluations",
    "estimates",
)
"""Tables whose rows belong to one row of `rounds`."""

ANSWERS = "answers"
"""In addition to `ROUND_TABLES`: the answers to the calls of a round's episode."""

SEGMENT = 256
"""Prompts under one digest."""
SEGMENTED = ("candidates", "verdicts", "votes", ANSWERS)
"""Tables with a digest for each segment."""
_STARTS = "starts"

_CONTENTS = {"text", "prompt_ids", "token_ids", "input_ids"}
_ANSWERS = """
SELECT key, digest FROM answers
WHERE prompt_id IN (SELECT DISTINCT prompt_id FROM candidates WHERE round = ?1 {within}) AND round = ?1
      AND purpose = 'train' ORDER BY key
"""
_ANSWER_ROWS = """
SELECT seq, answers.digest, key, policy_round, fingerprint, role, template_version, purpose, round, candidate, stage,
       vote, attempt, finish_reason, prompt_tokens, output_tokens, prompt_id, t.digest, p.digest, o.digest
FROM answers LEFT JOIN speakers ON speakers.id = speaker LEFT JOIN contents AS t ON t.id = answers.text
     LEFT JOIN contents AS p ON p.id = answers.prompt_ids LEFT JOIN contents AS o ON o.id = answers.token_ids
"""
_IDS = "SELECT DISTINCT prompt_id FROM candidates WHERE round = ? ORDER BY prompt_id"
_PROMPT_ROWS = """
SELECT prompts.id, prompts.digest, domain, source, contents.digest
FROM prompts LEFT JOIN contents ON contents.id = prompts.text
"""


def answer_digest(row: Sequence[Any]) -> bytes:
    """Return the digest of an answer: its values in the order of `_ANSWER_ROWS`, key first, content digests last."""
    key, *values, text, prompt_ids, token_ids = row
    words = "\x1f".join(map(str, values)).encode("utf-8", "surrogatepass")
    return hashlib.sha256(b"%b%b%b%b%b" % (key, text, prompt_ids, token_ids, words)).digest()[:16]


def row_digest(*values: object) -> bytes:
    """Return the digest of a row's values as SQLite returns them."""
    return hashlib.sha256(repr(values).encode()).digest()[:16]


def damaged(path: Path, finding: str) -> LedgerError:
    """Return the error for a damaged ledger, with the commands that recover its rows."""
    return LedgerError(
        f"{path}: the ledger is damaged ({finding}). Nothing was changed. "
        f"`python -m svd_loop.ledger salvage {path.parent}` copies the readable rows to a new ledger and keeps the "
        "damaged file in the same folder; the job then continues from there and generates only what was lost. "
        f"`python -m svd_loop.ledger export {path.parent} DIRECTORY` writes the readable rows to Parquet"
    )


def table_digest(
    connection: sqlite3.Connection, table: str, round: int, start: str = "", end: str | None = None
) -> str:
    """Return one digest of a round's rows of one table by their keys, of prompts from id `start` up to `end`."""
    within = "AND prompt_id >= ?2" if start else ""
    within += " AND prompt_id < ?3" if end is not None else ""
    if table == ANSWERS:
        query = _ANSWERS.format(within=within)
    else:
        info = connection.execute(f"PRAGMA table_info({table})").fetchall()
        columns = (
            f"(SELECT digest FROM contents WHERE contents.id = {table}.{name})" if name in _CONTENTS else name
            for _, name, *_ in info
        )
        keys = ", ".join(name for _, name, *_, key in info if key)
        query = f"SELECT {', '.join(columns)} FROM {table} WHERE round = ?1 {within} ORDER BY {keys}"
    digest = hashlib.sha256()
    for row in connection.execute(query, (round, start, end)[: 3 if end is not None else 2 if start else 1]):
        digest.update(repr(row).encode())
    return digest.hexdigest()[:32]


def seal_round(connection: sqlite3.Connection, round: int) -> None:
    """Write the digests of the newest round, all of whose rows must be written."""
    ids = [id for (id,) in connection.execute(_IDS, (round,))]
    starts = ["", *ids[SEGMENT::SEGMENT]]
    digests: dict[str, Any] = {_STARTS: starts}
    for table in (*ROUND_TABLES, ANSWERS):
        parts = _ends(starts if table in SEGMENTED else [""])
        digests[table] = [table_digest(connection, table, round, *part) for part in parts]
    connection.execute("UPDATE rounds SET digests = ? WHERE round = ?", (json.dumps(digests), round))
    before = _digests(connection).get(round - 1)
    (row,) = _round_rows(connection, round)
    connection.execute("UPDATE rounds SET digest = ? WHERE round = ?", (_chained(before, row), round))


def seal_meta(connection: sqlite3.Connection) -> None:
    """Write the digest of `meta`, the stops and the last round."""
    connection.execute("INSERT OR REPLACE INTO meta VALUES ('digest', ?)", (_meta_digest(connection),))


def seal_everything(connection: sqlite3.Connection) -> None:
    """Write the digests of a ledger that has none; its rows are assumed to be correct."""
    answers = [(answer_digest(row), seq) for seq, _, *row in connection.execute(_ANSWER_ROWS) if None not in row]
    connection.executemany("UPDATE answers SET digest = ? WHERE seq = ?", answers)
    prompts = [(row_digest(id, *row), id) for id, _, *row in connection.execute(_PROMPT_ROWS)]
    connection.executemany("UPDATE prompts SET digest = ? WHERE id = ?", prompts)
    seal_sessions(connection)
    for (round,) in connection.execute("SELECT round FROM rounds ORDER BY round").fetchall():
        seal_round(connection, round)
    if connection.execute("SELECT 1 FROM meta").fetchone():
        seal_meta(connection)


def seal_sessions(connection: sqlite3.Connection) -> None:
    """Write the digests of sessions that have none."""
    rows = connection.execute("SELECT id, seconds FROM sessions WHERE digest IS NULL").fetchall()
    connection.executemany("UPDATE sessions SET digest = ? WHERE id = ?", [(row_digest(time), id) for id, time in rows])


def verify_meta(connection: sqlite3.Connection, path: Path) -> None:
    """Raise `LedgerError` unless `meta`, the stops and the number of rounds are what was written last."""
    row = connection.execute("SELECT value FROM meta WHERE name = 'digest'").fetchone()
    if row is None and not connection.execute("SELECT 1 FROM meta").fetchone():
        return
    if row is None or row[0] != _meta_digest(connection):
        raise damaged(path, "table meta, table stops or the last row of table rounds is not what was written")


def verify_history(connection: sqlite3.Connection, path: Path) -> None:
    """Raise `LedgerError` unless every row of `rounds` is what was written after the one before it."""
    digests, before = _digests(connection), None
    for place, row in enumerate(_round_rows(connection)):
        if row[0] != place:
            raise damaged(path, f"table rounds has no round {place}")
        if digests[place] != _chained(before, row):
            raise damaged(path, f"table rounds: the row of round {place} does not match its digest")
        before = digests[place]


def verify_tables(connection: sqlite3.Connection, path: Path, round: int, tables: Iterable[str]) -> None:
    """Raise `LedgerError` unless a round's rows in `tables` are what was committed."""
    (written,) = connection.execute("SELECT digests FROM rounds WHERE round = ?", (round,)).fetchone()
    for table, (parts, digests) in _written(written, tables).items():
        for part, digest in zip(parts, digests, strict=True):
            if table_digest(connection, table, round, *part) != digest:
                raise damaged(path, f"table {table}: the rows of round {round} are not those that were committed")


def verify_segment(connection: sqlite3.Connection, path: Path, round: int, prompt_id: str) -> tuple[str, str | None]:
    """Raise `LedgerError` unless candidates, verdicts and votes of a prompt and its segment are what was committed.

    Returns:
        The first prompt of the segment and the first of the next one.
    """
    (written,) = connection.execute("SELECT digests FROM rounds WHERE round = ?", (round,)).fetchone()
    segment: tuple[str, str | None] = ("", None)
    for table, (parts, digests) in _written(written, [table for table in SEGMENTED if table != ANSWERS]).items():
        place = bisect_right([start for start, _ in parts], prompt_id) - 1
        segment = parts[place]
        if table_digest(connection, table, round, *segment) != digests[place]:
            raise damaged(path, f"table {table}: the rows of round {round} are not those that were committed")
    return segment


def verify_prompts(connection: sqlite3.Connection, path: Path) -> None:
    """Raise `LedgerError` unless every prompt is what was recorded, and every prompt with candidates is there."""
    if bad := damaged_prompts(connection):
        raise damaged(path, f"table prompts: the row of prompt {bad[0]} does not match its digest")
    lost = "SELECT prompt_id FROM candidates WHERE prompt_id NOT IN (SELECT id FROM prompts) LIMIT 1"
    if connection.execute("SELECT 1 FROM prompts").fetchone() and (row := connection.execute(lost).fetchone()):
        raise damaged(path, f"table prompts: prompt {row[0]} is missing")


def verify_everything(connection: sqlite3.Connection, path: Path) -> None:
    """Raise `LedgerError` unless everything with a digest is what was written, also in older schema versions."""
    verify_meta(connection, path)
    verify_history(connection, path)
    for round, written in connection.execute("SELECT round, digests FROM rounds").fetchall():
        verify_tables(connection, path, round, [name for name in json.loads(written) if name != _STARTS])
    verify_prompts(connection, path)
    for table, bad in (("answers", damaged_answers(connection)), ("sessions", damaged_sessions(connection))):
        if bad:
            raise damaged(path, f"table {table}: row {bad[0]} does not match its digest")


def damaged_prompts(connection: sqlite3.Connection) -> list[str]:
    """Return the ids of prompts that are not what was recorded."""
    rows = connection.execute(_PROMPT_ROWS)
    return [id for id, digest, *row in rows if digest != row_digest(id, *row)]


def damaged_answers(connection: sqlite3.Connection, round: int | None = None) -> list[int]:
    """Return `seq` of all answers (of a round) that are not what was recorded; contents are compared by digest."""
    within = "JOIN (SELECT DISTINCT prompt_id AS asked FROM candidates WHERE round = ?1) ON asked = prompt_id"
    where = "" if round is None else f"{within} WHERE round = ?1"
    rows = connection.execute(_ANSWER_ROWS + where, () if round is None else (round,))
    return [seq for seq, digest, *row in rows if None in row or digest != _digest_or_none(row)]


def damaged_sessions(connection: sqlite3.Connection) -> list[int]:
    """Return the ids of sessions whose seconds are not those that were written."""
    rows = connection.execute("SELECT id, seconds, digest FROM sessions")
    return [id for id, seconds, digest in rows if digest != row_digest(seconds)]


def sound_rounds(connection: sqlite3.Connection, path: Path) -> int:
    """Return the number of rounds from 0 on that are what was committed, in every table except `answers`."""
    rows = _digests(connection)
    number, before = 0, None
    while number in rows:
        (row,) = _round_rows(connection, number)
        if rows[number] != _chained(before, row):
            break
        try:
            verify_tables(connection, path, number, ROUND_TABLES)
        except LedgerError:
            break
        before, number = rows[number], number + 1
    return number


def _written(text: str, tables: Iterable[str]) -> dict[str, tuple[list[tuple[str, str | None]], list[str]]]:
    """The segments of tables and their digests; before schema version 8 a table had one."""
    data = json.loads(text)
    found: dict[str, tuple[list[tuple[str, str | None]], list[str]]] = {}
    for table in tables:
        starts: list[str] = data[_STARTS] if table in SEGMENTED and _STARTS in data else [""]
        digests: list[str] = [data[table]] if isinstance(data[table], str) else data[table]
        found[table] = _ends(starts), digests
    return found


def _ends(starts: Sequence[str]) -> list[tuple[str, str | None]]:
    """Each segment's first prompt, and the first one behind it."""
    return list(zip(starts, [*starts[1:], None], strict=True))


def _digests(connection: sqlite3.Connection) -> dict[int, str]:
    return dict(connection.execute("SELECT round, digest FROM rounds").fetchall())


def _digest_or_none(row: Sequence[Any]) -> bytes | None:
    try:
        return answer_digest(row)
    except TypeError:  # a column has a value of another type
        return None


def _round_rows(connection: sqlite3.Connection, round: int | None = None) -> list[tuple[object, ...]]:
    """Return rows of `rounds` without their own digest, oldest first."""
    names = [name for _, name, *_ in connection.execute("PRAGMA table_info(rounds)") if name != "digest"]
    where = "" if round is None else f"WHERE round = {round:d}"
    return connection.execute(f"SELECT {', '.join(names)} FROM rounds {where} ORDER BY round").fetchall()


def _chained(before: str | None, row: tuple[object, ...]) -> str:
    return row_digest(before, *row).hex()


def _meta_digest(connection: sqlite3.Connection) -> str:
    meta = connection.execute("SELECT * FROM meta WHERE name != 'digest' ORDER BY name").fetchall()
    stops = connection.execute("SELECT * FROM stops ORDER BY after_round").fetchall()
    last = connection.execute("SELECT round, digest FROM rounds ORDER BY round DESC LIMIT 1").fetchone()
    return row_digest(meta, stops, last).hex()
