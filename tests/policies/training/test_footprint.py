"""Sizes against the truth: torch's own parameters, optimizer, cache, files and peak."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import (
    AutoModelForCausalLM,
    DynamicCache,
    Gemma3TextConfig,
    LlamaConfig,
    PretrainedConfig,
    Qwen3Config,
)

from policies.training.footprint import (
    Shape,
    checkpoint_bytes,
    serving_memory,
    shape_of,
    training_memory,
    version_bytes,
)
from svd_loop.config.update import LaunchSection, LoraSection, UpdateSection
from svd_loop.errors import ModelError
from tests.policies.memory_watch import MemoryWatch

NANO = Path(__file__).parents[3] / "policies" / "nano"
ROWS, TOKENS, RANK = 2, 192, 8


def config_of(kind: type[PretrainedConfig], vocabulary: int = 2000) -> PretrainedConfig:
    return kind(
        vocab_size=vocabulary,
        hidden_size=64,
        intermediate_size=192,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        sliding_window=64,
    )


def shaped(config: PretrainedConfig, folder: Path) -> Shape:
    config.save_pretrained(folder)
    return shape_of(folder)


@pytest.mark.parametrize("kind", [Qwen3Config, LlamaConfig, Gemma3TextConfig])
def test_counts_are_torchs_own(tmp_path: Path, kind: type[PretrainedConfig]) -> None:
    config = config_of(kind)
    shape, model = shaped(config, tmp_path), AutoModelForCausalLM.from_config(config)
    assert shape.parameters == sum(parameter.numel() for parameter in model.parameters())
    cache = DynamicCache(config=config)
    model(input_ids=torch.zeros(1, 100, dtype=torch.long), past_key_values=cache)
    held = sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers)
    assert shape.cache(100, "float32") == pytest.approx(held, rel=0.02)  # a window holds one token less
    adapted = get_peft_model(model, LoraConfig(r=RANK, target_modules="all-linear", task_type="CAUSAL_LM"))
    assert shape.adapter(RANK) == sum(p.numel() for p in adapted.parameters() if p.requires_grad)


def test_the_embedded_checkpoint_has_the_size_of_its_file() -> None:
    shape = shape_of(NANO)
    assert version_bytes(shape, UpdateSection()) == pytest.approx((NANO / "model.safetensors").stat().st_size, rel=0.01)
    assert checkpoint_bytes(shape, UpdateSection()) == 0
    assert checkpoint_bytes(shape, UpdateSection(checkpoint_steps=5)) == 2 * 3 * version_bytes(shape, UpdateSection())
    assert checkpoint_bytes(shape, UpdateSection(choose_from=8)) == 8 * version_bytes(shape, UpdateSection())
    served = serving_memory(shape, "bfloat16", 512)
    assert served.weights == 2 * shape.parameters
    assert (served.rows(served.weights + 3 * served.row), served.rows(0)) == (3, 0)


@pytest.mark.parametrize(
    ("kind", "method", "bf16", "again", "vocabulary"),
    [
        (Qwen3Config, "full", False, False, 2000),
        (Qwen3Config, "lora", True, True, 200),
        (Qwen3Config, "lora", False, False, 200),
        (Gemma3TextConfig, "full", True, True, 200),
        (Gemma3TextConfig, "lora", True, True, 2000),
        (LlamaConfig, "full", False, False, 200),
    ],
)
def test_training_memory_is_near_torchs_peak(
    tmp_path: Path, kind: type[PretrainedConfig], method: str, bf16: bool, again: bool, vocabulary: int
) -> None:
    """Two real steps, all storages counted: an estimate that errs errs upwards, by less than half."""
    config = config_of(kind, vocabulary)
    shape, model = shaped(config, tmp_path), AutoModelForCausalLM.from_config(config).train()
    if again:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    if method == "lora":
        model = get_peft_model(model, LoraConfig(r=RANK, target_modules="all-linear", task_type="CAUSAL_LM"))
        model.enable_input_require_grads()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, foreach=False)
    update = UpdateSection(
        method=method, lora=LoraSection(rank=RANK), micro_batch_size=ROWS, gradient_checkpointing=again
    )
    needed = training_memory(shape, update, tokens=TOKENS, bf16=bf16)
    ids = torch.randint(0, vocabulary, (ROWS, TOKENS))
    with MemoryWatch() as watch:
        for parameter in model.parameters():
            parameter.view(-1)
        for _ in range(2):
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                loss = model(input_ids=ids, labels=ids, use_cache=False).loss
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
    states = optimizer.state.values()
    assert needed.optimizer == sum(s["exp_avg"].nbytes + s["exp_avg_sq"].nbytes for s in states)
    assert needed.gradients == sum(parameter.nbytes for parameter in trained)
    assert 0.95 * watch.peak < needed.total < 1.5 * watch.peak


def test_rows_beyond_the_batch_are_not_counted() -> None:
    shape = shape_of(NANO)
    one, many = UpdateSection(batch_size=4, micro_batch_size=64), UpdateSection(batch_size=4)
    assert training_memory(shape, one, tokens=9, bf16=False) == training_memory(shape, many, tokens=9, bf16=False)


@pytest.mark.parametrize(
    ("strategy", "weights", "states"), [("ddp", 1, 1), ("zero2", 1, 4), ("fsdp2", 4, 4), ("zero3", 4, 4)]
)
def test_shards_divide_what_their_strategy_divides(tmp_path: Path, strategy: str, weights: int, states: int) -> None:
    shape = shaped(config_of(Qwen3Config, 200), tmp_path)
    alone = training_memory(shape, UpdateSection(batch_size=8), tokens=TOKENS, bf16=False)
    launch = LaunchSection(processes=4, strategy=strategy)  # type: ignore[arg-type]
    each = training_memory(shape, UpdateSection(batch_size=8, launch=launch), tokens=TOKENS, bf16=False)
    assert each.weights == alone.weights // weights
    assert (each.gradients, each.optimizer) == (alone.gradients // states, alone.optimizer // states)
    assert 4 * each.activations == alone.activations  # a process computes its share of the batch


def test_what_is_no_language_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "vit"}')
    with pytest.raises(ModelError, match="is no causal language model"):
        shape_of(tmp_path)


def test_preferences_take_more_logits_and_no_second_copy_of_the_weights() -> None:
    shape = shape_of(NANO)
    alone, paired, grouped = (
        training_memory(
            shape, UpdateSection.model_validate({"algorithm": {"type": kind}, "batch_size": 4}), tokens=9, bf16=False
        )
        for kind in ("sft", "dpo", "grpo")
    )
    assert (paired.activations, grouped.activations) == (2 * alone.activations, alone.activations)
    assert paired.logits == pytest.approx(4.2 * alone.logits) and grouped.logits == pytest.approx(2.6 * alone.logits)
    assert paired.weights == grouped.weights == alone.weights
