"""Check that packed rows cannot attend to each other, with the attention that is about to train.

Packing depends on the attention implementation: one that ignores where a row begins trains every
row on its neighbours, while the loss looks normal. This depends on library versions, models and kernels,
so it is tested on the model in training, before its first step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from svd_loop.contracts import TrainingRow
from svd_loop.errors import ConfigError

_ROWS = 3
_TOKENS = 128
_LEAK = {"float32": 1e-4, "bfloat16": 1e-2}
"""Largest change of a log probability when a neighbour changes, in nats: equal shapes, so nearly nothing."""
_DRIFT = {"float32": 1e-3, "bfloat16": 5e-2}
"""Mean difference of log probabilities between a row in a pack and the row alone, in nats."""


def require_isolation(
    model: Any, rows: Sequence[TrainingRow], collate: Callable[[list[dict[str, Any]]], dict[str, Any]], precision: str
) -> None:
    """Compare packed rows with single rows, and with the same pack behind another first row.

    Args:
        model: as it will be trained; every process of a sharded one has to call this.
        rows: a few short ones are used, cut to `_TOKENS` tokens.
        collate: packs examples into one sequence.
        precision: `float32` or `bfloat16`, as computed in.

    Raises:
        ConfigError: rows attend to each other, or packing changes the result.
    """
    probe = [list(row.input_ids[:_TOKENS]) for row in sorted(rows, key=lambda row: len(row.input_ids))[:_ROWS]]
    probe = probe if len(probe) > 1 else probe * 2
    vocabulary = model.config.get_text_config().vocab_size
    other = [[(token + 1) % vocabulary for token in probe[0]], *probe[1:]]
    packed, changed = _logprobs(model, collate, probe), _logprobs(model, collate, other)
    alone = [_logprobs(model, collate, [ids])[0] for ids in probe]
    leak = max(float((a - b).abs().max()) for a, b in zip(packed[1:], changed[1:], strict=True))
    drift = max(float((a - b).abs().mean()) for a, b in zip(packed, alone, strict=True))
    if leak <= _LEAK[precision] and drift <= _DRIFT[precision]:
        return
    what = (
        f"rows see each other: changing one moves its neighbours' log probabilities by up to {leak:.2g}"
        if leak > _LEAK[precision]
        else f"a packed row's log probabilities are {drift:.2g} off those of the row alone"
    )
    raise ConfigError(
        f"update.packing: with the attention {model.config._attn_implementation!r} of this model {what}; "
        "set update.packing: false, or update.attention to one that isolates rows (flash_attention_2 on "
        "a GPU, sdpa for most models)"
    )


def _logprobs(model: Any, collate: Callable[[list[dict[str, Any]]], dict[str, Any]], rows: list[list[int]]) -> Any:
    """Log probability of every token but each row's first, per row."""
    import torch

    device = next(model.parameters()).device
    batch = collate([{"input_ids": ids, "labels": ids} for ids in rows])
    inputs = {
        name: value.to(device) if isinstance(value, torch.Tensor) else value
        for name, value in batch.items()
        if name != "labels"
    }
    training = model.training
    model.eval()
    with torch.no_grad():
        logits = model(**inputs, use_cache=False).logits[0].float()
    model.train(training)
    found, start = [], 0
    for ids in rows:
        here = logits[start : start + len(ids) - 1].log_softmax(-1)
        found.append(here.gather(1, torch.tensor(ids[1:], device=device)[:, None])[:, 0])
        start += len(ids)
    return found
