"""Whatever a server sends is a record or a `ReplyError`."""

from __future__ import annotations

import json
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.engines.served.replies import (
    LARGEST_REPLY,
    ReplyError,
    printable,
    read_completion,
    read_json,
    read_models,
)

GOOD = {"choices": [{"token_ids": [1, 2], "finish_reason": "stop", "prompt_token_ids": [3]}], "usage": None}
leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
names = st.sampled_from(["choices", "token_ids", "finish_reason", "usage", "prompt_tokens_details", "data", "id", "x"])
anything = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=4), max_leaves=12
)


def test_a_good_answer_is_read() -> None:
    found = read_completion({**GOOD, "usage": {"prompt_tokens_details": {"cached_tokens": 7}}, "id": "x"})
    assert (found.choice.token_ids, found.choice.prompt_token_ids, found.choice.finish_reason) == ([1, 2], [3], "stop")
    assert (found.cached_tokens, read_completion(GOOD).cached_tokens) == (7, 0)


@pytest.mark.parametrize(
    ("found", "place"),
    [
        ([], "the answer"),
        ({}, "choices"),
        ({"choices": "abc"}, "choices"),
        ({"choices": []}, "choices"),
        ({"choices": [None]}, "choices.0"),
        ({"choices": [{"token_ids": [5.0]}]}, "choices.0.token_ids.0"),
        ({"choices": [{"token_ids": [True]}]}, "choices.0.token_ids.0"),
        ({"choices": [{"token_ids": ["5"]}]}, "choices.0.token_ids.0"),
        ({"choices": [{"token_ids": [1, -1]}]}, "choices.0.token_ids.1"),
        ({"choices": [{"token_ids": [10**30]}]}, "choices.0.token_ids.0"),
        ({"choices": [{"token_ids": {"0": 1}}]}, "choices.0.token_ids"),
        ({"choices": [{"finish_reason": ["stop"]}]}, "choices.0.finish_reason"),
        ({**GOOD, "usage": []}, "usage"),
        ({**GOOD, "usage": {"prompt_tokens_details": {"cached_tokens": "7"}}}, "usage.prompt_tokens_details"),
    ],
)
def test_the_first_thing_that_is_wrong_is_named(found: object, place: str) -> None:
    with pytest.raises(ReplyError, match=f"is not a completion: {place}"):
        read_completion(found)


@given(anything)
def test_any_value_is_a_completion_or_an_error(found: object) -> None:
    for read in (read_completion, read_models):
        try:
            read(found)
        except ReplyError as error:
            assert len(str(error)) < 1000


@given(st.text() | anything.map(json.dumps))
def test_any_text_is_a_value_or_an_error(text: str) -> None:
    try:
        read_json(text)
    except ReplyError as error:
        assert len(str(error)) < 1000


@pytest.mark.parametrize("text", ["[" * 200_000, '{"a":' * 100_000, "9" * 5000, "", "<html>", "\0"])
def test_texts_that_break_the_parser_are_errors(text: str) -> None:
    with pytest.raises(ReplyError):
        read_json(text)


def test_the_largest_reply_fits_in_memory_whatever_it_holds() -> None:
    text = '{"choices": [{"logprobs": [' + "[]," * 100_000 + "0]}]}"
    tracemalloc.start()
    found = read_json(text)
    taken = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found and taken / len(text) * LARGEST_REPLY < 2**30


def test_quoted_words_are_short_and_plain() -> None:
    assert printable("a\x1b[31m\nb key-1 " + "x" * 1000, "key-1").startswith("a [31m b (the key) xxx")
    assert len(printable("x" * 1000)) == 500
