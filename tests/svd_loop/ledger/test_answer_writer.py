"""Answers that a thread stores: in order, found while they wait, and never missing without an error."""

from __future__ import annotations

import shutil
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from svd_loop.contracts import JobPaths
from svd_loop.errors import JobInterrupted, LedgerError
from svd_loop.ledger import DurablePolicy, Interrupt, Ledger, content_digest
from svd_loop.ledger.answer_writer import Answered, AnswerWriter
from tests.svd_loop.ledger import samples
from tests.svd_loop.ledger.test_durable import answers_to
from tests.svd_loop.ledger.test_durable_stream import OneByOne

CALLS = [samples.solve(f"p{number % 8}", number // 8) for number in range(280)]
# Texts that are long and many enough to train a dictionary.
ITEMS = [(key, call, replace(reply, text=f"{reply.text} {key}")) for key, call, reply in samples.items(CALLS)]
BATCHES = [ITEMS[:3], ITEMS[3:270], ITEMS[2:5], ITEMS[270:]]
KEYS = [key for key, *_ in ITEMS]
TABLES = ("contents", "dictionaries", "answers", "speakers", "candidates", "verdicts", "votes", "accepted_rows")


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """No other connection can write to the ledger: its thread stands still in its next transaction."""
    with closing(sqlite3.connect(JobPaths(folder).ledger, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


def contents(ledger: Ledger) -> dict[str, list[tuple[object, ...]]]:
    """Every row of the tables, ids and compressed bytes included."""
    return {name: [tuple(row.values()) for row in ledger.query(f"SELECT * FROM {name}")] for name in TABLES}


def test_the_file_is_that_of_a_ledger_that_waits(tmp_path: Path) -> None:
    found = []
    for name in ("waits", "later"):
        with Ledger.open(tmp_path / name, samples.config()) as ledger:
            samples.commit_rounds(ledger, 0)
            for items in BATCHES:
                (ledger.record if name == "waits" else ledger.record_later)(items)
            episode = samples.episode(1)
            ledger.shelve(list(zip(episode.candidates, episode.verdicts, strict=True)), ())
            ledger.commit_round(samples.record(1), episode, samples.rows(1), samples.update(1))
            found.append((contents(ledger), content_digest(ledger)))
            ledger.verify(answers=True)
    assert found[0] == found[1]
    assert len(found[0][0]["answers"]) == len(ITEMS) and found[0][0]["dictionaries"]


def test_answers_are_found_while_they_wait_and_a_kill_loses_no_others(tmp_path: Path) -> None:
    with Ledger.open(tmp_path / "job", samples.config()) as ledger:
        ledger.record(ITEMS[:5])
        with held(tmp_path / "job"):
            ledger.record_later(ITEMS[5:9])
            ledger.record_later(ITEMS[9:12])
            assert ledger.lookup(KEYS[:20]) == {key: reply for key, _, reply in ITEMS[:12]}
            shutil.copytree(tmp_path / "job", tmp_path / "killed")  # what a process leaves that dies here
        assert sorted(ledger.query("SELECT count(*) AS n FROM answers")) == [{"n": 12}]
        ledger.commit_round(samples.record(0))
    with Ledger.open(tmp_path / "killed", samples.config()) as killed:
        assert sorted(killed.lookup(KEYS)) == sorted(KEYS[:5])
        assert killed.state().next_round == 0


def test_a_full_disk_is_told_by_the_next_call_and_no_round_is_committed_without_its_answers(tmp_path: Path) -> None:
    with Ledger.open(tmp_path, samples.config()) as ledger:
        samples.commit_rounds(ledger, 0)
        ledger.record(ITEMS[:5])
        list(ledger.query(f"PRAGMA max_page_count = {next(ledger.query('PRAGMA page_count'))['page_count'] + 1}"))
        ledger.record_later(ITEMS[5:])
        with pytest.raises(LedgerError, match=r"disk .* is full.*run the same command again"):
            ledger.flush()
        for call in (
            lambda: ledger.record_later(ITEMS[:1]),
            lambda: ledger.lookup(KEYS[:1]),
            lambda: ledger.commit_round(samples.record(1), samples.episode(1), samples.rows(1), samples.update(1)),
        ):
            with pytest.raises(LedgerError, match="full"):
                call()
    with Ledger.open(tmp_path, samples.config()) as ledger:
        assert sorted(ledger.lookup(KEYS)) == sorted(KEYS[:5])
        assert ledger.state().next_round == 1


def test_an_error_that_no_call_told_is_told_at_the_end(tmp_path: Path) -> None:
    ledger = Ledger.open(tmp_path, samples.config())
    list(ledger.query(f"PRAGMA max_page_count = {next(ledger.query('PRAGMA page_count'))['page_count'] + 1}"))
    ledger.record_later(ITEMS)
    with pytest.raises(LedgerError, match="full"):
        ledger.close()
    Ledger.open(tmp_path, samples.config()).close()  # its lock is free


def test_a_stream_does_not_wait_for_the_file_and_a_stop_loses_nothing(tmp_path: Path) -> None:
    interrupt, calls = Interrupt(), CALLS[:4]
    with Ledger.open(tmp_path, samples.config()) as ledger:
        stream = DurablePolicy(OneByOne(), ledger, 4, interrupt=interrupt, write_every=0.0).stream()
        with held(tmp_path):
            stream.put(calls)
            taken = [reply for _ in range(3) for reply in stream.take()]
            interrupt.requested = True
            with pytest.raises(JobInterrupted):
                stream.take()
            stream.close()
    with Ledger.open(tmp_path, samples.config()) as ledger:
        assert taken == answers_to(calls[:0:-1])
        assert sorted(ledger.lookup(KEYS)) == sorted(KEYS[1:4])


class Slow:
    """Stores a batch when it is let; can fail."""

    def __init__(self) -> None:
        self.began, self.let = threading.Semaphore(0), threading.Semaphore(0)
        self.stored: list[list[str]] = []
        self.error: LedgerError | None = None

    def __call__(self, items: Sequence[Answered]) -> None:
        self.began.release()
        self.let.acquire()
        if self.error is not None:
            raise self.error
        self.stored.append([key for key, *_ in items])


def test_a_full_queue_makes_the_caller_wait() -> None:
    slow, let = Slow(), threading.Event()
    writer = AnswerWriter(slow, most=4)
    writer.put(ITEMS[:9])  # a batch that is too large alone
    more = threading.Thread(target=lambda: (writer.put(ITEMS[9:11]), writer.put(ITEMS[11:13]), let.set()))
    more.start()
    slow.began.acquire()
    assert (writer.is_idle, let.is_set(), len(writer.waiting(KEYS))) == (False, False, 9)
    slow.let.release()
    assert let.wait(60)
    slow.let.release(2)
    writer.close()
    more.join()
    assert slow.stored == [KEYS[:9], KEYS[9:11], KEYS[11:13]]
    assert (writer.is_idle, writer.waiting(KEYS)) == (True, {})
    with pytest.raises(LedgerError, match="is closed"):
        writer.put(ITEMS[:1])


def test_nothing_is_stored_behind_a_batch_that_failed() -> None:
    slow = Slow()
    writer = AnswerWriter(slow)
    writer.put(ITEMS[:1])
    writer.put(ITEMS[1:2])
    slow.error = LedgerError("broken")
    slow.let.release(2)
    for call in (writer.flush, lambda: writer.put(ITEMS[2:3]), lambda: writer.waiting(KEYS)):
        with pytest.raises(LedgerError, match="broken"):
            call()
    writer.close()  # the error was told
    assert (slow.stored, writer.is_idle) == ([], False)
