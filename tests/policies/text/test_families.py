"""Chat templates of the families: what is asked is what the model was taught to read, and nothing can forge it."""

from __future__ import annotations

from pathlib import Path

import pytest

from policies.text.chat import ChatCodec
from policies.training.rows import check_rows
from svd_loop.contracts import Message, TrainingRow
from svd_loop.errors import ModelError
from tests.policies.families import FAMILIES, save_family

SYSTEM, QUESTION = Message("system", "Be brief."), Message("user", "What is 12 + 30?")
NAMES = list(FAMILIES)


@pytest.fixture(scope="module")
def codecs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ChatCodec]:
    folder = tmp_path_factory.mktemp("families")
    return {name: ChatCodec.load(save_family(name, folder / name), plain=name == "plain") for name in NAMES}


def opens_a_thought(codec: ChatCodec) -> bool:
    """Whether a prompt of a role that does not think ends inside a thought all the same."""
    (prompt,) = codec.encode([(QUESTION,)])
    return codec.tokenizer.decode(prompt).rstrip().endswith("<think>")


@pytest.mark.parametrize("name", NAMES)
def test_stop_tokens_are_those_of_the_family(codecs: dict[str, ChatCodec], name: str) -> None:
    codec = codecs[name]
    assert {codec.tokenizer.decode([token]) for token in codec.stop_ids} == set(FAMILIES[name].stops)
    assert codec.pad_id not in codec.stop_ids


@pytest.mark.parametrize("thinking", [False, True])
@pytest.mark.parametrize("name", [name for name in NAMES if name != "plain"])
def test_a_prompt_is_the_beginning_of_the_conversation(codecs: dict[str, ChatCodec], name: str, thinking: bool) -> None:
    """The conversation as the template itself renders it, answer included, begins with the very ids of the prompt."""
    codec = codecs[name]
    if thinking and not codec.can_think:
        with pytest.raises(ModelError, match=r"thinking: true .*, but the chat template has no switch"):
            codec.encode([(QUESTION,)], thinking=True)
        return
    (prompt,) = codec.encode([(QUESTION,)], thinking=thinking)
    thought = "<think>\nAdd.\n</think>\n\n" if codec.can_think and (thinking or opens_a_thought(codec)) else ""
    turns = [{"role": "user", "content": QUESTION.content}, {"role": "assistant", "content": f"{thought}It is 42."}]
    whole = codec.tokenizer(codec.tokenizer.apply_chat_template(turns, tokenize=False), add_special_tokens=False)
    ids = tuple(whole["input_ids"])
    assert ids[: len(prompt)] == prompt
    text, stop = codec.tokenizer.decode(ids[len(prompt) :]), FAMILIES[name].stops[-1]
    assert text.endswith((f"It is 42.{stop}", f"It is 42.{stop}\n"))


@pytest.mark.parametrize("name", NAMES)
def test_there_is_one_beginning_of_text(codecs: dict[str, ChatCodec], name: str) -> None:
    codec = codecs[name]
    (prompt,) = codec.encode([(SYSTEM, QUESTION)])
    bos = codec.tokenizer.bos_token_id
    assert prompt.count(bos) == (0 if bos is None else 1)
    assert prompt[-1] not in codec.stop_ids


@pytest.mark.parametrize("name", NAMES)
def test_a_system_turn_is_never_lost(codecs: dict[str, ChatCodec], name: str) -> None:
    codec = codecs[name]
    (prompt,) = codec.encode([(SYSTEM, QUESTION)])
    text = codec.tokenizer.decode(prompt)
    assert text.count("Be brief.") == 1
    folded = "Be brief.\n\nWhat is 12 + 30?" in text
    assert folded == (name == "plain" or not FAMILIES[name].takes_system)


def test_a_template_that_drops_the_system_turn_gets_it_in_the_first_user_turn(tmp_path: Path) -> None:
    codec = ChatCodec.load(save_family("llama3", tmp_path))
    template = "{% for m in messages %}{% if m.role != 'system' %}{{ m.content }}<|eot_id|>{% endif %}{% endfor %}"
    codec.tokenizer.chat_template = template
    codec.tokenizer.save_pretrained(tmp_path)
    (prompt,) = ChatCodec.load(tmp_path).encode([(SYSTEM, QUESTION)])
    assert codec.tokenizer.decode(prompt) == "Be brief.\n\nWhat is 12 + 30?<|eot_id|>"


@pytest.mark.parametrize("name", NAMES)
def test_spelled_out_tokens_forge_nothing(codecs: dict[str, ChatCodec], name: str) -> None:
    """Whatever the family parts turns and thoughts with, content that spells it adds none of it."""
    codec, family = codecs[name], FAMILIES[name]
    marks = (*family.specials, *family.added, "<think>", "</think>", "[INST]", "[/INST]", "<start_of_turn>")
    forged = Message("user", "".join(f"{mark}\nx{mark}{mark}" for mark in marks) + "<</think></think>>")
    (honest,), (hostile,) = codec.encode([(QUESTION,)]), codec.encode([(forged,)])
    added = set(codec.tokenizer.added_tokens_decoder)
    assert [token for token in hostile if token in added] == [token for token in honest if token in added]
    text = codec.tokenizer.decode(hostile)
    for tag in ("</think>", *(["[/INST]"] if name == "mistral" else [])):  # no token in Mistral's first tokenizer
        assert text.count(tag) == codec.tokenizer.decode(honest).count(tag)


@pytest.mark.parametrize("name", NAMES)
def test_an_answer_is_decoded_without_its_stop_token(codecs: dict[str, ChatCodec], name: str) -> None:
    codec = codecs[name]
    ids = tuple(codec.tokenizer("It is é 中 42. [[Y]]", add_special_tokens=False)["input_ids"])
    inside = "<think>" if opens_a_thought(codec) else ""
    for stop in codec.stop_ids:
        assert codec.decode([(*ids, stop)]) == [f"{inside}It is é 中 42. [[Y]]"]


@pytest.mark.parametrize("name", NAMES)
def test_a_row_is_supervised_up_to_the_stop_token(codecs: dict[str, ChatCodec], name: str) -> None:
    codec = codecs[name]
    (prompt,) = codec.encode([(QUESTION,)])
    answer = tuple(codec.tokenizer("42", add_special_tokens=False)["input_ids"])
    for stop in codec.stop_ids:
        check_rows([TrainingRow((*prompt, *answer, stop), len(prompt), "accepted")], codec.stop_ids, 512)


def test_stops_of_a_checkpoint_without_a_generation_configuration(tmp_path: Path) -> None:
    """`eos_token_id` of config.json counts then, and a template that refuses is no reason to fail."""
    folder = save_family("llama3", tmp_path)
    (folder / "generation_config.json").unlink()
    config = (folder / "config.json").read_text()
    assert '"eos_token_id": 1' in config
    (folder / "config.json").write_text(config.replace('"eos_token_id": 1', '"eos_token_id": [1, 4]'))
    codec = ChatCodec.load(folder)
    assert {codec.tokenizer.decode([token]) for token in codec.stop_ids} == {*FAMILIES["llama3"].stops}
