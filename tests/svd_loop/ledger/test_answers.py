from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from svd_loop.contracts import BUILT_IN_ROLES, AgentCall, CallId, FinishReason, Message, PolicyVersion, Reply
from svd_loop.errors import LedgerError
from svd_loop.ledger import Ledger
from svd_loop.ledger.answers import key_bytes
from tests.svd_loop.ledger import samples

TEXTS = st.text(st.characters(exclude_categories=()))  # lone surrogates included
NAMES = st.text(st.characters(exclude_categories=["Cs"]))  # NUL included
IDS = st.lists(st.integers(0, 2**63 - 1) | st.integers(0, 70_000)).map(tuple)
KEYS = st.binary(min_size=1, max_size=40).map(bytes.hex)
NUMBERS = st.integers(0, 2**31)
CALLS = st.builds(CallId, NAMES, NUMBERS, st.sampled_from(BUILT_IN_ROLES), NAMES, NUMBERS, NAMES, NUMBERS, NUMBERS)


@st.composite
def answered(draw: st.DrawFn) -> tuple[AgentCall, Reply]:
    id = draw(CALLS)
    call = AgentCall(id, (Message("user", "asked"),), draw(NAMES))
    version = PolicyVersion(draw(NUMBERS), draw(NAMES))
    reply = Reply(
        id,
        draw(TEXTS),
        draw(st.sampled_from(FinishReason)),
        version,
        draw(IDS),
        draw(IDS),
        draw(NUMBERS),
        draw(NUMBERS),
    )
    return call, reply


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(KEYS, answered(), max_size=8), st.sets(KEYS))
def test_any_reply_comes_back_as_it_was(written: dict[str, tuple[AgentCall, Reply]], others: set[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        with Ledger.open(Path(folder), samples.config()) as ledger:
            ledger.record([(key, call, reply) for key, (call, reply) in written.items()])
        with Ledger.open(Path(folder), samples.config()) as ledger:
            assert ledger.lookup([*written, *others]) == {key: reply for key, (_, reply) in written.items()}


@given(st.text())
def test_a_key_is_stored_exactly_or_refused(key: str) -> None:
    try:
        assert key_bytes(key).hex() == key
    except LedgerError as error:
        assert "hex digest" in str(error)


@pytest.mark.parametrize("key", ["", "AB", "abc", "ab cd", "policy-1"])
def test_keys_that_would_change_are_refused_before_anything_is_written(key: str, tmp_path: Path) -> None:
    good = samples.items([samples.solve("p1", 0)])
    with Ledger.open(tmp_path, samples.config()) as ledger:
        with pytest.raises(LedgerError, match="hex digest"):
            ledger.record([*good, (key, good[0][1], good[0][2])])
        assert list(ledger.query("SELECT * FROM replies")) == []
        ledger.record(good)
        assert ledger.lookup([good[0][0]]) == {good[0][0]: good[0][2]}


def test_the_first_answer_to_a_question_stays(tmp_path: Path) -> None:
    (key, call, reply), (_, _, other) = samples.items([samples.solve("p1", 0), samples.solve("p1", 1)])
    with Ledger.open(tmp_path, samples.config()) as ledger:
        ledger.record([(key, call, reply), (key, call, other)])
        ledger.record([(key, call, other)])
        assert ledger.lookup([key]) == {key: reply}


def test_equal_contents_are_stored_once(tmp_path: Path) -> None:
    calls = [samples.vote("p1", 0, number) for number in range(50)]
    with Ledger.open(tmp_path, samples.config()) as ledger:
        ledger.record(samples.items(calls))
        (row,) = ledger.query("SELECT count(DISTINCT prompt_ids) AS prompts, count(*) AS answers FROM replies")
    assert row == {"prompts": 1, "answers": 50}


def test_a_name_with_a_lone_surrogate_is_a_clear_error(tmp_path: Path) -> None:
    with Ledger.open(tmp_path, samples.config()) as ledger, pytest.raises(LedgerError, match="lone surrogate"):
        ledger.record(samples.items([samples.solve("p\ud800", 0)], samples.StubPolicy()))


def test_nothing_orders_by_the_clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Ledger.open(tmp_path, samples.config()) as ledger:
        for number, now in enumerate([2e9, 1e9, 0.0]):  # the clock goes back
            monkeypatch.setattr("time.time", lambda now=now: now)
            ledger.record(samples.items([samples.solve(f"p{number}", 0)]))
            samples.commit_rounds(ledger, number)
        written = [row["prompt_id"] for row in ledger.query("SELECT prompt_id FROM replies ORDER BY seq")]
        assert written == ["p0", "p1", "p2"]
        assert [record.round for record in ledger.state().history] == [0, 1, 2]
