"""Self-certainty of a policy about its answers, from its output distributions.

It takes one forward pass over sampled ids and no generation.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch

from policies.versions.checkpoints import load_model
from policies.versions.stored import StoredVersion
from svd_loop.contracts import Candidate
from svd_loop.support.torch_memory import release_gpu_memory

ROW_TOKENS = 32_768
"""Padded tokens of a forward pass; limits the memory of its logits."""


def self_certainty(
    stored: StoredVersion, candidates: Sequence[Candidate], *, dtype: str = "float32", device: str = "auto"
) -> list[float]:
    """Return the self-certainty of each candidate in nats, aligned.

    It is the mean over the answer's T tokens of KL(U || p_t), U uniform over the vocabulary of size V:
    -log V - (1 / V) sum_v log p_t(v) (Kang et al. 2025, arXiv 2502.18581, equation 8, without its constant).

    Args:
        stored: the version that wrote the candidates.
        candidates: candidates with prompt and token ids.
        dtype: data type of the weights; `auto` as for generating.
        device: `auto`, `cpu` or `cuda`.

    Raises:
        ModelError: the checkpoint cannot be loaded.
    """
    model = load_model(stored, dtype=dtype, device=device).eval()
    scores = [0.0] * len(candidates)
    with torch.inference_mode():
        rows = [(*candidate.prompt_ids, *candidate.token_ids) for candidate in candidates]
        by_length = sorted(range(len(rows)), key=lambda place: len(rows[place]))
        for chunk in _chunks_by_size([rows[place] for place in by_length], ROW_TOKENS):
            places = [by_length[place] for place in chunk]
            for place, score in zip(places, _batch(model, [candidates[p] for p in places]), strict=True):
                scores[place] = score
    del model
    release_gpu_memory()
    return scores


def _batch(model: Any, batch: Sequence[Candidate]) -> list[float]:
    rows = [(*candidate.prompt_ids, *candidate.token_ids) for candidate in batch]
    width = max(map(len, rows))
    # Padded on the right, where causal attention does not read; the mask keeps padding out of the mean.
    ids = torch.tensor([(*row, *(0,) * (width - len(row))) for row in rows], device=model.device)
    places = torch.arange(width, device=model.device)
    starts = torch.tensor([len(candidate.prompt_ids) for candidate in batch], device=model.device)
    ends = torch.tensor([len(row) for row in rows], device=model.device)
    logits = model(input_ids=ids, attention_mask=(places < ends[:, None]).long()).logits[:, :-1]
    log_probabilities = torch.log_softmax(logits.float(), dim=-1)
    vocabulary = torch.tensor(float(logits.shape[-1]), device=model.device)
    divergence = -torch.log(vocabulary) - log_probabilities.mean(dim=-1)
    targets = places[1:]
    written = (targets >= starts[:, None]) & (targets < ends[:, None])
    means = (divergence * written).sum(dim=1) / written.sum(dim=1).clamp(min=1)
    return [float(mean) for mean in means]


def _chunks_by_size(prompts: Sequence[tuple[int, ...]], tokens: int) -> Iterator[range]:
    """Yield ranges of consecutive prompts that fit into `tokens` together with padding; at least one prompt each."""
    start, longest = 0, 0
    for place, prompt in enumerate(prompts):
        wider = max(longest, len(prompt))
        if place > start and wider * (place - start + 1) > tokens:
            yield range(start, place)
            start, wider = place, len(prompt)
        longest = wider
    if start < len(prompts):
        yield range(start, len(prompts))
