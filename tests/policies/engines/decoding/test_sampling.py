"""The noise and the choice of tokens, as distributions and at the edges."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from policies.engines.decoding import sampling as module
from policies.engines.decoding.sampling import (
    SamplingRows,
    choose,
    counter_uniform,
    filtered_probabilities,
    inverse_cdf,
)
from svd_loop.contracts import Sampling

CPU = torch.device("cpu")
LOGITS = torch.tensor([2.0, 1.5, 1.5, 0.5, 0.0, -1.0, -3.0, -8.0])


def rows(*samplings: Sampling) -> SamplingRows:
    return SamplingRows.of(samplings, CPU)


def splitmix(seed: int, step: int) -> float:
    mask = (1 << 64) - 1
    z = (seed + (step + 1) * 0x9E3779B97F4A7C15) & mask
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
    return ((z ^ (z >> 31)) >> 11) * 2.0**-53


@given(st.integers(0, 2**63 - 1), st.integers(0, 100_000))
def test_uniform_is_splitmix64(seed: int, step: int) -> None:
    value = counter_uniform(torch.tensor([seed]), torch.tensor([step]))
    assert float(value) == splitmix(seed, step)
    assert 0 <= float(value) < 1


def test_uniform_is_uniform_over_seeds_and_over_steps() -> None:
    generator = torch.Generator().manual_seed(1)
    seeds = torch.randint(2**62, (20_000,), generator=generator)
    over_seeds = counter_uniform(seeds, torch.zeros_like(seeds))
    over_steps = counter_uniform(torch.full((20_000,), 12345), torch.arange(20_000))
    for values in (over_seeds, over_steps):
        assert stats.kstest(values.numpy(), "uniform").pvalue > 0.01


def truncated(keep: Callable[[torch.Tensor], torch.Tensor], temperature: float = 1.0) -> torch.Tensor:
    probabilities = (LOGITS.double() / temperature).softmax(-1)
    kept = probabilities * keep(probabilities)
    return kept / kept.sum()


CASES = {
    "softmax": (Sampling(1), truncated(torch.ones_like)),
    "hot": (Sampling(1, temperature=2.0), truncated(torch.ones_like, 2.0)),
    "cold": (Sampling(1, temperature=0.5), truncated(torch.ones_like, 0.5)),
    "top_k": (Sampling(1, top_k=3), truncated(lambda p: torch.arange(8) < 3)),
    "top_p": (Sampling(1, top_p=0.8), truncated(lambda p: p.cumsum(0) - p < 0.8)),
    "min_p": (Sampling(1, min_p=0.3), truncated(lambda p: p >= 0.3 * p.max())),
    "top_k_then_top_p": (Sampling(1, top_k=4, top_p=0.6), truncated(lambda p: torch.arange(8) < 2)),
}


@pytest.mark.parametrize("name", CASES)
def test_samples_follow_the_filtered_softmax(name: str) -> None:
    sampling, expected = CASES[name]
    if name == "top_k_then_top_p":  # the mass counted is that of the four left by top-k
        four = LOGITS.double().softmax(-1)[:4]
        assert float(four[:2].sum() / four.sum()) > 0.6 > float(four[0] / four.sum())
    draws = 20_000
    uniform = counter_uniform(torch.full((draws,), 99), torch.arange(draws))
    tokens = choose(LOGITS.expand(draws, -1), rows(*[sampling] * draws), uniform)
    counts = torch.bincount(tokens, minlength=8).double()
    assert counts[expected == 0].sum() == 0
    possible = expected > 0
    assert stats.chisquare(counts[possible], expected[possible] * draws).pvalue > 0.01


def test_rows_of_one_batch_keep_their_own_parameters() -> None:
    greedy = [Sampling(1, top_k=1), Sampling(1, top_p=1e-9), Sampling(1, min_p=1)]
    samplings = [Sampling(1, temperature=0), Sampling(1), *greedy]
    logits = torch.randn((5, 50), generator=torch.Generator().manual_seed(0))
    uniform = torch.full((5,), 0.7, dtype=torch.float64)
    together = choose(logits, rows(*samplings), uniform)
    alone = [choose(logits[i : i + 1], rows(samplings[i]), uniform[i : i + 1]).item() for i in range(5)]
    assert together.tolist() == alone
    assert [together[i] for i in (0, 2, 3, 4)] == [logits[i].argmax() for i in (0, 2, 3, 4)]


def test_large_vocabularies_are_done_in_parts_with_the_same_result(monkeypatch: pytest.MonkeyPatch) -> None:
    logits = torch.randn((37, 50), generator=torch.Generator().manual_seed(0))
    parameters = rows(*[Sampling(1, top_p=0.9)] * 37)
    uniform = counter_uniform(torch.arange(37), torch.zeros(37, dtype=torch.int64))
    whole = choose(logits, parameters, uniform)
    monkeypatch.setattr(module, "_CHUNK_ELEMENTS", 400)
    assert torch.equal(choose(logits, parameters, uniform), whole)


@given(
    st.lists(st.floats(0, 1), min_size=1, max_size=20).filter(lambda weights: sum(weights) > 1e-6),
    st.floats(0, 1, exclude_max=True),
)
def test_inverse_cdf_never_picks_an_excluded_token(weights: list[float], uniform: float) -> None:
    picked = inverse_cdf(torch.tensor([weights]), torch.tensor([uniform], dtype=torch.float64))
    assert weights[int(picked)] > 0


def test_the_most_likely_token_always_stays() -> None:
    kept = filtered_probabilities(LOGITS[None], rows(Sampling(1, top_k=1, top_p=0.01, min_p=1.0)))
    assert (kept > 0).nonzero().tolist() == [[0, 0]]


def ranked_by_sorting(probabilities: torch.Tensor, top_k: int, top_p: float) -> torch.Tensor:
    """The mask by its definition, one row at a time."""
    order = sorted(range(len(probabilities)), key=lambda token: (-float(probabilities[token]), token))
    kept = order[:top_k] if top_k else order
    mass, before, keep = sum(float(probabilities[token]) for token in kept), 0.0, torch.zeros(len(probabilities))
    for rank, token in enumerate(kept):
        if rank and top_p < 1 and before >= top_p * mass:
            break
        keep[token] = 1
        before += float(probabilities[token])
    return keep.bool()


@given(
    st.lists(st.sampled_from([0.0, 1.0, 2.0, 3.0, 5.0, 8.0]), min_size=3, max_size=40),
    st.integers(0, 45),
    st.sampled_from([0.1, 0.3, 0.55, 0.8, 0.95, 1.0]),
    st.integers(1, 8),
)
def test_the_kept_tokens_are_those_of_a_full_sort(logits: list[float], top_k: int, top_p: float, head: int) -> None:
    probabilities = torch.tensor([logits, logits[::-1]]).softmax(-1)
    top_k = min(top_k, len(logits))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_HEAD", head)
        keep = module._ranked_keep(probabilities, torch.tensor([top_k, top_k]), torch.tensor([top_p, top_p]).double())
    for row, kept in zip(probabilities, keep, strict=True):
        assert kept.tolist() == ranked_by_sorting(row, top_k, top_p).tolist()


@pytest.mark.parametrize("spread", [0.3, 2.0, 6.0])  # thousands of tokens kept, a few hundred, a few
def test_a_wide_vocabulary_gives_the_samples_of_the_whole_distribution(spread: float) -> None:
    generator = torch.Generator().manual_seed(7)
    logits = torch.randn(96, 20_000, generator=generator) * spread
    logits[::5] = logits[::5].round()  # many equal probabilities, at the border of what is kept too
    kinds = [
        Sampling(1, 0.7, top_p=0.95),
        Sampling(1, 1.0, top_p=0.5, top_k=20),
        Sampling(1, 1.0, top_k=2000),
        Sampling(1, 1.3, top_p=0.9, min_p=0.05),
        Sampling(1, 1.0),
        Sampling(1, 0.0, top_p=0.9),
    ]
    parameters = rows(*[kinds[place % len(kinds)] for place in range(96)])
    uniform = torch.rand(96, generator=generator, dtype=torch.float64)
    expected = inverse_cdf(filtered_probabilities(logits, parameters), uniform)
    expected = torch.where(parameters.temperature == 0, logits.argmax(-1), expected)
    assert choose(logits, parameters, uniform).tolist() == expected.tolist()


def test_a_peaked_row_needs_no_ranking_of_the_vocabulary(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> torch.Tensor:
        raise AssertionError("the whole row was looked at")

    monkeypatch.setattr(module, "filtered_probabilities", never)
    logits = torch.randn(4, 5000, generator=torch.Generator().manual_seed(1)) * 9
    assert choose(
        logits, rows(*[Sampling(1, 0.7, top_p=0.95)] * 4), torch.full((4,), 0.5, dtype=torch.float64)
    ).shape == (4,)
