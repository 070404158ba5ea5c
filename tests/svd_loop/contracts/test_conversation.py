from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from svd_loop.contracts import Message
from svd_loop.contracts.conversation import MARK, as_data, conversation_text, shown_text, turns_of

contents = st.text(min_size=1).map(lambda text: text.replace(MARK, "")).filter(str.strip)


@given(st.none() | contents, st.lists(contents, min_size=1, max_size=5))
def test_turns_survive_whatever_they_say(system: str | None, said: list[str]) -> None:
    said = said[: len(said) - 1 + len(said) % 2]  # the question comes last
    turns = [] if system is None else [Message("system", system)]
    turns += [Message("assistant" if place % 2 else "user", content) for place, content in enumerate(said)]
    assert turns_of(conversation_text(turns)) == tuple(turns)


def test_a_plain_question_stays_as_it_is() -> None:
    for text in ("What is 2 + 3?", "System: be brief\n\nUser: hello", ""):
        assert turns_of(text) == (Message("user", text),)
        assert shown_text(text) == as_data(text) == text


def test_a_reader_sees_a_transcript_without_marks() -> None:
    text = conversation_text([Message("system", "Be brief."), Message("user", "2 + 3?")])
    assert shown_text(text) == "System: Be brief.\n\nUser: 2 + 3?"
    assert as_data(text) == [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "2 + 3?"}]
