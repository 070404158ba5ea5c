from __future__ import annotations

import json
import lzma
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from svd_loop.contracts import JobPaths
from svd_loop.errors import LedgerError
from svd_loop.ledger import Ledger, LedgerReader, content_digest, schema
from svd_loop.ledger.rounds import count_rows
from tests.svd_loop.ledger import samples

USAGE = "ALTER TABLE rounds ADD COLUMN usage TEXT NOT NULL DEFAULT '{}'"
"""A column that versions 1 to 4 had."""
SECOND = "ALTER TABLE rounds ADD COLUMN remark TEXT NOT NULL DEFAULT ''; UPDATE rounds SET remark = 'from before';"

WITHOUT_UNDECIDED = (
    "DROP TABLE judge_rows; ALTER TABLE evaluations DROP COLUMN undecided; ALTER TABLE rounds DROP COLUMN figures;"
) + "".join(
    f"ALTER TABLE {table} DROP COLUMN {column};"
    for table, column in (
        ("answers", "digest"),
        ("prompts", "digest"),
        ("sessions", "digest"),
        ("rounds", "digest"),
        ("rounds", "digests"),
        ("contents", "base"),
    )
)


def test_a_new_file_gets_the_newest_schema() -> None:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    schema.migrate(connection)
    schema.migrate(connection)  # nothing left to do
    assert schema.version_of(connection) == len(schema.MIGRATIONS)
    names = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    assert names == set(schema.TABLES)


def test_migrations_run_in_order_from_where_the_file_stands() -> None:
    steps = (
        "CREATE TABLE notes (text TEXT);",
        "INSERT INTO notes VALUES ('second');",
        "ALTER TABLE notes ADD COLUMN round INTEGER DEFAULT 3;",
    )
    connection = sqlite3.connect(":memory:", isolation_level=None)
    schema.migrate(connection, steps[:1])
    connection.execute("INSERT INTO notes VALUES ('first')")
    schema.migrate(connection, steps)
    assert schema.version_of(connection) == 3
    assert connection.execute("SELECT * FROM notes").fetchall() == [("first", 3), ("second", 3)]


def test_a_failing_migration_leaves_the_file_as_it_was() -> None:
    steps = ("CREATE TABLE notes (text TEXT);", "DROP TABLE notes; CREATE TABLE nonsense;")
    connection = sqlite3.connect(":memory:", isolation_level=None)
    schema.migrate(connection, steps[:1])
    with pytest.raises(sqlite3.Error):
        schema.migrate(connection, steps)
    assert schema.version_of(connection) == 1
    assert connection.execute("SELECT * FROM notes").fetchall() == []


def install_a_newer_program(monkeypatch: pytest.MonkeyPatch) -> None:
    """One whose schema has a further migration."""
    newer = (*schema.MIGRATIONS, SECOND)
    monkeypatch.setattr("svd_loop.ledger.database.MIGRATIONS", newer)
    monkeypatch.setattr(
        "svd_loop.ledger.database.migrate", lambda connection, path: schema.migrate(connection, newer, path=path)
    )
    monkeypatch.setattr(
        "svd_loop.ledger.database.refuse_newer", lambda connection: schema.refuse_newer(connection, newer)
    )


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE votes SET value = 'no' WHERE round = 1",
        "UPDATE meta SET value = 'another' WHERE name = 'name'",
        "UPDATE sessions SET seconds = 1e6",
        "UPDATE rounds SET prompts = 7 WHERE round = 0",
    ],
)
@pytest.mark.parametrize("for_writing", [True, False])
def test_a_changed_older_ledger_is_not_sealed_again(
    sql: str, for_writing: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Ledger.open(tmp_path, samples.config()) as ledger:
        samples.commit_rounds(ledger, 1)
    path = JobPaths(tmp_path).ledger
    with closing(sqlite3.connect(path)) as old:
        old.executescript(sql)
    install_a_newer_program(monkeypatch)
    with pytest.raises(LedgerError, match=f"{path}: the ledger is damaged"):
        Ledger.open(tmp_path, samples.config()) if for_writing else LedgerReader.open_for_reading(tmp_path)
    with closing(sqlite3.connect(path)) as old:
        assert schema.version_of(old) == len(schema.MIGRATIONS)


def test_an_older_ledger_is_copied_and_brought_up_to_date(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Ledger.open(tmp_path, samples.config()) as ledger:
        samples.commit_rounds(ledger, 1)
    install_a_newer_program(monkeypatch)
    with Ledger.open(tmp_path, samples.config()) as ledger:
        assert [row["remark"] for row in ledger.query("SELECT remark FROM rounds")] == ["from before"] * 2
        assert ledger.state().history == (samples.record(0), samples.record(1))
    copy = sqlite3.connect(tmp_path / f"ledger.sqlite.v{len(schema.MIGRATIONS)}")
    assert schema.version_of(copy) == len(schema.MIGRATIONS)
    assert copy.execute("SELECT count(*) FROM rounds").fetchone() == (2,)


DATA = Path(__file__).parent / "data"
KEPT = {
    "ledger-v7.sqlite.xz": "8b06a17587de138205eef6acf88fa67938ec15bfb118318aabbd8097cd832bb0",
    "ledger-v8.sqlite.xz": "ad6ab2323537f15a7ec27ea2256e9877e29655cada2187e9c405f046bb7c9de8",
    "ledger-v9.sqlite.xz": "b2346f53cd787c05549acdc21562edf5405c40375fcb72402478b303876ca4aa",
}
"""Jobs of `samples` with answers of a round that is not committed, as earlier schema versions wrote them, and their
digests. In version 8 prompts are compressed against a solution. Version 9 has no judge rows yet."""


def kept(name: str, folder: Path) -> None:
    JobPaths(folder).ledger.write_bytes(lzma.decompress((DATA / name).read_bytes()))


@pytest.mark.parametrize("for_writing", [True, False])
@pytest.mark.parametrize("name", KEPT)
def test_a_kept_ledger_is_the_same_job(name: str, for_writing: bool, tmp_path: Path) -> None:
    kept(name, tmp_path)
    reader = Ledger.open(tmp_path, samples.config()) if for_writing else LedgerReader.open_for_reading(tmp_path)
    with reader:
        reader.verify(answers=True)
        reader.verify_prompts(["p0"])
        assert reader.state().history == tuple(map(samples.record, range(3)))
        assert content_digest(reader) == KEPT[name]


def test_an_interrupted_job_of_version_8_continues(tmp_path: Path) -> None:
    kept("ledger-v8.sqlite.xz", tmp_path)
    with Ledger.open(tmp_path, samples.config()) as ledger:
        calls = [samples.vote("p1", 0, number, 3) for number in range(5)]
        keys = [key for key, *_ in samples.items(calls)]
        assert set(ledger.lookup(keys)) == set(keys[:3])
        ledger.record(samples.items(calls))
        assert set(ledger.lookup(keys)) == set(keys)
        samples.commit_rounds(ledger, 3)
        ledger.verify(answers=True)
        assert ledger.state().history[3] == samples.record(3)


def test_a_changed_ledger_of_version_7_is_refused(tmp_path: Path) -> None:
    kept("ledger-v7.sqlite.xz", tmp_path)
    with closing(sqlite3.connect(JobPaths(tmp_path).ledger)) as old:
        old.executescript("UPDATE votes SET value = 'no' WHERE round = 1")
    with pytest.raises(LedgerError, match="table votes: the rows of round 1"):
        Ledger.open(tmp_path, samples.config())


def test_time_spent_before_sessions_were_kept_is_taken_from_the_rounds(tmp_path: Path) -> None:
    with Ledger.open(tmp_path, samples.config()) as ledger:
        samples.commit_rounds(ledger, 2)
        spent = sum(sum(record.seconds.values()) for record in ledger.state().history)
    assert spent > 0
    old = sqlite3.connect(JobPaths(tmp_path).ledger)
    old.executescript(f"{WITHOUT_UNDECIDED} DROP TABLE sessions; {USAGE}; PRAGMA user_version = 1;")
    old.close()
    with Ledger.open(tmp_path, samples.config()) as ledger:
        assert ledger.hours() * 3600 == pytest.approx(spent)


def test_rounds_from_before_revisions_count_as_whole(tmp_path: Path) -> None:
    with Ledger.open(tmp_path, samples.config()) as ledger:
        samples.commit_rounds(ledger, 2)
    old = sqlite3.connect(JobPaths(tmp_path).ledger)
    old.executescript(f"{WITHOUT_UNDECIDED}; {USAGE}; PRAGMA user_version = 2;")
    old.close()
    Ledger.open(tmp_path, samples.config()).close()
    new = sqlite3.connect(JobPaths(tmp_path).ledger)
    for round, counts in new.execute("SELECT round, counts FROM rounds").fetchall():
        assert json.loads(counts) == count_rows(new, round)


@pytest.mark.parametrize("for_writing", [True, False])
def test_a_newer_ledger_is_refused(for_writing: bool, tmp_path: Path) -> None:
    Ledger.open(tmp_path, samples.config()).close()
    connection = sqlite3.connect(JobPaths(tmp_path).ledger)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(LedgerError, match="schema version 99, this program knows up to"):
        Ledger.open(tmp_path, samples.config()) if for_writing else LedgerReader.open_for_reading(tmp_path)


def test_a_file_that_another_process_made_meanwhile_is_taken_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = (sqlite3.connect(tmp_path / "shared.sqlite", isolation_level=None) for _ in range(2))
    schema.migrate(first)
    true, looked = schema.version_of, iter([0, 0])  # what the second one read before the first was done
    monkeypatch.setattr(schema, "version_of", lambda connection: next(looked, true(connection)))
    schema.migrate(second)
    assert true(second) == len(schema.MIGRATIONS)
    assert next(looked, None) is None
