"""The file of a job's prompts is what the schedule wrote, when a job continues."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from svd_loop.contracts import Prompt
from svd_loop.errors import ScheduleError
from svd_loop.schedule import StateDb
from svd_loop.schedule.prompt_files import record_prompts, restore_prompts, write_prompts

PROMPTS = [Prompt(f"id{number}", f"Wie groß ist {number} + 1?", "math", f"a:{number}") for number in range(3)]


@pytest.fixture
def db(tmp_path: Path) -> Any:
    with StateDb(tmp_path) as db:
        insert = (
            "INSERT INTO prompts (file, source, id, fate, detail, domain, text) VALUES (1, ?, ?, 'used', '', 'math', ?)"
        )
        db.connection.execute("INSERT INTO files VALUES (1, '1-a', 'a', 1.5, 'accepted', 3, '')")
        for prompt in PROMPTS:
            db.connection.execute(insert, (prompt.source, prompt.id, prompt.text))
        db.add_job(1, "job", config={}, tokenizer="bytes", prompts=3, started_at=2.5)
        db.connection.execute("UPDATE prompts SET job = 1")
        record_prompts(db, "job", PROMPTS)
        yield db


def test_a_file_as_it_was_written_stays(db: StateDb, tmp_path: Path) -> None:
    path = write_prompts(tmp_path, "job", PROMPTS)
    before = path.stat().st_ino
    restore_prompts(tmp_path, db, db.jobs()[0])
    assert path.stat().st_ino == before


@pytest.mark.parametrize("damage", [None, b"", b"{}\n", b"\xff\xfe"])
def test_a_changed_or_lost_file_is_written_again(
    db: StateDb, tmp_path: Path, damage: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_prompts(tmp_path, "job", PROMPTS)
    written = path.read_bytes()
    path.unlink() if damage is None else path.write_bytes(damage)
    restore_prompts(tmp_path, db, db.jobs()[0])
    assert path.read_bytes() == written and "is written again" in caplog.text


def test_a_changed_file_with_forgotten_prompts_is_an_error(db: StateDb, tmp_path: Path) -> None:
    path = write_prompts(tmp_path, "job", PROMPTS)
    db.connection.execute("UPDATE prompts SET fate = 'forgotten', text = NULL WHERE number = 2")
    restore_prompts(tmp_path, db, db.jobs()[0])  # the file still is what was written
    path.write_text("{}")
    with pytest.raises(ScheduleError, match=r"job\.jsonl: is not what was written for job"):
        restore_prompts(tmp_path, db, db.jobs()[0])


def test_a_job_of_an_earlier_program_version_has_no_digest(db: StateDb, tmp_path: Path) -> None:
    db.delete_meta("prompts/job")
    restore_prompts(tmp_path, db, db.jobs()[0])
    assert not (tmp_path / "prompts").exists()
