"""Import of files: the state of every row is recorded."""

from __future__ import annotations

import json
import os
import socket
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from svd_loop.config import Config
from svd_loop.config.data import DedupSection
from svd_loop.contracts import Problem
from svd_loop.errors import ScheduleError
from svd_loop.schedule import Inbox, Intake, StateDb
from svd_loop.schedule.dedup_index import DedupIndex
from svd_loop.schedule.inbox import safe_name
from tests.svd_loop.schedule.schedule_support import START, drop, problems, schedule_config, texts

LEAK = problems("development", 1, 5)[0]


def take_in(root: Path, now: float = START, config: Config | None = None, held_out: Sequence[Problem] = ()) -> Intake:
    with StateDb(root / "schedule") as db:
        return Inbox(db, config or schedule_config(root), lambda: held_out).take_in(root / "inbox", now)


def account(root: Path) -> dict[str, int]:
    with StateDb(root / "schedule") as db:
        return {name: count for name, count in db.counts().items() if count}


def listing(root: Path, folder: str) -> list[str]:
    return sorted(path.name for path in (root / "schedule" / folder).iterdir())


def test_each_row_gets_its_state(tmp_path: Path) -> None:
    first, second, third = texts(3, 1)
    drop(tmp_path / "inbox", "a.jsonl", [first, second, first.upper(), LEAK.text])
    drop(tmp_path / "inbox", "b.jsonl", [f"{second} ", third], age=1800)
    intake = take_in(tmp_path, held_out=[LEAK])
    assert intake.files == ("000001-a.jsonl", "000002-b.jsonl")
    assert account(tmp_path) == {"seen": 6, "waiting": 3, "duplicate": 2, "leaked": 1}
    assert {name: count for name, count in intake.counts if count} == account(tmp_path)
    with StateDb(tmp_path / "schedule") as db:
        waiting = db.waiting()
        rows = db.connection.execute("SELECT source, fate, detail FROM prompts ORDER BY number").fetchall()
    assert [prompt.text for _, prompt in waiting] == [first, second, third]
    assert rows[2] == ("000001-a.jsonl:3", "duplicate", "exact as prompt 1")
    assert rows[3][1] == "leaked" and LEAK.id in rows[3][2]
    assert rows[4] == ("000002-b.jsonl:1", "duplicate", "same as prompt 2")
    assert listing(tmp_path, "accepted") == ["000001-a.jsonl", "000002-b.jsonl"]
    assert take_in(tmp_path).files == ()


def test_an_inbox_that_is_a_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "inbox").touch()
    with StateDb(tmp_path / "schedule") as db, pytest.raises(ScheduleError, match=r"--inbox .*inbox: is a file"):
        Inbox(db, schedule_config(tmp_path), list).take_in(tmp_path / "inbox", 0.0)


def test_near_duplicates_are_found_in_later_files(tmp_path: Path) -> None:
    words = (
        "A train leaves the old station in the morning and arrives at the small harbour town before noon on {}. "
        "It carries coal, timber and many passengers who all want to see the sea before the winter comes. Why?"
    )
    drop(tmp_path / "inbox", "a.jsonl", [words.format("Monday")])
    take_in(tmp_path)
    config = schedule_config(tmp_path, "data.dedup.near=0.8")  # other keys: the index is rebuilt
    drop(tmp_path / "inbox", "b.jsonl", [words.format("Friday"), "Something else altogether, is it not?"])
    take_in(tmp_path, config=config)
    assert account(tmp_path) == {"seen": 3, "waiting": 2, "duplicate": 1}


def test_entries_that_may_still_be_written_are_left(tmp_path: Path) -> None:
    inbox = tmp_path / "inbox"
    for name, age in (("new.jsonl", 59.0), ("x.jsonl.part", 1e4), ("y.tmp", 1e4), (".z.jsonl", 1e4), ("old.jsonl", 61)):
        drop(inbox, name, texts(1, 1), age=age)
    drop(inbox, "clock.jsonl", texts(1, 1), age=-500)  # another machine's clock: not known to be settled
    intake = take_in(tmp_path)
    assert intake.files == ("000001-old.jsonl",)
    assert set(intake.left) == {"new.jsonl", "x.jsonl.part", "y.tmp", ".z.jsonl", "clock.jsonl"}
    assert take_in(tmp_path, now=START + 600).files == ("000002-new.jsonl", "000003-clock.jsonl")


BAD = {
    "cut.jsonl": '{"prompt": "What is 2 + 3?", "domain": "math"}\n{"prompt": "What is 4',
    "fields.jsonl": '{"question": "What is 2 + 3?"}\n',
    "empty.jsonl": "",
    "notes.txt": "what is this",
    "torn.jsonl.gz": "\x1f no gzip at all",
}


@pytest.mark.parametrize("name", BAD)
def test_a_file_that_cannot_be_used_is_quarantined_with_its_reason(tmp_path: Path, name: str) -> None:
    path = drop(tmp_path / "inbox", name, ())
    path.write_text(BAD[name])
    os.utime(path, (0, 0))
    assert take_in(tmp_path).quarantined == (f"000001-{name}",)
    assert listing(tmp_path, "quarantine") == [f"000001-{name}", f"000001-{name}.reason.txt"]
    assert (tmp_path / "schedule" / "quarantine" / f"000001-{name}").read_text() == BAD[name]
    reason = (tmp_path / "schedule" / "quarantine" / f"000001-{name}.reason.txt").read_text()
    assert reason.startswith(f"000001-{name}")
    assert listing(tmp_path, "accepted") == []
    assert account(tmp_path) == ({"seen": 1, "quarantined": 1} if name == "cut.jsonl" else {})
    assert take_in(tmp_path).files == ()  # never tried again


def test_a_corrected_file_is_a_new_file(tmp_path: Path) -> None:
    path = drop(tmp_path / "inbox", "cut.jsonl", ())
    path.write_text(BAD["cut.jsonl"])
    os.utime(path, (0, 0))
    take_in(tmp_path)
    drop(tmp_path / "inbox", "cut.jsonl", ["What is 2 + 3?", "What is 4 + 5?"])
    assert take_in(tmp_path).files == ("000002-cut.jsonl",)
    assert account(tmp_path) == {"seen": 3, "waiting": 2, "quarantined": 1}


class Killed(BaseException):
    """Simulates a kill: no handler in between may catch it."""


@pytest.mark.parametrize("place", ["pick", "admit", "reason", "move"])
def test_a_kill_loses_no_file_and_counts_none_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    drop(tmp_path / "inbox", "a.jsonl", texts(3, 1))
    path = drop(tmp_path / "inbox", "b.jsonl", (), age=1800)
    path.write_text(BAD["cut.jsonl"])
    os.utime(path, (START - 1800,) * 2)

    def die(*arguments: Any, **options: Any) -> None:
        raise Killed

    target = {"pick": "_unlisted_files", "admit": "_store", "reason": "_finish_quarantine"}.get(place)
    with monkeypatch.context() as patch:
        if target == "_finish_quarantine":  # dies after the database was written, before the file is moved
            patch.setattr("svd_loop.schedule.inbox.write_atomically", die)
        elif target:
            patch.setattr(Inbox, target, die)
        else:
            patch.setattr(Path, "rename", _dying_rename(Path.rename))
        with pytest.raises(Killed):
            take_in(tmp_path)
    take_in(tmp_path)
    assert account(tmp_path) == {"seen": 4, "waiting": 3, "quarantined": 1}
    assert listing(tmp_path, "accepted") == ["000001-a.jsonl"]
    assert listing(tmp_path, "quarantine") == ["000002-b.jsonl", "000002-b.jsonl.reason.txt"]
    assert list((tmp_path / "inbox").iterdir()) == []


def _dying_rename(rename: Any) -> Any:
    def renamed(self: Path, target: Path) -> Path:
        if target.parent.name == "quarantine":
            raise Killed
        moved: Path = rename(self, target)
        return moved

    return renamed


def test_another_file_system_is_copied_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drop(tmp_path / "inbox", "a.jsonl", texts(2, 1))
    rename = Path.rename

    def refusing(self: Path, target: Path) -> Path:
        if self.parent.name == "inbox":
            raise OSError(18, "Invalid cross-device link")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refusing)
    assert take_in(tmp_path).files == ("000001-a.jsonl",)
    assert (account(tmp_path)["waiting"], list((tmp_path / "inbox").iterdir())) == (2, [])


ROWS = st.lists(st.sampled_from(["new", "again", "leak"]), max_size=6)


@settings(max_examples=15)
@given(st.lists(st.tuples(ROWS, st.booleans()), min_size=1, max_size=4))
def test_the_counts_add_up(files: list[tuple[list[str], bool]]) -> None:
    fresh = iter(texts(40, 3))
    used: list[str] = []
    expected: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        config = schedule_config(root)
        for number, (kinds, is_cut) in enumerate(files):
            rows: list[str] = []
            for kind in kinds:
                row = LEAK.text if kind == "leak" else used[0] if kind == "again" and used else next(fresh)
                is_leak, is_new = kind == "leak", row not in used and kind != "leak"
                rows.append(row)
                expected[
                    "quarantined" if is_cut else "leaked" if is_leak else "waiting" if is_new else "duplicate"
                ] += 1
                if is_new and not is_cut:
                    used.append(row)
            path = drop(root / "inbox", f"{number}.jsonl", rows)
            if is_cut:
                path.write_text(path.read_text() + json.dumps({"prompt": "half"})[:-3])
                os.utime(path, (0, 0))
            take_in(root, config=config, held_out=[LEAK])
        found = account(root)
        assert found.pop("seen", 0) == sum(map(len, (kinds for kinds, _ in files)))
        assert found == dict(expected)


def test_keys_are_rebuilt_only_when_the_section_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drop(tmp_path / "inbox", "a.jsonl", texts(2, 1))
    take_in(tmp_path)
    made: list[int] = []
    monkeypatch.setattr(DedupIndex, "_rebuild", lambda self: made.append(1))
    with StateDb(tmp_path / "schedule") as db:
        DedupIndex(db, schedule_config(tmp_path).data.dedup)
        assert made == []
        DedupIndex(db, DedupSection(near=0.5))
        DedupIndex(db, DedupSection(near=0.5))
    assert made == [1]


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE text_keys SET key = key + 4096 WHERE prompt = 1",
        "UPDATE text_keys SET prompt = 3 - prompt",
        "UPDATE band_keys SET key = key + 1 WHERE rowid = (SELECT min(rowid) FROM band_keys)",
        "DELETE FROM text_keys",
        "UPDATE key_sums SET keys = keys + 1",
        "DELETE FROM key_sums",
    ],
)
def test_damaged_keys_are_rebuilt(tmp_path: Path, damage: str) -> None:
    drop(tmp_path / "inbox", "a.jsonl", texts(2, 1))
    take_in(tmp_path)
    dedup = schedule_config(tmp_path).data.dedup

    def keys(db: StateDb) -> list[object]:
        return [db.connection.execute(f"SELECT * FROM {name} ORDER BY 1").fetchall() for name in KEYS]

    with StateDb(tmp_path / "schedule") as db:
        before = keys(db)
        for (name,) in db.connection.execute("SELECT name FROM sqlite_master WHERE name LIKE '%sums_%'").fetchall():
            if name != "key_sums":
                db.connection.execute(f"DROP TRIGGER IF EXISTS {name}")
        db.connection.execute(damage)
        assert keys(db) != before
        DedupIndex(db, dedup)
        assert keys(db) == before


KEYS = ("text_keys", "band_keys", "key_sums")
HOSTILE_NAMES = [
    b"x" * 240 + b".jsonl",
    "é".encode() * 123 + b".jsonl",
    b"\xff\xfe caf\xe9.jsonl",
    b"new\nline.jsonl",
    b"tab\tand \x1b[31m.jsonl",
    b"~home.jsonl",
    b"[a-z]*?.jsonl",
    b"%2F?x=y#z.jsonl",
    b"a." + b"b" * 200 + b".jsonl",
]


@pytest.mark.parametrize("name", HOSTILE_NAMES, ids=range(len(HOSTILE_NAMES)))
def test_any_name_is_taken_in(tmp_path: Path, name: bytes) -> None:
    [text] = texts(1, 1)
    drop(tmp_path / "inbox", "plain.jsonl", [text])
    (tmp_path / "inbox" / "plain.jsonl").rename(os.fsdecode(os.fsencode(tmp_path / "inbox") + b"/" + name))
    intake = take_in(tmp_path)
    assert len(intake.files) == 1 and intake.quarantined == () and account(tmp_path)["waiting"] == 1
    assert intake.files[0].isprintable() and intake.files[0].endswith(".jsonl")
    assert take_in(tmp_path).files == ()


@given(st.binary(min_size=1, max_size=255).filter(lambda name: b"/" not in name and b"\0" not in name))
def test_safe_names_are_printable_short_and_keep_the_ending(raw: bytes) -> None:
    safe = safe_name(os.fsdecode(raw + b".jsonl"))
    assert safe.isprintable() and len(os.fsencode(safe)) <= 190 and safe.endswith(".jsonl")


def _special(place: Path, kind: str) -> None:
    match kind:
        case "pipe":
            os.mkfifo(place)
        case "socket":
            with socket.socket(socket.AF_UNIX) as server:
                server.bind(str(place))
        case "device":
            place.symlink_to("/dev/zero")
        case "loop":
            place.symlink_to(place.name)
        case "folder":
            (place / "data").mkdir(parents=True)
            (place / "state.json").write_text("{}")
            os.mkfifo(place / "data" / "x.arrow")


@pytest.mark.parametrize("kind", ["pipe", "socket", "device", "loop", "folder"])
def test_special_files_are_quarantined_and_the_schedule_continues(tmp_path: Path, kind: str) -> None:
    drop(tmp_path / "inbox", "b.jsonl", texts(1, 1))
    _special(tmp_path / "inbox" / "a.jsonl", kind)
    for path in (tmp_path / "inbox" / "a.jsonl", *(tmp_path / "inbox" / "a.jsonl").glob("**/*")):
        os.utime(path, (START - 7200, START - 7200), follow_symlinks=False)
    intake = take_in(tmp_path)
    assert intake.quarantined == ("000001-a.jsonl",) and account(tmp_path)["waiting"] == 1
    assert "000001-a.jsonl.reason.txt" in listing(tmp_path, "quarantine")
    assert take_in(tmp_path).files == ()


def test_a_file_whose_reader_raises_is_quarantined(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drop(tmp_path / "inbox", "a.jsonl", texts(2, 1))

    def trip(text: str) -> str:
        raise RecursionError("too deep")

    monkeypatch.setattr("envs.prompts.reading.clean", trip)
    assert take_in(tmp_path).quarantined == ("000001-a.jsonl",)
    monkeypatch.undo()
    reason = (tmp_path / "schedule" / "quarantine" / "000001-a.jsonl.reason.txt").read_text()
    assert "row 1: cannot be read: RecursionError: too deep" in reason
