"""Full disks, read-only folders, truncated files and damaged pages: each a clear error, none a loss."""

from __future__ import annotations

import os
import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from svd_loop.contracts import JobPaths
from svd_loop.errors import LedgerError
from svd_loop.ledger import Ledger, LedgerReader
from tests.svd_loop.ledger import samples

CALLS = [samples.solve(f"p{number}", 0) for number in range(400)]
PAGE = 4096


@pytest.fixture
def unprivileged() -> Iterator[Path]:
    """A folder of an ordinary user, as whom the test runs: root may write everywhere."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if os.geteuid() == 0:
            os.chown(folder, 65534, -1)
            os.seteuid(65534)
            try:
                yield folder
            finally:
                os.seteuid(0)
        else:
            yield folder
        folder.chmod(0o700)


def test_a_full_disk_loses_only_the_batch_in_flight(tmp_path: Path) -> None:
    with Ledger.open(tmp_path, samples.config()) as ledger:
        samples.commit_rounds(ledger, 1)
        ledger.record(samples.items(CALLS[:10]))
        pages = next(ledger.query("PRAGMA page_count"))["page_count"]
        list(ledger.query(f"PRAGMA max_page_count = {pages + 1}"))
        with pytest.raises(LedgerError, match=r"disk .* is full.*run the same command again"):
            ledger.record(samples.items(CALLS[10:]))
        keys = [key for key, _, _ in samples.items(CALLS)]
        assert len(ledger.lookup(keys)) == 10
        list(ledger.query("PRAGMA max_page_count = 1000000"))  # space was made
        ledger.record(samples.items(CALLS[10:]))
        assert len(ledger.lookup(keys)) == len(CALLS)
        assert ledger.state().history[1] == samples.record(1)


def test_a_full_disk_while_a_dictionary_is_trained_leaves_no_trace_of_it(tmp_path: Path) -> None:
    with Ledger.open(tmp_path, samples.config()) as ledger:
        list(ledger.query(f"PRAGMA max_page_count = {next(ledger.query('PRAGMA page_count'))['page_count'] + 6}"))
        with pytest.raises(LedgerError, match="full"):
            ledger.record(samples.items(CALLS))
        assert list(ledger.query("SELECT * FROM dictionaries")) == []
        list(ledger.query("PRAGMA max_page_count = 1000000"))
        ledger.record(samples.items(CALLS))
        assert ledger.lookup([samples.StubPolicy().key(CALLS[7])]).popitem()[1] == samples.StubPolicy().reply(CALLS[7])


def test_a_folder_that_cannot_be_written(unprivileged: Path) -> None:
    unprivileged.chmod(0o500)
    with pytest.raises(LedgerError, match=str(unprivileged)):
        Ledger.open(unprivileged / "jobs" / "sample", samples.config())


def test_a_job_whose_folder_became_read_only(unprivileged: Path) -> None:
    with Ledger.open(unprivileged, samples.config()) as ledger:
        samples.commit_rounds(ledger, 1)
    for path in unprivileged.iterdir():
        path.chmod(0o400)
    unprivileged.chmod(0o500)
    with pytest.raises(LedgerError, match=str(unprivileged)):
        Ledger.open(unprivileged, samples.config())
    with LedgerReader.open_for_reading(unprivileged) as reader:  # but it can be read
        assert reader.state().next_round == 2


def test_a_ledger_file_alone_that_became_read_only(unprivileged: Path) -> None:
    Ledger.open(unprivileged, samples.config()).close()
    JobPaths(unprivileged).ledger.chmod(0o400)
    with pytest.raises(LedgerError, match=r"cannot be written|readonly"):
        Ledger.open(unprivileged, samples.config(rounds=99))


def test_a_path_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "jobs").write_text("")
    with pytest.raises(LedgerError, match=r"Not a directory|File exists"):
        Ledger.open(tmp_path / "jobs" / "sample", samples.config())


@pytest.fixture
def filled(tmp_path: Path) -> Path:
    """A finished ledger file of some dozens of pages."""
    with Ledger.open(tmp_path, samples.config()) as ledger:
        samples.commit_rounds(ledger, 2)
        ledger.record(samples.items(CALLS))
    return JobPaths(tmp_path).ledger


@pytest.mark.parametrize("share", [0.05, 0.5, 0.95])
def test_a_file_truncated_by_a_crash(share: float, filled: Path) -> None:
    os.truncate(filled, int(filled.stat().st_size * share))
    with pytest.raises(LedgerError, match="salvage"):
        Ledger.open(filled.parent, samples.config())


def test_an_emptied_file_is_not_taken_for_a_new_job(filled: Path) -> None:
    os.truncate(filled, 0)
    with pytest.raises(LedgerError, match="its ledger is empty"):
        Ledger.open(filled.parent, samples.config())
    filled.unlink()
    with pytest.raises(LedgerError, match="its ledger is missing"):
        Ledger.open(filled.parent, samples.config())


def test_a_job_killed_while_it_was_created_is_created_again(tmp_path: Path) -> None:
    JobPaths(tmp_path).ledger.touch()
    with Ledger.open(tmp_path, samples.config()) as ledger:
        assert ledger.state().next_round == 0


def test_a_lost_copy_of_the_configuration_is_written_again(filled: Path) -> None:
    text = (filled.parent / "config.json").read_text()
    (filled.parent / "config.json").unlink()
    Ledger.open(filled.parent, samples.config()).close()
    assert (filled.parent / "config.json").read_text() == text


def test_a_file_that_is_no_database(filled: Path) -> None:
    filled.write_bytes(b"not a database at all" * 500)
    with pytest.raises(LedgerError, match="damaged"):
        Ledger.open(filled.parent, samples.config())


def test_a_damaged_page_is_found_when_the_ledger_is_opened(filled: Path) -> None:
    connection = sqlite3.connect(filled)
    (page,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'answers'").fetchone()
    connection.close()
    with filled.open("r+b") as file:
        file.seek((page - 1) * PAGE)
        file.write(os.urandom(PAGE))
    with pytest.raises(LedgerError, match="salvage"):
        Ledger.open(filled.parent, samples.config())


def test_an_empty_ledger_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "ledger.sqlite").touch()
    with pytest.raises(LedgerError, match="is empty; put the ledger back"):
        LedgerReader.open_for_reading(tmp_path)
