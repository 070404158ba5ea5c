"""Post-training of nano from scratch, as a plain PyTorch loop that runs in minutes on two cores.

Supervised on completions only, like the loop's own updates. Rows of similar length share a batch, padding is on the
right, where a causal model does not attend, and logits are computed only at supervised tokens.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from random import Random

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from torch import nn
from transformers import GenerationConfig, PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from svd_loop.nano import corpus
from svd_loop.nano.corpus import Row
from svd_loop.nano.tokenizer import ASSISTANT, MAX_LENGTH, render, train_tokenizer

_TOKENIZER_ROWS = 20_000
_POOL_ROWS = 4_096
_PHASES_AT_MOST = 1_000
_IGNORED = -100

DRILL_UNTIL = 0.4
"""Share of a phase's steps after which the drill share is constant."""


@dataclass(frozen=True, slots=True)
class Size:
    """Width and depth of a nano model; the head dimension is 32."""

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    intermediate: int
    vocab: int = 1024


SIZES: dict[str, Size] = {
    "small": Size(hidden=96, layers=3, heads=3, kv_heads=1, intermediate=256),
    "nano": Size(hidden=128, layers=4, heads=4, kv_heads=2, intermediate=384),
    "large": Size(hidden=192, layers=6, heads=6, kv_heads=2, intermediate=576),
}


@dataclass(frozen=True, slots=True)
class Phase:
    """A phase of training with a cosine schedule of its own.

    Attributes:
        steps: optimizer steps.
        drill_start: share of rows with arithmetic only at the first step.
        drill_end: that share after ``DRILL_UNTIL`` of the steps; it falls linearly in between.
    """

    steps: int
    drill_start: float
    drill_end: float

    def drill_share(self, step: int) -> float:
        """Return the share of drill rows at a step of this phase."""
        done = min(1.0, step / (DRILL_UNTIL * self.steps))
        return self.drill_start + (self.drill_end - self.drill_start) * done


PHASES: tuple[Phase, ...] = (
    Phase(steps=8_000, drill_start=0.7, drill_end=0.1),
    Phase(steps=3_000, drill_start=0.15, drill_end=0.1),
)
"""The recipe of the shipped checkpoint: arithmetic first, then a second pass over the mixture with a warm restart."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that determines the weights; stored with the checkpoint.

    Attributes:
        size: a key of ``SIZES``.
        seed: seed of weights, data and order.
        phases: run in order on the same weights, each with fresh optimizer state and data.
        batch_tokens: tokens in a batch, including padding.
        learning_rate: peak value, after ``warmup`` steps; a cosine then lowers it to ``floor`` of the peak.
        save_every: steps between checkpoints, so that an interrupted run leaves a usable one.
    """

    size: str
    seed: int
    phases: tuple[Phase, ...] = PHASES
    batch_tokens: int = 2_400
    learning_rate: float = 2e-3
    warmup: int = 100
    floor: float = 0.02
    weight_decay: float = 0.05
    save_every: int = 500


@dataclass(frozen=True, slots=True)
class PhaseReport:
    """Tokens and time of a phase, and the loss of its last batch."""

    phase: Phase
    tokens: int
    seconds: float
    loss: float


@dataclass(frozen=True, slots=True)
class TrainingReport:
    """Report of a checkpoint's training, as written to ``training.json``."""

    recipe: Recipe
    parameters: int
    threads: int
    phases: tuple[PhaseReport, ...]


def new_model(size: Size, tokenizer: PreTrainedTokenizerFast) -> Qwen3ForCausalLM:
    """Return a newly initialised Qwen3 of the given size."""
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=size.hidden,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        num_key_value_heads=size.kv_heads,
        head_dim=32,
        intermediate_size=size.intermediate,
        max_position_embeddings=MAX_LENGTH,
        rope_parameters={"rope_type": "default", "rope_theta": 10_000.0},
        tie_word_embeddings=True,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
    )
    model: Qwen3ForCausalLM = Qwen3ForCausalLM(config)  # type: ignore[no-untyped-call]
    model.generation_config = GenerationConfig(  # type: ignore[no-untyped-call]
        do_sample=True,
        temperature=1.0,
        top_p=1.0,
        top_k=0,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return model


def train(recipe: Recipe, output_dir: Path) -> TrainingReport:
    """Train a tokenizer and a model and save both, with their ``training.json``."""
    torch.manual_seed(recipe.seed)
    model, tokenizer = _fresh(recipe)
    first = recipe.seed * _PHASES_AT_MOST  # no phase repeats rows of another one
    done = tuple(
        _run_phase(model, tokenizer, recipe, phase, first + index, output_dir)
        for index, phase in enumerate(recipe.phases)
    )
    report = TrainingReport(recipe, model.num_parameters(), torch.get_num_threads(), done)
    (output_dir / "training.json").write_text(json.dumps(asdict(report), indent=2) + "\n", encoding="utf-8")
    return report


def _fresh(recipe: Recipe) -> tuple[Qwen3ForCausalLM, PreTrainedTokenizerFast]:
    size = SIZES[recipe.size]
    texts = (render(row.user_text, row.completion_text) for row in corpus.rows(_TOKENIZER_ROWS, recipe.seed + 1))
    tokenizer = train_tokenizer(texts, size.vocab)
    return new_model(size, tokenizer), tokenizer


def _run_phase(
    model: Qwen3ForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    recipe: Recipe,
    phase: Phase,
    data_seed: int,
    output_dir: Path,
) -> PhaseReport:
    """Train one phase and save the checkpoint."""
    optimizer = torch.optim.AdamW(_groups(model, recipe), lr=recipe.learning_rate, betas=(0.9, 0.95))
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, recipe, phase.steps))
    batches = islice(_batches(phase, recipe, data_seed, tokenizer), phase.steps)
    started, tokens, loss = time.monotonic(), 0, math.nan
    with _progress() as bar:
        task = bar.add_task("nano", total=phase.steps, loss=math.nan, speed=0.0)
        for step, (ids, labels) in enumerate(batches, 1):
            loss = _step(model, ids, labels, optimizer)
            scheduler.step()
            tokens += ids.numel()
            bar.update(task, advance=1, loss=loss, speed=tokens / (time.monotonic() - started))
            if step % recipe.save_every == 0:
                save(model, tokenizer, output_dir)
    save(model, tokenizer, output_dir)
    return PhaseReport(phase, tokens, time.monotonic() - started, loss)


def save(model: Qwen3ForCausalLM, tokenizer: PreTrainedTokenizerFast, output_dir: Path) -> None:
    """Write a checkpoint that any transformers-compatible engine can load."""
    output_dir.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(output_dir)
    tokenizer.save_pretrained(output_dir)


def _step(model: Qwen3ForCausalLM, ids: torch.Tensor, labels: torch.Tensor, optimizer: torch.optim.Optimizer) -> float:
    """Run one update; ``ids`` and ``labels`` are (rows, length), labels already shifted to predict the next token."""
    supervised = labels != _IGNORED
    hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state[supervised]
    loss = nn.functional.cross_entropy(model.lm_head(hidden), labels[supervised])
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    return float(loss.detach())


def _batches(
    phase: Phase, recipe: Recipe, data_seed: int, tokenizer: PreTrainedTokenizerFast
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield batches without end: pools of new rows are sorted by length, cut to the token budget and shuffled."""
    rng = Random(data_seed)
    step = pool = 0
    while True:
        pool_seed = data_seed * 1_000_003 + pool + 2
        drilled = round(_POOL_ROWS * phase.drill_share(step))
        encoded = _encode(list(corpus.rows(_POOL_ROWS - drilled, pool_seed)), tokenizer)
        encoded += _encode_drills(list(corpus.drills(drilled, pool_seed)), tokenizer)
        pool += 1
        encoded.sort(key=lambda pair: len(pair[0]))
        batches: list[list[_Encoded]] = [[]]
        for pair in encoded:
            if (len(batches[-1]) + 1) * len(pair[0]) > recipe.batch_tokens:
                batches.append([])
            batches[-1].append(pair)
        rng.shuffle(batches)
        for batch in batches:
            step += 1
            yield _tensors(batch, tokenizer.pad_token_id)


_Encoded = tuple[list[int], list[int]]
"""Token ids, and labels in which all unsupervised tokens are masked."""


def _encode(batch: list[Row], tokenizer: PreTrainedTokenizerFast) -> list[_Encoded]:
    """Encode rows, with the prompt masked in the labels."""
    prompts = tokenizer([render(row.user_text) for row in batch], add_special_tokens=False)["input_ids"]
    # Encoded separately, as in generation: the reply's first token must not merge with the prompt's last.
    replies = tokenizer([row.completion_text + tokenizer.eos_token for row in batch], add_special_tokens=False)
    return [
        (head + tail, [_IGNORED] * len(head) + tail) for head, tail in zip(prompts, replies["input_ids"], strict=True)
    ]


def _encode_drills(batch: list[tuple[tuple[str, str], ...]], tokenizer: PreTrainedTokenizerFast) -> list[_Encoded]:
    """Encode drill rows, with everything except the results masked; signs and digits are separate tokens."""
    space, start = tokenizer.encode(" "), tokenizer.encode(ASSISTANT)
    symbol = {sign: tokenizer.encode(sign)[0] for sign in "0123456789+-*/="}
    encoded = []
    for row in batch:
        ids, labels = list(start), [_IGNORED]
        for expression, result in row:
            given = [symbol[sign] for sign in expression]
            # The space is supervised too, because it ends a number.
            target = [symbol[sign] for sign in result] + space
            ids += given + target
            labels += [_IGNORED] * len(given) + target
        encoded.append((ids, labels))
    return encoded


def _tensors(batch: list[_Encoded], pad: int) -> tuple[torch.Tensor, torch.Tensor]:
    width = max(len(ids) for ids, _ in batch) - 1
    inputs = torch.full((len(batch), width), pad)
    labels = torch.full((len(batch), width), _IGNORED)
    for row, (ids, wanted) in enumerate(batch):
        inputs[row, : len(ids) - 1] = torch.tensor(ids[:-1])
        labels[row, : len(ids) - 1] = torch.tensor(wanted[1:])
    return inputs, labels


def _groups(model: nn.Module, recipe: Recipe) -> list[dict[str, object]]:
    """Return parameter groups with weight decay on matrices only; norms have one dimension."""
    matrices = [p for p in model.parameters() if p.dim() > 1]
    vectors = [p for p in model.parameters() if p.dim() <= 1]
    return [{"params": matrices, "weight_decay": recipe.weight_decay}, {"params": vectors, "weight_decay": 0.0}]


def _rate(step: int, recipe: Recipe, steps: int) -> float:
    """Return the learning rate factor: linear warm-up, then a cosine down to the floor."""
    if step < recipe.warmup:
        return (step + 1) / recipe.warmup
    done = (step - recipe.warmup) / max(1, steps - recipe.warmup)
    return recipe.floor + (1 - recipe.floor) * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


def _progress() -> Progress:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:.0f}/{task.total:.0f}  loss {task.fields[loss]:.3f}"),
        TextColumn("{task.fields[speed]:,.0f} tok/s"),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=Console(stderr=True))
