"""One-token verdicts over the real engine and a tiny model."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from policies.opening import open_policy
from policies.policy import ModelPolicy
from policies.text.choices import choice_tokens
from policies.versions.checkpoints import load_codec, load_model
from policies.versions.weights import WeightStore
from svd_loop.config.engines import TransformersEngineSection
from svd_loop.config.sections import ModelSection
from svd_loop.contracts import AgentCall, CallId, ChoiceRequest, Message, Role, Sampling
from svd_loop.errors import ConfigError, EngineError

VERDICTS = ("[[Y]]", "[[N]]")


def call(number: int, text: str, choices: tuple[str, ...] = VERDICTS) -> AgentCall:
    place = CallId("prefilter", 1, Role.GRADER, f"p{number}", stage="correctness")
    return AgentCall(place, (Message("user", text),), "t/1", choices)


def open_tiny(checkpoint: Path, folder: Path, max_context: int = 512) -> ModelPolicy:
    return open_policy(
        WeightStore(folder).add_base(checkpoint),
        samplings={Role.GRADER: Sampling(6)},
        engine_settings=TransformersEngineSection(batch_size=8),
        model_settings=ModelSection.model_validate(
            {"path": str(checkpoint), "device": "cpu", "max_context": max_context}
        ),
        job_seed=0,
    )


def test_log_probabilities_are_the_models_own_whatever_is_asked_beside_them(checkpoint: Path, tmp_path: Path) -> None:
    policy = open_tiny(checkpoint, tmp_path)
    calls = [call(n, "is it right? " * (1 + n % 5) + str(n)) for n in range(12)]
    replies = policy.generate(calls)
    stored = WeightStore(tmp_path).load(0)
    codec, model = load_codec(stored), load_model(stored, dtype="float32", device="cpu")
    shared, (yes, no) = choice_tokens(codec, VERDICTS)
    for item, reply in zip(calls, replies, strict=True):
        (prompt,) = codec.encode([item.messages])
        assert reply.prompt_ids == (*prompt, *shared) and reply.prompt_tokens == len(reply.prompt_ids)
        assert (reply.call, reply.token_ids, reply.output_tokens) == (item.id, (), 0)
        with torch.inference_mode():
            expected = model(torch.tensor([reply.prompt_ids])).logits[0, -1].log_softmax(-1)
        assert json.loads(reply.text) == pytest.approx([float(expected[yes]), float(expected[no])], abs=1e-4)
    written = replace(calls[3], choices=(), id=replace(calls[3].id, purpose="train"))
    mixed = policy.generate([calls[0], written, calls[1]])
    assert [reply.text for reply in mixed[::2]] == [reply.text for reply in replies[:2]]
    assert mixed[1].token_ids
    policy.close()


def test_choices_are_part_of_the_key(checkpoint: Path, tmp_path: Path) -> None:
    policy = open_tiny(checkpoint, tmp_path)
    keys = {policy.key(call(0, "x", choices)) for choices in ((), VERDICTS, VERDICTS[::-1])}
    assert len(keys) == 3
    policy.close()


def test_what_choices_share_is_put_behind_the_prompt(checkpoint: Path, tmp_path: Path) -> None:
    codec = load_codec(WeightStore(tmp_path).add_base(checkpoint))
    shared, (first, second) = choice_tokens(codec, ("aaa b c", "aaa b d"))
    together = codec.tokenizer("aaa b c", add_special_tokens=False)["input_ids"]
    assert tuple(together[: len(shared) + 1]) == (*shared, first) and first != second and shared
    with pytest.raises(ConfigError, match="cannot tell"):
        choice_tokens(codec, ("same", "same"))


def test_what_cannot_be_compared_is_an_error(checkpoint: Path, tmp_path: Path) -> None:
    policy = open_tiny(checkpoint, tmp_path, max_context=32)
    with pytest.raises(EngineError, match=r"model\.max_context"):
        policy.generate([call(0, "far too long " * 40)])
    engine = policy._engine
    with pytest.raises(EngineError, match="no tokens"):
        engine.choice_logprobs([ChoiceRequest((), (1, 2))])  # type: ignore[attr-defined]
    policy.close()
    with pytest.raises(EngineError, match="closed"):
        policy.generate([call(0, "x")])


def test_an_engine_that_cannot_compare_is_named(checkpoint: Path, tmp_path: Path) -> None:
    policy = open_tiny(checkpoint, tmp_path)

    class Writes:
        generate = close = None

    policy._engine = Writes()  # type: ignore[assignment]
    with pytest.raises(ConfigError, match=r"cascade\.prefilter: this engine cannot"):
        policy.generate([call(0, "x")])
