"""The decode loop against `model.generate`, and against itself in other batches."""

import random

import pytest
import torch
from transformers import (
    GenerationConfig,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from policies.engines.decoding import pool as decoding
from policies.engines.decoding import prefill
from policies.engines.transformers import TransformersEngine
from svd_loop.contracts import Choice, FinishReason, Generation, GenerationRequest, Sampling
from svd_loop.errors import EngineError, ModelError
from tests.policies.agreement import agreeing

STOPS = (1, 2)
SIZES = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 512,
    "initializer_range": 0.3,
}


def qwen(**overrides: object) -> PreTrainedModel:
    torch.manual_seed(0)
    return Qwen3ForCausalLM(Qwen3Config(**{**SIZES, **overrides})).eval()


def sliding() -> PreTrainedModel:
    return qwen(use_sliding_window=True, sliding_window=6, max_window_layers=1)


def mistral() -> PreTrainedModel:
    torch.manual_seed(0)
    return MistralForCausalLM(MistralConfig(**SIZES, sliding_window=6)).eval()


def requests(count: int, *, temperature: float = 1.0, seed: int = 0) -> list[GenerationRequest]:
    """Mixed lengths and limits; every prompt comes three times."""
    generator = random.Random(seed)
    prompts = [tuple(generator.choices(range(3, 64), k=generator.randint(1, 20))) for _ in range(-(-count // 3))]
    samplings = [
        Sampling(30, temperature),
        Sampling(5, temperature, top_p=0.9),
        Sampling(12, temperature, top_k=5, min_p=0.01),
        Sampling(1, temperature),
        Sampling(90, temperature),
    ]
    return [
        GenerationRequest(prompts[i // 3], samplings[i % len(samplings)], generator.getrandbits(63))
        for i in range(count)
    ]


def reference(model: PreTrainedModel, request: GenerationRequest) -> Generation:
    """Greedy, one row at a time, by transformers itself."""
    settings = GenerationConfig(
        max_new_tokens=request.sampling.max_tokens, do_sample=False, eos_token_id=list(STOPS), pad_token_id=0
    )
    ids = torch.tensor([request.prompt_ids])
    out = model.generate(ids, attention_mask=torch.ones_like(ids), generation_config=settings)
    tokens = tuple(out[0, ids.shape[1] :].tolist())
    return Generation(tokens, FinishReason.STOP if tokens[-1] in STOPS else FinishReason.LENGTH)


@pytest.mark.parametrize("make", [qwen, sliding, mistral])
def test_greedy_equals_generate(make: object) -> None:
    asked = requests(24, temperature=0.0)
    expected = [reference(make(), request) for request in asked]
    assert agreeing(TransformersEngine(make(), stop_ids=STOPS, batch_size=7).generate(asked), expected) >= 0.95
    assert {answer.finish_reason for answer in expected} == set(FinishReason)


@pytest.mark.parametrize("batch_size", [1, 4, 64])
def test_a_row_is_the_same_in_any_batch_and_order(batch_size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "SPARE_COLUMNS", 3)
    monkeypatch.setattr(prefill, "PREFILL_TOKENS", 30)
    asked = requests(50)
    alone = [TransformersEngine(qwen(), stop_ids=STOPS, batch_size=1).generate([request])[0] for request in asked]
    engine = TransformersEngine(qwen(), stop_ids=STOPS, batch_size=batch_size)
    assert agreeing(engine.generate(asked), alone) >= 0.98
    assert agreeing(engine.generate(asked[::-1]), alone[::-1]) >= 0.98
    assert len({answer.token_ids for answer in alone}) > 40


def test_equal_prompts_with_different_seeds_differ_and_are_prefilled_once() -> None:
    model, seen = watched()
    asked = [GenerationRequest((5, 6, 7), Sampling(20), seed) for seed in range(16)]
    answers = TransformersEngine(model, stop_ids=STOPS).generate(asked)
    assert [shape for shape in seen if shape[1] > 1] == [(1, 3)]
    assert len({answer.token_ids for answer in answers}) > 10


def test_first_tokens_follow_the_models_softmax() -> None:
    from scipy import stats

    model, prompt = qwen(), (5, 6, 7)
    with torch.no_grad():
        expected = model(torch.tensor([prompt])).logits[0, -1].double().softmax(-1)
    asked = [GenerationRequest(prompt, Sampling(1), random.Random(i).getrandbits(63)) for i in range(6000)]
    answers = TransformersEngine(model, stop_ids=STOPS, batch_size=1000).generate(asked)
    counts = torch.bincount(torch.tensor([answer.token_ids[0] for answer in answers]), minlength=64).double()
    common = expected * len(asked) >= 5
    observed = [*counts[common].tolist(), float(counts[~common].sum())]
    wanted = [*(expected[common] * len(asked)).tolist(), float(expected[~common].sum() * len(asked))]
    assert stats.chisquare(observed, wanted).pvalue > 0.01


def watched() -> tuple[PreTrainedModel, list[tuple[int, ...]]]:
    """A model and the shapes of the ids it is called with."""
    model = qwen()
    seen: list[tuple[int, ...]] = []

    def note(_: object, __: object, kwargs: dict[str, torch.Tensor]) -> None:
        seen.append(tuple(kwargs["input_ids"].shape))

    model.register_forward_pre_hook(note, with_kwargs=True)
    return model, seen


def test_finished_rows_leave_the_batch() -> None:
    model, seen = watched()
    asked = [GenerationRequest((5, 6), Sampling(limit), limit) for limit in (1, 2, 2, 2, 60, 60, 60, 60)]
    TransformersEngine(model, stop_ids=(63,), batch_size=8).generate(asked)
    steps = [rows for rows, columns in seen if columns == 1]
    assert steps[0] == 7 and steps[-1] <= 4


def test_waiting_rows_take_the_place_of_finished_ones() -> None:
    model, seen = watched()
    asked = [GenerationRequest((5, 6), Sampling(40 if i < 4 else 4), i) for i in range(40)]
    answers = TransformersEngine(model, stop_ids=(63,), batch_size=8).generate(asked)
    assert [len(answer.token_ids) for answer in answers if answer.finish_reason is FinishReason.LENGTH]
    # In fixed batches of 8 the first would hold its four short rows for 39 steps and the rest would need 4 x 3 more.
    assert sum(columns == 1 for _, columns in seen) < 50


def test_out_of_memory_halves_the_batch_and_loses_nothing(caplog: pytest.LogCaptureFixture) -> None:
    asked = requests(40)
    expected = TransformersEngine(qwen(), stop_ids=STOPS).generate(asked)
    model, calls = qwen(), []

    def scarce(_: object, __: object, kwargs: dict[str, torch.Tensor]) -> None:
        calls.append(len(kwargs["input_ids"]))
        if calls[-1] > 5 and len(calls) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")

    model.register_forward_pre_hook(scarce, with_kwargs=True)
    engine = TransformersEngine(model, stop_ids=STOPS, batch_size=16)
    assert agreeing(engine.generate(asked), expected) >= 0.95
    assert engine.batch_size == 4 and "engine.batch_size 4" in caplog.text


def test_a_single_row_beyond_memory_is_an_error() -> None:
    model = qwen()

    def broke(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    model.register_forward_pre_hook(broke)
    with pytest.raises(EngineError, match=r"model\.max_context"):
        TransformersEngine(model, stop_ids=STOPS, batch_size=2).generate(requests(3))


def test_other_failures_are_not_taken_for_memory() -> None:
    model = qwen()

    def broke(*_: object) -> None:
        raise RuntimeError("shape mismatch")

    model.register_forward_pre_hook(broke)
    with pytest.raises(RuntimeError, match="shape mismatch"):
        TransformersEngine(model, stop_ids=STOPS).generate(requests(3))


def test_damaged_weights_are_an_error_not_nonsense() -> None:
    model = qwen()
    with torch.no_grad():
        model.model.norm.weight[0] = float("nan")
    with pytest.raises(EngineError, match="not finite"):
        TransformersEngine(model, stop_ids=STOPS).generate(requests(3))


def test_edges() -> None:
    engine = TransformersEngine(qwen(), stop_ids=STOPS)
    assert engine.generate([]) == []
    with pytest.raises(EngineError, match="no tokens"):
        engine.generate([GenerationRequest((), Sampling(3), 0)])
    engine.close()
    with pytest.raises(EngineError, match="closed"):
        engine.generate(requests(1))
    with pytest.raises(ModelError, match="eos_token_id"):
        TransformersEngine(qwen(), stop_ids=())


CHOICES = (Choice("a", (5, 6, 7, 1)), Choice("b", (5, 6, 9, 1)), Choice("c", (8, 2)))


def limited(prompt: tuple[int, ...], seed: int, **sampling: float) -> GenerationRequest:
    return GenerationRequest(prompt, Sampling(4, **{"temperature": 1.0, **sampling}), seed, CHOICES)  # type: ignore[arg-type]


def test_an_answer_with_choices_is_one_of_them_alone_and_in_any_batch() -> None:
    engine = TransformersEngine(qwen(), stop_ids=STOPS, batch_size=16)
    free = requests(30)
    rows = [limited(request.prompt_ids, 7 + place) for place, request in enumerate(free)]
    together = engine.generate([row for pair in zip(rows, free, strict=True) for row in pair])
    assert {answer.token_ids for answer in together[::2]} == {choice.token_ids for choice in CHOICES}
    assert all(answer.finish_reason is FinishReason.STOP for answer in together[::2])
    assert agreeing(together[1::2], engine.generate(free)) >= 0.95
    alone = TransformersEngine(qwen(), stop_ids=STOPS, batch_size=1).generate(rows)
    assert agreeing(together[::2], alone) >= 0.95


def test_choices_are_sampled_in_proportion_to_the_models_own_probabilities() -> None:
    model = qwen()
    engine = TransformersEngine(model, stop_ids=STOPS)
    prompt = (3, 10, 20)
    with torch.inference_mode():
        first = model(torch.tensor([prompt])).logits[0, -1].softmax(-1)
        third = model(torch.tensor([(*prompt, 5, 6)])).logits[0, -1].softmax(-1)
    starts = float(first[5] / (first[5] + first[8]))
    wanted = {
        (5, 6, 7, 1): starts * float(third[7] / (third[7] + third[9])),
        (5, 6, 9, 1): starts * float(third[9] / (third[7] + third[9])),
        (8, 2): 1 - starts,
    }
    count = 4000
    found = [answer.token_ids for answer in engine.generate([limited(prompt, seed) for seed in range(count)])]
    for ids, share in wanted.items():
        assert found.count(ids) / count == pytest.approx(share, abs=4 * (share * (1 - share) / count) ** 0.5 + 1e-9)


@pytest.mark.parametrize("filters", [{"temperature": 0.0}, {"top_k": 1}, {"top_p": 0.1}, {"min_p": 1.0}])
def test_filters_apply_to_what_the_choices_leave(filters: dict[str, float]) -> None:
    engine = TransformersEngine(qwen(), stop_ids=STOPS)
    found = {engine.generate([limited((3, 10, 20), seed, **filters)])[0].token_ids for seed in range(8)}
    assert len(found) == 1 and found <= {choice.token_ids for choice in CHOICES}
