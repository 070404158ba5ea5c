"""What another program does to a schedule's state is named when the state is opened."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from svd_loop.errors import ScheduleError
from svd_loop.schedule import StateDb
from svd_loop.schedule.row_digests import _digest


def a_state(folder: Path) -> Path:
    with StateDb(folder) as db:
        insert = "INSERT INTO prompts (file, source, id, fate, detail, domain, text) VALUES (1, ?, ?, ?, '', 'math', ?)"
        db.connection.execute("INSERT INTO files VALUES (1, '1-a', 'a', 1.5, 'accepted', 3, '')")
        for number in range(3):
            db.connection.execute(insert, (f"a:{number}", f"id{number}", "waiting", f"text {number}"))
        db.add_job(1, "job", config={}, tokenizer="bytes", prompts=1, started_at=2.5)
        db.set_prompt_state(1, "used", job=1)
        db.set_meta("last_tick", "1.0")
        db.set_meta("last_tick", "2.0")
        db.set_meta("gone", "1")
        db.delete_meta("gone")
        db.update_job(1, state="closed", outcome="promoted", best_round=2)
        return db.path


def edit(path: Path, sql: str) -> None:
    """As a program that knows how to get round the triggers."""
    with closing(sqlite3.connect(path)) as connection:
        for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            connection.execute(f"DROP TRIGGER {name}")
        connection.executescript(sql)


@pytest.mark.parametrize(
    ("sql", "finding"),
    [
        ("UPDATE jobs SET outcome = 'refused'", "table jobs: row 1 is not"),
        ("UPDATE jobs SET best_round = 1", "table jobs: row 1 is not"),
        ("DELETE FROM jobs", "table jobs: row 1 is missing"),
        ("UPDATE prompts SET text = 'another' WHERE number = 2", "table prompts: row 2 is not"),
        ("UPDATE prompts SET fate = 'waiting' WHERE number = 1", "table prompts: row 1 is not"),
        ("DELETE FROM prompts WHERE number = 3", "table prompts: row 3 is missing"),
        (
            "INSERT INTO prompts SELECT 9, file, source, id, fate, detail, domain, text, job FROM prompts LIMIT 1",
            "table prompts: row 9 is not",
        ),
        ("UPDATE files SET rows = 2", "table files: row 1 is not"),
        ("UPDATE meta SET value = '3.0' WHERE key = 'last_tick'", "table meta: row last_tick is not"),
        ("DELETE FROM row_digests WHERE place = 'jobs'", "table jobs: row 1 is not"),
    ],
)
def test_a_changed_row_is_reported(tmp_path: Path, sql: str, finding: str) -> None:
    path = a_state(tmp_path)
    StateDb(tmp_path).close()  # sound before the edit
    edit(path, sql)
    with pytest.raises(ScheduleError, match=f"{path}: .*{finding}"):
        StateDb(tmp_path)


def test_a_row_written_by_another_program_is_refused_at_once(tmp_path: Path) -> None:
    with closing(sqlite3.connect(a_state(tmp_path))) as connection:
        for sql in ("UPDATE jobs SET best_round = 1", "INSERT INTO meta VALUES ('a', 'b')"):
            with pytest.raises(sqlite3.OperationalError, match="row_digest"):
                connection.execute(sql)


def test_rows_of_an_older_state_get_their_digests(tmp_path: Path) -> None:
    path = a_state(tmp_path)
    edit(path, "DROP TABLE row_digests; UPDATE files SET rows = 7")
    with StateDb(tmp_path) as db:
        assert db.files()[0]["rows"] == 7
    with pytest.raises(ScheduleError, match="table files"):
        edit(path, "UPDATE files SET rows = 8")
        StateDb(tmp_path)


def test_a_digest_distinguishes_types() -> None:
    assert len({_digest(1), _digest("1"), _digest(1.0), _digest(None), _digest(1, None), _digest("\udc80")}) == 6
