"""Choose the next token: filtered softmax, and random numbers that depend only on a row's own seed.

A row draws one uniform number a step from a counter-based generator keyed by (seed, step), and that number picks
the token by inverting the distribution's cumulative sum. Nothing else is used, so a row samples the same tokens
alone or in any batch, in any order, resumed or not, up to the rounding of its logits. One number a row and step
is much cheaper than one per vocabulary entry (Gumbel noise), and just as exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from svd_loop.contracts import Sampling

_CHUNK_ELEMENTS = 1 << 24
"""Probabilities held in double precision at once; bounds the memory of large vocabularies."""


_FIRST_HEAD = 128
"""Number of largest probabilities examined first; they nearly always hold what a filter keeps."""
_HEAD = 1024
"""Number of largest probabilities examined before a whole row is ranked; narrower vocabularies are ranked at once."""


def _signed(value: int) -> int:
    """The 64-bit pattern `value` as a signed integer, as torch stores it."""
    return value - (1 << 64) if value >> 63 else value


_GOLDEN = _signed(0x9E3779B97F4A7C15)
_MIX_1 = _signed(0xBF58476D1CE4E5B9)
_MIX_2 = _signed(0x94D049BB133111EB)


def counter_uniform(seeds: torch.Tensor, steps: torch.Tensor) -> torch.Tensor:
    """One uniform number in [0, 1) per row: SplitMix64 of stream `seeds` at counter `steps`.

    Source: Steele, Lea and Flood, "Fast splittable pseudorandom number generators" (2014), with the constants of
    the reference implementation. Products wrap at 64 bits, which int64 arithmetic does as well.

    Args:
        seeds: (B,) int64.
        steps: (B,) int64, counted from 0.

    Returns:
        (B,) float64 with 53 random bits each.
    """
    mixed = seeds + (steps + 1) * _GOLDEN
    mixed = (mixed ^ _shift_right(mixed, 30)) * _MIX_1
    mixed = (mixed ^ _shift_right(mixed, 27)) * _MIX_2
    mixed = mixed ^ _shift_right(mixed, 31)
    return _shift_right(mixed, 11).to(torch.float64) * 2.0**-53


def _shift_right(value: torch.Tensor, bits: int) -> torch.Tensor:
    """Logical shift (torch's own keeps the sign)."""
    return (value >> bits) & ((1 << (64 - bits)) - 1)


@dataclass(frozen=True, slots=True)
class SamplingRows:
    """Sampling parameters of B rows as tensors, all (B,): `temperature`, `top_p`, `min_p` float, `top_k` int64."""

    temperature: torch.Tensor
    top_p: torch.Tensor
    top_k: torch.Tensor
    min_p: torch.Tensor

    @classmethod
    def of(cls, samplings: Sequence[Sampling], device: torch.device) -> SamplingRows:
        """One row per element of `samplings`."""

        def column(name: str, dtype: torch.dtype) -> torch.Tensor:
            return torch.tensor([getattr(sampling, name) for sampling in samplings], dtype=dtype, device=device)

        return cls(
            column("temperature", torch.float32),
            column("top_p", torch.float64),
            column("top_k", torch.int64),
            column("min_p", torch.float64),
        )

    def select(self, rows: torch.Tensor | slice) -> SamplingRows:
        """The parameters of the rows at `rows` (indices, mask or slice)."""
        return SamplingRows(self.temperature[rows], self.top_p[rows], self.top_k[rows], self.min_p[rows])

    def joined(self, other: SamplingRows) -> SamplingRows:
        """These rows, then those of `other`."""
        return SamplingRows(
            torch.cat([self.temperature, other.temperature]),
            torch.cat([self.top_p, other.top_p]),
            torch.cat([self.top_k, other.top_k]),
            torch.cat([self.min_p, other.min_p]),
        )


def choose(logits: torch.Tensor, rows: SamplingRows, uniform: torch.Tensor) -> torch.Tensor:
    """The next token of every row.

    Args:
        logits: (B, V), any float type.
        rows: parameters of the B rows; temperature 0 takes the most likely token (the first of equals).
        uniform: (B,) float64 in [0, 1).

    Returns:
        (B,) int64 token ids.
    """
    height = max(1, _CHUNK_ELEMENTS // logits.shape[-1])
    if logits.shape[0] <= height:
        return _choose(logits, rows, uniform)
    parts = [slice(start, start + height) for start in range(0, logits.shape[0], height)]
    return torch.cat([_choose(logits[part], rows.select(part), uniform[part]) for part in parts])


def _choose(logits: torch.Tensor, rows: SamplingRows, uniform: torch.Tensor) -> torch.Tensor:
    greedy = rows.temperature == 0
    if bool(greedy.all()):
        return logits.argmax(dim=-1)
    sampled = _sampled(logits, rows, uniform)
    return torch.where(greedy, logits.argmax(dim=-1), sampled) if bool(greedy.any()) else sampled


def _sampled(logits: torch.Tensor, rows: SamplingRows, uniform: torch.Tensor) -> torch.Tensor:
    """A token of each row's filtered softmax: from its largest probabilities where those are all that is kept.

    The result is that of `filtered_probabilities` and `inverse_cdf`, which look at the whole vocabulary several times.
    """
    width = logits.shape[-1]
    ranked = (rows.top_k > 0) | (rows.top_p < 1)
    tokens = torch.empty(len(logits), dtype=torch.int64, device=logits.device)
    left = ranked.clone() if width > _HEAD else torch.zeros_like(ranked)
    for head in (_FIRST_HEAD, _HEAD, 8 * _HEAD):
        head = max(head, int(rows.top_k.max()))
        if not bool(left.any()) or head >= width:
            break
        places = left.nonzero().squeeze(-1)
        found, settled = _from_head(logits[places], rows.select(places), uniform[places], head)
        tokens[places[settled]] = found[settled]
        left[places[settled]] = False
    rest = left | ~ranked if width > _HEAD else torch.ones_like(ranked)
    if bool(rest.any()):
        tokens[rest] = inverse_cdf(filtered_probabilities(logits[rest], rows.select(rest)), uniform[rest])
    return tokens


def _from_head(
    logits: torch.Tensor, rows: SamplingRows, uniform: torch.Tensor, head: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """A token of each row by its `head` largest probabilities, and whether they were enough to tell.

    They are not where more are kept, and where the last one kept is as likely as the next.
    """
    temperature = torch.where(rows.temperature == 0, 1.0, rows.temperature)
    probabilities = torch.softmax(logits.float() / temperature[:, None], dim=-1)
    total = probabilities.sum(dim=-1, dtype=torch.float64)
    largest, ids = probabilities.topk(head + 1, dim=-1)
    counts, settled = _kept_counts(largest[:, :head].double(), rows.top_k, rows.top_p, total, complete=False)
    settled = settled & (largest.gather(-1, counts[:, None]) < largest.gather(-1, counts[:, None] - 1)).squeeze(-1)
    kept = torch.arange(head + 1, device=logits.device) < counts[:, None]
    kept &= largest >= (rows.min_p.float() * largest[:, 0])[:, None]
    # In the order of the vocabulary, in which the cumulative sum is inverted.
    order = torch.where(kept, ids, logits.shape[-1]).argsort(dim=-1)
    place = inverse_cdf((largest * kept).gather(-1, order), uniform)
    return ids.gather(-1, order).gather(-1, place[:, None]).squeeze(-1), settled


def filtered_probabilities(logits: torch.Tensor, rows: SamplingRows) -> torch.Tensor:
    """Softmax at each row's temperature with what its filters exclude set to 0; rows need not sum to 1.

    Filters apply in the order of `transformers`: top-k, then top-p on what is left, then min-p relative to the
    most likely token. The most likely token always stays. Rows with temperature 0 get temperature 1 here.

    Args:
        logits: (B, V).
        rows: parameters of the B rows.

    Returns:
        (B, V) float32.
    """
    temperature = torch.where(rows.temperature == 0, 1.0, rows.temperature)
    probabilities = torch.softmax(logits.float() / temperature[:, None], dim=-1)
    ranked = (rows.top_k > 0) | (rows.top_p < 1)
    if bool(ranked.any()):
        keep = _ranked_keep(probabilities[ranked], rows.top_k[ranked], rows.top_p[ranked])
        probabilities[ranked] = probabilities[ranked] * keep
    if bool((rows.min_p > 0).any()):
        floor = rows.min_p.float() * probabilities.amax(dim=-1)
        probabilities = probabilities * (probabilities >= floor[:, None])
    return probabilities


def _ranked_keep(probabilities: torch.Tensor, top_k: torch.Tensor, top_p: torch.Tensor) -> torch.Tensor:
    """(B, V) mask of the `top_k` most likely tokens (0: all), cut to the smallest set holding `top_p` of their mass.

    Of equally likely tokens those with smaller ids come first. The vocabulary is not sorted: the largest few
    probabilities nearly always hold the mass, and only rows where they do not are ranked in full.
    """
    width = probabilities.shape[-1]
    head = min(width, max(_HEAD, int(top_k.max())))
    largest = probabilities.topk(head, dim=-1).values.double()
    total = probabilities.sum(dim=-1, dtype=torch.float64)
    counts, settled = _kept_counts(largest, top_k, top_p, total, complete=head == width)
    keep = _first_of(probabilities, largest.float(), counts)
    if not bool(settled.all()):
        rest = ~settled
        ordered = probabilities[rest].sort(dim=-1, descending=True).values.double()
        counts, _ = _kept_counts(ordered, top_k[rest], top_p[rest], total[rest], complete=True)
        keep[rest] = _first_of(probabilities[rest], ordered.float(), counts)
    return keep


def _kept_counts(
    largest: torch.Tensor, top_k: torch.Tensor, top_p: torch.Tensor, total: torch.Tensor, *, complete: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """How many of a row's largest probabilities are kept, at least one; and whether this is certain.

    Args:
        largest: (B, M) float64, descending; M is at least every `top_k` or the whole row.
        top_k: (B,), 0 for no limit.
        top_p: (B,).
        total: (B,) mass of the whole row.
        complete: `largest` holds the whole row.

    Returns:
        (B,) counts, and (B,) whether the M probabilities were enough to tell.
    """
    rank = torch.arange(largest.shape[-1], device=largest.device)
    limited = top_k > 0
    limit = torch.where(top_k > 0, top_k, largest.shape[-1])
    within = largest * (rank < limit[:, None])
    mass = torch.where(limited, within.sum(dim=-1), total)
    before = within.cumsum(dim=-1) - within
    nucleus = (before < (top_p * mass)[:, None]) | (top_p >= 1)[:, None]
    counts = ((rank < limit[:, None]) & (nucleus | (rank == 0))).sum(dim=-1)
    return counts, limited | complete | ((top_p < 1) & (counts < largest.shape[-1]))


def _first_of(probabilities: torch.Tensor, largest: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
    """(B, V) mask of each row's `counts` most likely tokens; `largest` (B, M) are their probabilities, descending."""
    least = largest.gather(-1, counts[:, None] - 1)
    keep = probabilities >= least
    if bool((keep.sum(dim=-1) == counts).all()):
        return keep
    equal = probabilities == least  # more tokens tie with the last one kept than there are places
    places = counts[:, None] - (probabilities > least).sum(dim=-1, keepdim=True)
    return (probabilities > least) | (equal & (equal.cumsum(dim=-1) <= places))


def inverse_cdf(weights: torch.Tensor, uniform: torch.Tensor) -> torch.Tensor:
    """The entry at the fraction `uniform` of each row's cumulative weight; never one of weight 0.

    Args:
        weights: (B, V), not negative, with a positive sum.
        uniform: (B,) float64 in [0, 1).

    Returns:
        (B,) int64.
    """
    cumulative = weights.cumsum(dim=-1, dtype=torch.float64)
    total = cumulative[:, -1:]
    # Rounding may move a fraction just below 1 to the total itself, behind the last entry of positive weight.
    target = torch.minimum(uniform[:, None] * total, torch.nextafter(total, torch.zeros_like(total)))
    return torch.searchsorted(cumulative, target, right=True).squeeze(-1)
