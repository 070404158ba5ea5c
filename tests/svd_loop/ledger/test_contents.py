from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from svd_loop.errors import LedgerError
from svd_loop.ledger.contents import Base, ContentStore, decode_ids, decode_text, encode_ids, encode_text
from svd_loop.ledger.schema import migrate

SENTENCES = [f"The claim that {n} times {n + 3} makes {n * (n + 3)} holds. [[Y]]" for n in range(1000)]


@pytest.fixture
def connection() -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    migrate(connection)
    yield connection
    connection.close()


def store(connection: sqlite3.Connection) -> ContentStore:
    return ContentStore(connection, Path("job/ledger.sqlite"))


@given(st.text(st.characters(exclude_categories=())))
def test_texts_round_trip(text: str) -> None:
    assert decode_text(encode_text(text)) == text


@given(st.lists(st.integers(0, 2**64 - 1)))
def test_ids_round_trip(ids: list[int]) -> None:
    assert decode_ids(encode_ids(ids)) == tuple(ids)


@given(st.text(), st.lists(st.integers(0, 2**16 - 1)))
def test_a_text_is_never_taken_for_ids(text: str, ids: list[int]) -> None:
    assert encode_text(text) != encode_ids(ids)


@pytest.mark.parametrize("ids", [[-1], [1, 2**64]])
def test_impossible_ids_are_refused(ids: list[int]) -> None:
    with pytest.raises(LedgerError, match="token ids"):
        encode_ids(ids)


def test_similar_short_texts_share_a_dictionary_that_pays(connection: sqlite3.Connection) -> None:
    ids = store(connection).put("grader", map(encode_text, SENTENCES[:500]))
    later = store(connection).put("grader", map(encode_text, SENTENCES[500:]))  # a later process
    size = connection.execute("SELECT sum(length(data)) FROM contents").fetchone()[0]
    assert size < 0.5 * sum(len(sentence) for sentence in SENTENCES)
    assert connection.execute("SELECT count(*) FROM dictionaries").fetchone()[0] == 1
    again = store(connection)
    assert [again.text(stored.id) for stored in (ids | later).values()] == SENTENCES


def test_contents_written_before_the_dictionary_are_still_read(connection: sqlite3.Connection) -> None:
    texts = store(connection)
    early = texts.put("grader", [encode_text("early")])
    texts.put("grader", map(encode_text, SENTENCES))
    assert texts.text(early[encode_text("early")].id) == "early"


def test_samples_too_short_for_a_dictionary_do_without(connection: sqlite3.Connection) -> None:
    ids = store(connection).put("short", [encode_ids([number]) for number in range(250)])
    assert connection.execute("SELECT count(*) FROM dictionaries").fetchone()[0] == 0
    assert store(connection).ids(ids[encode_ids([77])].id) == (77,)


def test_a_content_that_repeats_its_base_takes_little_and_needs_it(connection: sqlite3.Connection) -> None:
    contents = store(connection)
    solution = encode_ids([number * 7919 % 150_000 for number in range(1500)])
    asked = solution + encode_ids([70_000, 5])[1:]
    ((base, _),) = contents.put("solver ids", [solution]).values()
    ((id, _),) = contents.put("grader prompt ids", [asked], {asked: Base(base, solution)}).values()
    sizes = dict(connection.execute("SELECT id, length(data) FROM contents"))
    assert sizes[id] < 0.1 * sizes[base]
    assert store(connection).load([id, base])[id].data == asked
    contents.remember("a name", Base(id, asked))
    assert contents.recall("a name") is None  # it has a base itself
    connection.execute("DELETE FROM contents WHERE id = ?", (base,))
    with pytest.raises(LedgerError, match=f"content {base} is missing"):
        store(connection).ids(id)


def test_a_base_with_a_base_is_damage(connection: sqlite3.Connection) -> None:
    contents = store(connection)
    ids = [stored.id for stored in contents.put("ids", [encode_ids([number] * 99) for number in range(3)]).values()]
    connection.execute("UPDATE contents SET base = id + 1 WHERE id < ?", (ids[-1],))
    with pytest.raises(LedgerError, match="has a base and is one"):
        contents.load(ids[:1])


def stored(contents: ContentStore, *texts: str) -> list[int]:
    return [one.id for one in contents.put("grader", map(encode_text, texts)).values()]


@pytest.mark.parametrize(
    ("first", "second"), [("one\n\ntwo", "three"), ("", "a\n\n\nb"), ("a\n", "\nb"), ("ü", "\ud800")]
)
def test_a_text_of_two_stored_ones_is_stored_as_their_ids(
    first: str, second: str, connection: sqlite3.Connection
) -> None:
    contents = store(connection)
    parts = stored(contents, first, second)
    whole = encode_text(f"{first}\n\n{second}")
    ((id, _),) = contents.put_all({"votes": [whole]}, joined=True).values()
    assert connection.execute("SELECT base, length(data) FROM contents WHERE id = ?", (id,)).fetchone() == (parts[0], 8)
    again = store(connection)
    assert again.load([id])[id].data == whole
    assert {id: content.data for id, content in again.load([id, *parts]).items()}[parts[1]] == encode_text(second)
    assert stored(again, f"{first}\n\n{second}") == [id]
    connection.execute("DELETE FROM contents WHERE id = ?", (parts[1],))
    with pytest.raises(LedgerError, match=f"content {parts[1]} is missing"):
        again.text(id)


@pytest.mark.parametrize(
    "change", ["UPDATE contents SET base = 2 WHERE id = 3", "UPDATE contents SET data = x'6a00000000000001'"]
)
def test_other_parts_than_those_that_were_stored_are_damage(change: str, connection: sqlite3.Connection) -> None:
    contents = store(connection)
    stored(contents, "one", "two")
    ((id, _),) = contents.put_all({"votes": [encode_text("one\n\ntwo")]}, joined=True).values()
    connection.execute(change)
    with pytest.raises(LedgerError, match=r"does not match its digest|cannot be read"):
        store(connection).text(id)


def test_a_text_of_which_one_part_is_stored_or_joined_itself_is_stored_whole(connection: sqlite3.Connection) -> None:
    contents = store(connection)
    stored(contents, "one", "two")
    texts = ["one\n\ntwo", "one\n\nthree", "none\n\ntwo"]
    contents.put_all({"votes": map(encode_text, texts)}, joined=True)
    longer = "one\n\ntwo\n\ntwo"
    contents.put_all({"votes": [encode_text(longer)]}, joined=True)
    joined = [row[0] for row in connection.execute("SELECT id FROM contents WHERE base IS NOT NULL")]
    assert [contents.text(id) for id in joined] == texts[:1]
    assert contents.text(joined[0] + 3) == longer


def test_the_newest_bases_are_kept(connection: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("svd_loop.ledger.contents._RECENT_BYTES", 1000)
    contents = store(connection)
    encoded = [encode_ids([number] * 200) for number in range(4)]
    for place, (content, stored) in enumerate(contents.put("ids", encoded).items()):
        contents.remember(place, Base(stored.id, content))
    assert [place for place in range(4) if contents.recall(place)] == [2, 3]


def test_a_dictionary_is_trained_on_samples_of_several_batches(connection: sqlite3.Connection) -> None:
    texts = store(connection)
    for sentence in SENTENCES:
        texts.put("grader", [encode_text(sentence)])
    assert connection.execute("SELECT count(*) FROM dictionaries").fetchone()[0] == 1
    assert [texts.text(row[0]) for row in connection.execute("SELECT id FROM contents ORDER BY id")] == SENTENCES


@pytest.mark.parametrize(
    ("change", "finding"),
    [
        ("UPDATE contents SET digest = zeroblob(16)", "does not match its digest"),
        ("UPDATE contents SET data = x'00'", "cannot be read"),
        ("UPDATE contents SET dictionary = 7", "dictionary 7 is missing"),
        ("DELETE FROM contents", "is missing"),
    ],
)
def test_damage_is_an_error_never_a_wrong_answer(change: str, finding: str, connection: sqlite3.Connection) -> None:
    ((id, _),) = store(connection).put("grader", [encode_text("right")]).values()
    connection.execute("PRAGMA foreign_keys = OFF")
    connection.execute(change)
    with pytest.raises(LedgerError, match=finding) as caught:
        store(connection).text(id)
    assert "salvage job" in str(caught.value)
    assert not store(connection).intact(id)
