"""Tables of the ledger, and migration of ledgers of earlier versions.

`PRAGMA user_version` is the number of migrations applied to a file; it is 0 in a new file. A migration is one SQL
script and is never edited after a release; a change of the tables is a new script at the end of `MIGRATIONS`. Left out:
downgrades. A file that is newer than the program is refused.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path

from svd_loop.errors import LedgerError
from svd_loop.ledger.checks import ROUND_TABLES, seal_everything, verify_everything

_TABLES = """
-- The job itself: name, config (JSON), config_digest, created_at (for people; nothing is ordered by time).
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;

-- Texts and token ids, each stored once, compressed; see contents.py for the encoding.
CREATE TABLE dictionaries (id INTEGER PRIMARY KEY, label TEXT NOT NULL UNIQUE, data BLOB NOT NULL);
CREATE TABLE contents (
    id INTEGER PRIMARY KEY,
    digest BLOB NOT NULL UNIQUE,
    dictionary INTEGER REFERENCES dictionaries (id),
    data BLOB NOT NULL
);

CREATE TABLE prompts (
    id TEXT PRIMARY KEY,
    domain TEXT NOT NULL,
    source TEXT NOT NULL,
    text INTEGER NOT NULL REFERENCES contents (id)
);

-- One row a reply. `seq` grows with every write and is the only order there is.
CREATE TABLE speakers (
    id INTEGER PRIMARY KEY,
    policy_round INTEGER NOT NULL,
    fingerprint TEXT NOT NULL,
    role TEXT NOT NULL,
    template_version TEXT NOT NULL,
    UNIQUE (policy_round, fingerprint, role, template_version)
);
CREATE TABLE batches (id INTEGER PRIMARY KEY, written_at REAL NOT NULL);
CREATE TABLE answers (
    seq INTEGER PRIMARY KEY,
    key BLOB NOT NULL UNIQUE,
    batch INTEGER NOT NULL REFERENCES batches (id),
    speaker INTEGER NOT NULL REFERENCES speakers (id),
    purpose TEXT NOT NULL,
    round INTEGER NOT NULL,
    prompt_id TEXT NOT NULL,
    candidate INTEGER NOT NULL,
    stage TEXT NOT NULL,
    vote INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    finish_reason TEXT NOT NULL,
    prompt_tokens INTEGER NOT NULL,
    output_tokens INTEGER NOT NULL,
    text INTEGER NOT NULL REFERENCES contents (id),
    prompt_ids INTEGER NOT NULL REFERENCES contents (id),
    token_ids INTEGER NOT NULL REFERENCES contents (id)
);
CREATE INDEX answers_by_prompt ON answers (prompt_id, round, candidate);

-- A committed round and everything that belongs to it; written together or not at all.
CREATE TABLE rounds (
    round INTEGER PRIMARY KEY,
    policy_round INTEGER NOT NULL,
    fingerprint TEXT NOT NULL,
    prompts INTEGER NOT NULL,
    accepted_prompts INTEGER NOT NULL,
    rows INTEGER NOT NULL,
    split TEXT NOT NULL,
    samples INTEGER NOT NULL,
    metrics TEXT NOT NULL,
    seconds TEXT NOT NULL,
    funnel TEXT NOT NULL,
    usage TEXT NOT NULL,
    counts TEXT NOT NULL, -- rows this round has in each of its tables, to tell a whole round from a damaged one
    committed_at REAL NOT NULL
);
CREATE TABLE candidates (
    round INTEGER NOT NULL REFERENCES rounds (round),
    prompt_id TEXT NOT NULL,
    candidate INTEGER NOT NULL,
    finish_reason TEXT NOT NULL,
    policy_round INTEGER,
    fingerprint TEXT,
    selected INTEGER NOT NULL,
    text INTEGER NOT NULL REFERENCES contents (id),
    prompt_ids INTEGER NOT NULL REFERENCES contents (id),
    token_ids INTEGER NOT NULL REFERENCES contents (id),
    PRIMARY KEY (round, prompt_id, candidate)
) WITHOUT ROWID;
CREATE TABLE verdicts (
    round INTEGER NOT NULL REFERENCES rounds (round),
    prompt_id TEXT NOT NULL,
    candidate INTEGER NOT NULL,
    accepted INTEGER NOT NULL,
    rejection TEXT,
    stage TEXT,
    vote INTEGER,
    PRIMARY KEY (round, prompt_id, candidate)
) WITHOUT ROWID;
CREATE TABLE votes (
    round INTEGER NOT NULL REFERENCES rounds (round),
    prompt_id TEXT NOT NULL,
    candidate INTEGER NOT NULL,
    place INTEGER NOT NULL,
    stage TEXT NOT NULL,
    vote INTEGER NOT NULL,
    value TEXT NOT NULL,
    text INTEGER NOT NULL REFERENCES contents (id),
    PRIMARY KEY (round, prompt_id, candidate, place)
) WITHOUT ROWID;
CREATE TABLE accepted_rows (
    round INTEGER NOT NULL REFERENCES rounds (round),
    place INTEGER NOT NULL,
    origin TEXT NOT NULL,
    origin_round INTEGER NOT NULL,
    prompt_id TEXT NOT NULL,
    candidate INTEGER NOT NULL,
    domain TEXT NOT NULL,
    supervised_from INTEGER NOT NULL,
    input_ids INTEGER NOT NULL REFERENCES contents (id),
    PRIMARY KEY (round, place)
) WITHOUT ROWID;
CREATE TABLE updates (
    round INTEGER PRIMARY KEY REFERENCES rounds (round),
    policy_round INTEGER NOT NULL,
    fingerprint TEXT NOT NULL,
    path TEXT NOT NULL,
    rows INTEGER NOT NULL,
    steps INTEGER NOT NULL,
    metrics TEXT NOT NULL
);
CREATE TABLE evaluations (
    round INTEGER NOT NULL REFERENCES rounds (round),
    place INTEGER NOT NULL,
    problem_id TEXT NOT NULL,
    domain TEXT NOT NULL,
    correct INTEGER NOT NULL,
    PRIMARY KEY (round, place)
) WITHOUT ROWID;
CREATE TABLE estimates (
    round INTEGER NOT NULL REFERENCES rounds (round),
    place INTEGER NOT NULL,
    domain TEXT NOT NULL,
    metric TEXT NOT NULL,
    value REAL,
    low REAL,
    high REAL,
    PRIMARY KEY (round, place)
) WITHOUT ROWID;
CREATE TABLE stops (
    after_round INTEGER PRIMARY KEY REFERENCES rounds (round),
    reason TEXT NOT NULL,
    best_round INTEGER NOT NULL REFERENCES rounds (round),
    config_digest TEXT NOT NULL,
    test TEXT NOT NULL,
    notes TEXT NOT NULL
);

-- For analysts: an answer with its speaker. `content_text(text)` gives the words (LedgerReader.query).
CREATE VIEW replies AS
SELECT answers.seq, lower(hex(answers.key)) AS key, answers.purpose, answers.round, speakers.role,
       answers.prompt_id, answers.candidate, answers.stage, answers.vote, answers.attempt,
       speakers.policy_round, speakers.fingerprint, speakers.template_version,
       answers.finish_reason, answers.prompt_tokens, answers.output_tokens, answers.batch, batches.written_at,
       answers.text, answers.prompt_ids, answers.token_ids
FROM answers JOIN speakers ON speakers.id = answers.speaker JOIN batches ON batches.id = answers.batch;
"""

_SESSIONS = """
-- How long each process worked on the job, by the monotonic clock, up to its last write: job.hours limits the sum.
CREATE TABLE sessions (id INTEGER PRIMARY KEY, seconds REAL NOT NULL);
INSERT INTO sessions (seconds) SELECT coalesce(sum(value), 0.0) FROM rounds, json_each(rounds.seconds);
"""

_REVISIONS = """
-- Candidates that revise a rejected one of the same round and prompt, and which one.
CREATE TABLE revisions (
    round INTEGER NOT NULL REFERENCES rounds (round),
    prompt_id TEXT NOT NULL,
    candidate INTEGER NOT NULL,
    revised_from INTEGER NOT NULL,
    PRIMARY KEY (round, prompt_id, candidate)
) WITHOUT ROWID;
UPDATE rounds SET counts = json_set(counts, '$.revisions', 0);
"""

_UNDECIDED = """
-- Samples that scoring could decide neither way; they are not among the wrong ones.
ALTER TABLE evaluations ADD COLUMN undecided INTEGER NOT NULL DEFAULT 0;
"""

_SUBTRACTION = """
-- Version 0.1.0 could revise a rejected candidate; later versions cannot. `usage` was never filled.
DROP TABLE revisions;
UPDATE rounds SET counts = json_remove(counts, '$.revisions');
ALTER TABLE rounds DROP COLUMN usage;
"""

_FIGURES = """
-- Usage, votes, judge health and audit of a round (JSON, typed_rounds.py); NULL in a round that an older program wrote,
-- whose `metrics` hold them by name.
ALTER TABLE rounds ADD COLUMN figures TEXT;
"""

_DIGESTS = """
-- Digests of rows (checks.py); those of an older ledger are written when it is migrated.
ALTER TABLE answers ADD COLUMN digest BLOB;
ALTER TABLE prompts ADD COLUMN digest BLOB;
ALTER TABLE sessions ADD COLUMN digest BLOB;
ALTER TABLE rounds ADD COLUMN digests TEXT;
ALTER TABLE rounds ADD COLUMN digest TEXT;

-- A batch tells nothing but a time: an answer whose batch is lost is still one.
DROP VIEW replies;
CREATE VIEW replies AS
SELECT answers.seq, lower(hex(answers.key)) AS key, answers.purpose, answers.round, speakers.role,
       answers.prompt_id, answers.candidate, answers.stage, answers.vote, answers.attempt,
       speakers.policy_round, speakers.fingerprint, speakers.template_version,
       answers.finish_reason, answers.prompt_tokens, answers.output_tokens, answers.batch, batches.written_at,
       answers.text, answers.prompt_ids, answers.token_ids
FROM answers JOIN speakers ON speakers.id = answers.speaker LEFT JOIN batches ON batches.id = answers.batch;
"""

_SEGMENTS = """
-- A content that another one mostly repeats, against which it is compressed (contents.py). From this version on the
-- digests of a round are by segment of its prompts (checks.py).
ALTER TABLE contents ADD COLUMN base INTEGER;
"""

_JOINS = """
-- From this version on a text may be stored as two others with an empty line between them (contents.py).
"""

_JUDGE_ROWS = """
-- Judgements that became training rows: the stage, the inferred verdict (NULL for a reply that prepares one), and what
-- it is inferred from.
CREATE TABLE judge_rows (
    round INTEGER NOT NULL REFERENCES rounds (round),
    place INTEGER NOT NULL,
    stage TEXT NOT NULL,
    value TEXT,
    reason TEXT NOT NULL,
    prompt_id TEXT NOT NULL,
    candidate INTEGER NOT NULL,
    domain TEXT NOT NULL,
    supervised_from INTEGER NOT NULL,
    input_ids INTEGER NOT NULL REFERENCES contents (id),
    PRIMARY KEY (round, place)
) WITHOUT ROWID;
UPDATE rounds SET counts = json_set(counts, '$.judge_rows', 0);
"""

MIGRATIONS: tuple[str, ...] = (
    _TABLES,
    _SESSIONS,
    _REVISIONS,
    _UNDECIDED,
    _SUBTRACTION,
    _FIGURES,
    _DIGESTS,
    _SEGMENTS,
    _JOINS,
    _JUDGE_ROWS,
)
"""`MIGRATIONS[v]` migrates a file of version v to version v + 1."""

_SEALED = MIGRATIONS.index(_DIGESTS) + 1

TABLES = (
    "meta",
    "dictionaries",
    "contents",
    "prompts",
    "speakers",
    "batches",
    "answers",
    "rounds",
    *ROUND_TABLES,
    "stops",
    "sessions",
)
"""All tables; a table comes after those it refers to."""


def version_of(connection: sqlite3.Connection) -> int:
    """Return the number of migrations applied to the file; 0 if it is empty."""
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def refuse_newer(connection: sqlite3.Connection, migrations: Sequence[str] = MIGRATIONS) -> None:
    """Raise `LedgerError` if a newer program wrote the file."""
    found, known = version_of(connection), len(migrations)
    if found > known:
        raise LedgerError(
            f"the ledger has schema version {found}, this program knows up to {known}: "
            "a newer svd-loop wrote it; install that version (or a newer one) to continue"
        )


def migrate(
    connection: sqlite3.Connection, migrations: Sequence[str] = MIGRATIONS, *, path: Path = Path("ledger.sqlite")
) -> None:
    """Migrate the file to the newest version; all missing steps are one transaction.

    A file that has digests is verified completely before new digests are written.

    Args:
        connection: in autocommit mode, without an open transaction.
        migrations: the ordered scripts; a parameter so that tests can add more.
        path: the file, for messages.

    Raises:
        LedgerError: the file is newer than `migrations`, or its rows are not what was written.
        sqlite3.Error: a script failed; the file is unchanged.
    """
    refuse_newer(connection, migrations)
    start = version_of(connection)
    if start == len(migrations):
        return
    if start >= _SEALED:
        verify_everything(connection, path)
    script = "\n".join(migrations[start:])
    try:
        connection.executescript(f"BEGIN IMMEDIATE;\n{script}\nPRAGMA user_version = {len(migrations)};")
        if len(migrations) >= _SEALED:
            seal_everything(connection)
        connection.execute("COMMIT")
    except sqlite3.Error:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        if version_of(connection) == len(migrations):  # another process migrated it while this one waited for the lock
            return
        raise
