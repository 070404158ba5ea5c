from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
import zstandard

from svd_loop.contracts import JobPaths, JobResult, StopReason
from svd_loop.errors import LedgerError
from svd_loop.ledger import Ledger, LedgerReader, content_digest, salvage
from svd_loop.ledger.contents import ContentStore
from tests.svd_loop.ledger import samples

CALLS = [samples.solve(prompt.id, 0) for prompt in samples.PROMPTS]


def play(folder: Path) -> str:
    with Ledger.open(folder, samples.config()) as ledger:
        ledger.record_prompts(samples.PROMPTS)
        policy = samples.StubPolicy()
        asked = [item for item in samples.items(CALLS) if item[0] not in ledger.lookup(map(policy.key, CALLS))]
        if asked:
            ledger.record(asked)
        samples.commit_rounds(ledger, 2)
        ledger.commit_stop(JobResult("sample", StopReason.PLATEAU, samples.record(0), ledger.state().history))
        return content_digest(ledger)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("sound")
    return folder, play(folder)


@pytest.fixture
def job(sound: tuple[Path, str], tmp_path: Path) -> Path:
    return Path(shutil.copytree(sound[0], tmp_path / "job"))


def state(reader: LedgerReader) -> object:
    return reader.state()


def everything(reader: LedgerReader) -> None:
    reader.verify(answers=True)


def judged(reader: LedgerReader) -> None:
    reader.judge_rows()


def rows(reader: LedgerReader) -> object:
    return reader.accepted_rows()


def answers(reader: LedgerReader) -> object:
    return reader.lookup(map(samples.StubPolicy().key, CALLS))


def prompts(reader: LedgerReader) -> object:
    return reader.prompts()


def hours(reader: LedgerReader) -> object:
    return reader.hours()


def edit(folder: Path, sql: str) -> None:
    with closing(sqlite3.connect(JobPaths(folder).ledger)) as connection:
        connection.executescript(sql)


@pytest.mark.parametrize(
    ("sql", "read", "finding"),
    [
        ("UPDATE answers SET output_tokens = 1 + output_tokens", answers, "table answers: the row with key"),
        ("UPDATE speakers SET policy_round = 7", answers, "table answers: the row with key"),
        ("UPDATE answers SET text = 1 + text % 2", answers, "table answers: the row with key"),
        ("DELETE FROM answers WHERE prompt_id = 'p1' AND round = 1", everything, "table answers: the rows of round 1"),
        ("UPDATE answers SET vote = 9 WHERE prompt_id = 'p7'", everything, "table answers: row"),
        ("DELETE FROM accepted_rows WHERE round = 1 AND place = 0", rows, "table accepted_rows: the rows of round 1"),
        (
            "UPDATE judge_rows SET reason = 'agreed' WHERE round = 1",
            everything,
            "table judge_rows: the rows of round 1",
        ),
        ("UPDATE judge_rows SET value = 'yes' WHERE place = 0", judged, "table judge_rows: the rows of round 1"),
        ("UPDATE judge_rows SET input_ids = 1 + input_ids", judged, "table judge_rows: the rows of round 1"),
        ("DELETE FROM judge_rows WHERE round = 2", judged, "table judge_rows: the rows of round 2"),
        ("UPDATE accepted_rows SET supervised_from = 1", rows, "table accepted_rows: the rows of round 1"),
        (
            "UPDATE votes SET value = 'no' WHERE round = 2 AND prompt_id = 'p0'",
            everything,
            "votes: the rows of round 2",
        ),
        ("UPDATE verdicts SET accepted = 1 - accepted WHERE round = 1", everything, "verdicts: the rows of round 1"),
        ("UPDATE candidates SET text = 1 + text % 2 WHERE round = 1", everything, "candidates: the rows of round 1"),
        ("UPDATE evaluations SET correct = 1 - correct WHERE round = 0", state, "evaluations: the rows of round 0"),
        ("UPDATE estimates SET value = 0.99 WHERE round = 2", state, "estimates: the rows of round 2"),
        ("UPDATE updates SET steps = 5 WHERE round = 2", state, "updates: the rows of round 2"),
        ("UPDATE rounds SET accepted_prompts = 3 WHERE round = 1", state, "rounds: the row of round 1"),
        ("UPDATE rounds SET digest = NULL WHERE round = 1", state, "rounds: the row of round 1"),
        ("UPDATE rounds SET round = -1 * round; UPDATE rounds SET round = 3 + round", state, "table rounds"),
        ("DELETE FROM rounds WHERE round = 2", state, "the last row of table rounds"),
        ("DELETE FROM rounds WHERE round = 1", state, "table rounds has no round 1"),
        ("DELETE FROM stops", state, "table stops"),
        ("UPDATE stops SET best_round = 2", state, "table stops"),
        ("UPDATE meta SET value = replace(value, 'nano', 'mano') WHERE name = 'config'", state, "table meta"),
        ("DELETE FROM meta WHERE name = 'digest'", state, "table meta"),
        ("UPDATE prompts SET domain = 'science' WHERE id = 'p3'", prompts, "table prompts: the row of prompt p3"),
        ("DELETE FROM prompts WHERE id = 'p0'", prompts, "table prompts: prompt p0 is missing"),
        ("UPDATE sessions SET seconds = 1e6", hours, "table sessions: row 1"),
    ],
)
def test_an_edit_is_reported_and_salvage_restores_the_job(
    sql: str, read: Callable[[LedgerReader], object], finding: str, job: Path, sound: tuple[Path, str]
) -> None:
    with LedgerReader.open_for_reading(job) as reader:
        read(reader)  # sound before the edit
    edit(job, sql)
    with LedgerReader.open_for_reading(job) as reader, pytest.raises(LedgerError, match=finding) as caught:
        read(reader)
    assert f"{JobPaths(job).ledger}: the ledger is damaged" in str(caught.value) and "salvage" in str(caught.value)
    salvage(job)
    if "answers" not in sql and "speakers" not in sql and "replace(" not in sql:
        assert play(job) == sound[1]
    with LedgerReader.open_for_reading(job) as reader:
        everything(reader)


def test_a_prompt_is_verified_with_its_segment_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("svd_loop.ledger.checks.SEGMENT", 3)
    play(tmp_path)
    with LedgerReader.open_for_reading(tmp_path) as reader:
        everything(reader)
        reader.verify_prompts(["p0", "p7", "unknown", ""])
    played = [
        row[0] for row in queried(tmp_path, "SELECT DISTINCT prompt_id FROM candidates WHERE round = 1 ORDER BY 1")
    ]
    first, last = played[0], played[-1]
    for table in ("candidates", "verdicts", "votes"):
        folder = Path(shutil.copytree(tmp_path, tmp_path.parent / f"{tmp_path.name}-{table}"))
        edit(folder, f"DELETE FROM {table} WHERE round = 1 AND prompt_id = '{last}'")
        with LedgerReader.open_for_reading(folder) as reader:
            reader.verify_prompts([first])
            with pytest.raises(LedgerError, match=f"table {table}: the rows of round 1"):
                reader.verify_prompts([last])
            with pytest.raises(LedgerError, match=f"table {table}: the rows of round 1"):
                reader.verify(1)


def queried(folder: Path, sql: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(JobPaths(folder).ledger)) as connection:
        return connection.execute(sql).fetchall()


@pytest.mark.parametrize(
    ("sql", "told"),
    [
        (
            "UPDATE meta SET value = replace(value, '\"seed\": 0', '\"seed\": 1') WHERE name = 'config'",
            "job.seed: 0 -> 1",
        ),
        ("DELETE FROM stops", "they are those of"),
        ("UPDATE votes SET value = 'no' WHERE round = 2", None),
    ],
)
def test_salvage_says_when_it_takes_the_configuration_as_it_is(
    sql: str, told: str | None, job: Path, caplog: pytest.LogCaptureFixture
) -> None:
    edit(job, sql)
    salvage(job)
    assert ("sealed again" in caplog.text) == (told is not None)
    assert (told or "") in caplog.text and (told is None or str(JobPaths(job).config) in caplog.text)


def test_damage_that_sqlite_cannot_spell_is_named(job: Path) -> None:
    """SQLite quotes the damaged schema in its message, which is then no UTF-8."""
    path = JobPaths(job).ledger
    content = path.read_bytes()
    path.write_bytes(content.replace(b"answers_by_prompt ON answers", b"answers_by_prompt ON answ\xccrs"))
    assert path.read_bytes() != content
    with (
        pytest.raises(LedgerError, match=f"{path}: the ledger is damaged"),
        LedgerReader.open_for_reading(job) as reader,
    ):
        state(reader)


def test_a_lost_batch_is_harmless(job: Path, sound: tuple[Path, str]) -> None:
    edit(job, "DELETE FROM batches")
    with LedgerReader.open_for_reading(job) as reader:
        everything(reader)
        assert content_digest(reader) == sound[1]


def write_without_bases(job: Path) -> None:
    """Store the contents as they were before some were compressed against others."""
    with closing(sqlite3.connect(job / "ledger.sqlite")) as connection, connection:
        based = [id for (id,) in connection.execute("SELECT id FROM contents WHERE base IS NOT NULL")]
        assert based
        for id, content in ContentStore(connection, job).load(based).items():
            plain = zstandard.compress(content.data)
            connection.execute("UPDATE contents SET data = ?, dictionary = NULL WHERE id = ?", (plain, id))


def test_an_older_ledger_gets_its_digests_when_it_is_migrated(job: Path) -> None:
    edit(job, "DELETE FROM judge_rows")
    with LedgerReader.open_for_reading(job) as reader:
        expected = content_digest(reader)
    write_without_bases(job)
    edit(
        job,
        "DELETE FROM meta WHERE name = 'digest';"
        "ALTER TABLE answers DROP COLUMN digest; ALTER TABLE prompts DROP COLUMN digest;"
        "ALTER TABLE sessions DROP COLUMN digest; ALTER TABLE rounds DROP COLUMN digest;"
        "ALTER TABLE rounds DROP COLUMN digests; ALTER TABLE contents DROP COLUMN base;"
        "DROP TABLE judge_rows; PRAGMA user_version = 6;",
    )
    with LedgerReader.open_for_reading(job) as reader:
        everything(reader)
    assert play(job) == expected
