"""Where a thought ends, on token ids or in the text, whether its marks are special tokens or not."""

from __future__ import annotations

from pathlib import Path

import pytest

from envs.cascade.votes import answer_of
from policies.text.chat import ChatCodec
from svd_loop.contracts import Message
from tests.policies.families import save_family

QUESTION = Message("user", "What is 12 + 30?")


@pytest.fixture(scope="module")
def qwen(tmp_path_factory: pytest.TempPathFactory) -> ChatCodec:
    """Marks are added tokens that are not special; the model opens its thought itself."""
    return ChatCodec.load(save_family("qwen3", tmp_path_factory.mktemp("qwen")))


@pytest.fixture(scope="module")
def thinker(tmp_path_factory: pytest.TempPathFactory) -> ChatCodec:
    """Marks are special tokens; the prompt opens the thought."""
    return ChatCodec.load(save_family("qwen3-thinking", tmp_path_factory.mktemp("thinker")))


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """No mark is a token."""
    return save_family("llama3", tmp_path_factory.mktemp("llama"))


def ids(codec: ChatCodec, text: str) -> tuple[int, ...]:
    return tuple(codec.tokenizer(text, add_special_tokens=False)["input_ids"])


def spelled(codec: ChatCodec, text: str) -> tuple[int, ...]:
    """`text` without a single added token: its characters one by one."""
    return tuple(token for character in text for token in ids(codec, character))


def test_a_thought_is_kept_in_the_text_and_parted_from_the_answer(qwen: ChatCodec) -> None:
    text = "<think>\nAdd é.\n</think>\n\nIt is 42."
    (read,) = qwen.decode([(*ids(qwen, text), *qwen.stop_ids)[: len(ids(qwen, text)) + 1]])
    assert read == text and answer_of(read) == "\n\nIt is 42."


def test_special_marks_are_kept_too_and_the_prompt_may_have_opened_the_thought(thinker: ChatCodec) -> None:
    read = thinker.decode(
        [ids(thinker, "Add.\n</think>\n\n42"), ids(thinker, "Add and"), ids(thinker, "<think>A</think>7")]
    )
    assert read == ["<think>Add.\n</think>\n\n42", "<think>Add and", "<think>A</think>7"]
    assert [answer_of(text).strip() for text in read] == ["42", "", "7"]


@pytest.mark.parametrize("text", ["<think>never closes", "<think>one</think>two<think>three"])
def test_a_thought_that_never_closes_is_no_answer(qwen: ChatCodec, text: str) -> None:
    (read,) = qwen.decode([ids(qwen, text)])
    assert answer_of(read) == "" and qwen.answer_tokens(ids(qwen, text)) == 0


def test_a_mark_spelled_out_of_other_tokens_is_a_quotation(qwen: ChatCodec) -> None:
    quoted = spelled(qwen, "The tag </think> ends a thought, <think> begins one.")
    (read,) = qwen.decode([(*ids(qwen, "<think>Hm.</think>"), *quoted)])
    assert answer_of(read) == "The tag < /think> ends a thought, < think> begins one."


def test_marks_that_are_no_tokens_are_found_in_the_text(llama: Path) -> None:
    codec = ChatCodec.load(llama)
    answer = ids(codec, "<think>Add.</think>It is 42.")
    assert codec.decode([answer]) == ["<think>Add.</think>It is 42."]
    assert codec.answer_tokens(answer) == len(ids(codec, "It is 42."))
    assert codec.answer_tokens(ids(codec, "It is 42.")) == len(ids(codec, "It is 42."))
    assert codec.answer_tokens(ids(codec, "<think>It is 42.")) == 0


def test_a_models_own_marks_become_the_common_ones(llama: Path) -> None:
    codec = ChatCodec.load(llama, thought=("[THINK]", "[/THINK]"))
    (read,) = codec.decode([ids(codec, "[THINK]Is <think> HTML?[/THINK]No, </think> is none.")])
    assert read == "<think>Is < think> HTML?</think>No, < /think> is none."
    (prompt,) = codec.encode([(Message("user", "a[/THINK]b"),)])
    assert "[/THINK]" not in codec.tokenizer.decode(prompt)
    assert codec.identity() != ChatCodec.load(llama).identity()


def test_a_model_that_marks_no_thoughts_may_write_the_tags(llama: Path) -> None:
    codec = ChatCodec.load(llama, thought=None)
    (read,) = codec.decode([ids(codec, "<think> is an invented tag.")])
    assert answer_of(read) == "< think> is an invented tag."


def test_answer_tokens_are_those_behind_the_thought(qwen: ChatCodec, thinker: ChatCodec) -> None:
    answer = ids(qwen, "It is 42.")
    stop = next(iter(qwen.stop_ids))
    assert qwen.answer_tokens((*ids(qwen, "<think>Add.</think>"), *answer, stop)) == len(answer)
    assert qwen.answer_tokens((*answer, stop)) == len(answer)
    assert thinker.answer_tokens(ids(thinker, "It is 42.")) == 0


def test_with_thinking_off_the_prompt_holds_an_empty_thought(qwen: ChatCodec) -> None:
    (off,), (on,) = qwen.encode([(QUESTION,)]), qwen.encode([(QUESTION,)], thinking=True)
    assert off[: len(on)] == on and qwen.tokenizer.decode(off[len(on) :]) == "<think>\n\n</think>\n\n"
    assert qwen.decode([ids(qwen, "42")], thinking=False) == qwen.decode([ids(qwen, "42")], thinking=True) == ["42"]
