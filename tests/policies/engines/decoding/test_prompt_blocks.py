"""Prompts read with what earlier ones had in common, against prompts read from their start."""

from __future__ import annotations

import random

import pytest
import torch
from transformers import DynamicCache, PreTrainedModel, Qwen3Config, Qwen3ForCausalLM

from policies.engines.decoding import prefill
from policies.engines.decoding.prompt_blocks import BLOCK, PromptBlocks
from policies.engines.transformers import TransformersEngine
from svd_loop.contracts import GenerationRequest, Sampling
from tests.policies.agreement import agreeing

STOPS = (1, 2)
BIG = 2**26
Tokens = tuple[int, ...]


@pytest.fixture(scope="module")
def model() -> PreTrainedModel:
    torch.manual_seed(0)
    sizes = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8}
    return Qwen3ForCausalLM(Qwen3Config(**sizes, **heads, initializer_range=0.3)).eval()  # type: ignore[arg-type]


def judging() -> list[Tokens]:
    """Prompts like a judge's: a system turn, 3 questions, 3 answers to each, 2 stages; lengths are no whole blocks."""
    draw = random.Random(5)

    def some(count: int) -> Tokens:
        return tuple(draw.choices(range(3, 64), k=count))

    system, stages = some(20), [some(7), some(45)]
    prompts = []
    for question in [some(30), some(41), some(1)]:
        for answer in [some(50), some(33), some(2)]:
            prompts += [(*system, *question, *answer, *stage) for stage in stages]
    return prompts


def asked(prompts: list[Tokens], *, votes: int = 2) -> list[GenerationRequest]:
    return [
        GenerationRequest(ids, Sampling(6), 100 * place + vote)
        for place, ids in enumerate(prompts)
        for vote in range(votes)
    ]


def read_by(model: PreTrainedModel, seen: list[int]) -> torch.utils.hooks.RemovableHandle:
    """Count the prompt tokens, without padding, that the model is called with."""

    def note(_: object, __: object, kwargs: dict[str, torch.Tensor]) -> None:
        if (mask := kwargs["attention_mask"]).dim() == 2:  # a step has a mask of four dimensions
            seen.append(int(mask[:, -kwargs["input_ids"].shape[1] :].sum()))

    return model.register_forward_pre_hook(note, with_kwargs=True)


@pytest.mark.parametrize(("batch_size", "small_passes"), [(3, False), (64, False), (64, True)])
def test_answers_are_the_same_as_without_and_each_shared_block_is_read_once(
    model: PreTrainedModel, batch_size: int, small_passes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests, seen = asked(judging()), list[int]()
    expected = TransformersEngine(model, stop_ids=STOPS).generate(requests)
    if small_passes:
        monkeypatch.setattr(prefill, "PREFILL_TOKENS", 150)
    hook = read_by(model, seen)
    try:
        engine = TransformersEngine(model, stop_ids=STOPS, batch_size=batch_size, prefix_bytes=BIG)
        once = engine.generate(requests)
        first = sum(seen)
        seen.clear()
        again = engine.generate(requests)
        assert agreeing(once, expected) >= 0.97 and agreeing(again, expected) >= 0.97
    finally:
        hook.remove()
    prompts = judging()
    blocks = {ids[: BLOCK * (count + 1)] for ids in prompts for count in range(len(ids) // BLOCK)}
    # Behind the last known block of a prompt there is at least one token, read for each vote that comes by itself.
    assert engine.prefix_cache.prompt_tokens == 2 * 2 * sum(map(len, prompts))
    assert engine.prefix_cache.prompt_tokens - engine.prefix_cache.cached_tokens == first + sum(seen)
    assert sum(answer.cached_tokens for answer in (*once, *again)) == engine.prefix_cache.cached_tokens
    for answer, request in zip(again, requests, strict=True):
        assert answer.cached_tokens >= (len(request.prompt_ids) - 1) // BLOCK * BLOCK
    rests = 2 * sum((len(ids) - 1) % BLOCK + 1 for ids in prompts)
    assert first <= len(blocks) * BLOCK + rests < 0.4 * 2 * sum(map(len, prompts))
    assert sum(seen) <= rests  # the second time, nothing else


@pytest.mark.parametrize("blocks", [0, 1, 7])
def test_answers_are_the_same_when_blocks_give_way(model: PreTrainedModel, blocks: int) -> None:
    block = 2 * 2 * 2 * 8 * 4 * BLOCK  # keys and values, layers, heads, size, bytes
    requests = asked(judging(), votes=1)
    expected = TransformersEngine(model, stop_ids=STOPS).generate(requests)
    engine = TransformersEngine(model, stop_ids=STOPS, batch_size=4, prefix_bytes=blocks * block + 1)
    for wave in (requests, requests[:3], requests[::-1], requests):
        assert agreeing(engine.generate(wave), [expected[requests.index(one)] for one in wave]) >= 0.94


def stored(prompts: list[Tokens], cache: PromptBlocks) -> list[list[int]]:
    """Add prompts, whose keys are their tokens and whose values are 100 more."""
    for ids in prompts:
        source = DynamicCache()
        keys = torch.tensor(ids, dtype=torch.float32)[None, None, :, None]
        source.update(keys, keys + 100, 0)
        cache.add([ids], [cache.match(ids)], source)
    return [cache.match(ids) for ids in prompts]


def numbers(start: int, count: int) -> Tokens:
    return tuple(range(start, start + count))


def test_the_longest_known_prefix_is_found_and_given_back() -> None:
    cache = PromptBlocks(BIG)
    cache.begin_wave([])
    long, short = numbers(0, 3 * BLOCK + 5), (*numbers(0, BLOCK), *numbers(500, 2 * BLOCK))
    paths = stored([long, short], cache)
    assert [len(path) for path in paths] == [3, 2] and paths[0][0] == paths[1][0]
    assert len(cache) == 5
    assert len(cache.match(numbers(0, 3 * BLOCK))) == 2, "the last token is always read"
    assert cache.match(numbers(1, 40)) == []
    past = cache.past([paths[0], paths[1][:1]])
    keys, values = past.layers[0].keys, past.layers[0].values  # type: ignore[attr-defined]
    assert keys.shape == (2, 1, 3 * BLOCK, 1)
    assert keys[0, 0, :, 0].tolist() == list(long[: 3 * BLOCK])
    assert values[1, 0, -BLOCK:, 0].tolist() == [100.0 + token for token in short[:BLOCK]]


def test_least_recently_used_blocks_give_way_but_none_of_this_wave() -> None:
    cache = PromptBlocks(4 * 2 * 4 * BLOCK)  # four blocks of one head of size 1
    one, two, three = numbers(0, 2 * BLOCK + 1), numbers(100, 2 * BLOCK + 1), numbers(200, 3 * BLOCK + 1)
    cache.begin_wave([])
    stored([one, two], cache)
    assert (len(cache.match(one)), len(cache.match(two))) == (2, 2)
    stored([three], cache)
    assert cache.match(three) == [], "full of blocks of this wave"
    cache.begin_wave([one])
    stored([three], cache)
    assert (len(cache.match(one)), len(cache.match(two)), len(cache.match(three))) == (2, 0, 2)
    cache.clear()
    assert len(cache) == 0 and cache.match(one) == []


def test_models_with_sliding_windows_read_every_prompt_from_its_start() -> None:
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        initializer_range=0.3,
        use_sliding_window=True,
        sliding_window=6,
        max_window_layers=1,
    )
    sliding = Qwen3ForCausalLM(config).eval()
    requests = asked(judging()[:4], votes=1)
    expected = TransformersEngine(sliding, stop_ids=STOPS).generate(requests)
    engine = TransformersEngine(sliding, stop_ids=STOPS, prefix_bytes=BIG)
    assert engine.generate(requests) == expected
    assert engine.prefix_cache.cached_tokens == 0
