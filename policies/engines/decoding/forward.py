"""One forward pass over prompts, for what follows them at once: no cache, no sampling."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch

from svd_loop.errors import EngineError


def next_logprobs(model: Any, prompts: Sequence[tuple[int, ...]], pad_id: int) -> torch.Tensor:
    """(B, V) float32 log probabilities of the token after each prompt.

    Args:
        model: a causal language model of transformers, in inference mode.
        prompts: B token id sequences, none of them empty.
        pad_id: fills the left of short prompts; masked, so any id will do.

    Raises:
        EngineError: the logits are not finite.
    """
    longest = max(map(len, prompts))
    ids = torch.full((len(prompts), longest), pad_id, dtype=torch.int64)
    mask = torch.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        ids[row, longest - len(prompt) :] = torch.tensor(prompt)
        mask[row, longest - len(prompt) :] = 1
    output = model(
        input_ids=ids.to(model.device),
        attention_mask=mask.to(model.device),
        position_ids=(mask.cumsum(dim=-1) - 1).clamp(min=0).to(model.device),
        use_cache=False,
        logits_to_keep=1,
    )
    logits = output.logits[:, -1].float()
    if not bool(torch.isfinite(logits.amax(dim=-1)).all()):
        raise EngineError(
            "the model's logits are not finite (NaN or infinity): its weights are damaged, or "
            "model.dtype cannot hold its activations (float16 often cannot)"
        )
    logprobs: torch.Tensor = logits.log_softmax(dim=-1).cpu()
    return logprobs


def chunks_by_size(prompts: Sequence[tuple[int, ...]], tokens: int) -> Iterator[range]:
    """Places of consecutive prompts that fit into `tokens` together, padding included; at least one at a time."""
    start, longest = 0, 0
    for place, prompt in enumerate(prompts):
        wider = max(longest, len(prompt))
        if place > start and wider * (place - start + 1) > tokens:
            yield range(start, place)
            start, wider = place, len(prompt)
        longest = wider
    if start < len(prompts):
        yield range(start, len(prompts))
