"""A tiny model that thinks, and what a budget of thought must do to its answers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from policies.text.chat import ChatCodec
from svd_loop.contracts import Generation, GenerationRequest, Sampling
from tests.policies.families import save_family


def thoughts(folder: Path, *opening: str) -> tuple[list[GenerationRequest], ChatCodec, int]:
    """Save such a model; thirty questions that end in `opening`, its codec, and the token that ends a thought."""
    codec = ChatCodec.load(save_family("qwen3-thinking", folder, head_dim=32))
    tokenizer = codec.tokenizer
    question = tokenizer.encode("What is 12 + 30?", add_special_tokens=False)
    prompt = (*question, *tokenizer.convert_tokens_to_ids(list(opening)))
    asked = [GenerationRequest(prompt, Sampling(40, 1.0), 2**62 + seed) for seed in range(30)]
    return asked, codec, tokenizer.convert_tokens_to_ids("</think>")


def assert_thoughts_end(answers: Sequence[Generation], end: int, *, budget: int) -> None:
    """Each thought ends by itself or by force after `budget` tokens, and the answer goes on from there."""
    length = [answer.token_ids.index(end) for answer in answers if end in answer.token_ids]
    assert len(length) == len(answers)
    assert max(length) == budget
    assert length.count(budget) > len(answers) // 2  # without a budget nearly all would think to the last token
    assert sum(len(answer.token_ids) > 2 * budget for answer in answers) > len(answers) // 2
