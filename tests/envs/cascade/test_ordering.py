from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envs.cascade.ordering import Measurements, Unit, fit_kinds, measured_order, paper_order
from svd_loop.contracts import BUILT_IN_STAGES, StageName

STAGES = tuple(BUILT_IN_STAGES)
CYCLE, FACTS, GRADE = STAGES
EQUAL = dict.fromkeys(STAGES, 1.0)
counts = st.tuples(st.integers(0, 4), st.integers(0, 4))
tallies = st.lists(st.dictionaries(st.sampled_from(STAGES), counts), max_size=12)
prices = st.dictionaries(st.sampled_from(STAGES), st.floats(0.0, 1e6))


def simulated(count: int, good: float, rates_S_2: Sequence[tuple[float, float]], votes: int) -> np.ndarray:
    """Votes of `count` candidates of two kinds, C x S x V, True for yes; `rates_S_2` are of good and bad ones."""
    rng = np.random.default_rng(7)
    kind = (rng.random(count) >= good).astype(int)
    return rng.random((count, len(rates_S_2), votes)) < np.array(rates_S_2)[:, kind].T[:, :, None]


def stopped(votes_C_S_V: np.ndarray, order: Sequence[Unit]) -> list[dict[StageName, tuple[int, int]]]:
    """What a judge that stops at the first no sees of them."""
    seen = []
    for votes in votes_C_S_V:
        tally: dict[StageName, tuple[int, int]] = {}
        for stage, vote in order:
            says_yes = bool(votes[STAGES.index(stage), vote])
            yes, no = tally.get(stage, (0, 0))
            tally[stage] = (yes + says_yes, no + (not says_yes))
            if not says_yes:
                break
        seen.append(tally)
    return seen


def asked(votes_C_S_V: np.ndarray, order: Sequence[Unit]) -> int:
    """Votes paid for in an order."""
    return sum(sum(map(sum, tally.values())) for tally in stopped(votes_C_S_V, order))


@given(
    tallies,
    prices,
    st.integers(1, 5),
    st.permutations(STAGES).flatmap(lambda s: st.integers(1, 3).map(lambda k: s[:k])),
)
@settings(max_examples=60)
def test_an_order_is_a_permutation_that_keeps_the_votes_of_a_stage_in_order(
    seen: list[dict[StageName, tuple[int, int]]], price: dict[StageName, float], votes: int, stages: list[StageName]
) -> None:
    order = measured_order(stages, votes, Measurements(seen, price))
    assert sorted(order) == sorted(product(stages, range(votes)))
    for stage in stages:
        assert [vote for of, vote in order if of == stage] == list(range(votes))
    assert order == measured_order(stages, votes, Measurements(seen[::-1], price))


@pytest.mark.parametrize("missing", STAGES)
def test_without_a_measurement_of_every_stage_the_papers_order_stands(missing: StageName) -> None:
    seen = [{stage: (1, 3) for stage in STAGES if stage != missing}]
    assert measured_order(STAGES, 2, Measurements(seen, EQUAL)) == paper_order(STAGES, 2)
    assert measured_order(STAGES, 2, Measurements([], {})) == paper_order(STAGES, 2)
    seen = [{GRADE: (0, 9), CYCLE: (9, 0), FACTS: (9, 0)}]
    assert measured_order(STAGES, 2, Measurements(seen, EQUAL))[0] == (GRADE, 0)
    assert measured_order(STAGES, 2, Measurements(seen, {**EQUAL, missing: 0.0})) == paper_order(STAGES, 2)


def test_the_stage_that_rejects_more_for_its_price_comes_first() -> None:
    votes = simulated(600, 0.3, [(0.95, 0.9), (0.95, 0.6), (0.95, 0.3)], 3)
    seen = stopped(votes, paper_order(STAGES, 3))
    assert measured_order(STAGES, 3, Measurements(seen, EQUAL))[0] == (GRADE, 0)
    assert measured_order(STAGES, 3, Measurements(seen, {**EQUAL, GRADE: 9.0}))[0] == (FACTS, 0)


def test_second_votes_wait_where_a_first_vote_says_nearly_all() -> None:
    """A stage whose votes agree on a candidate is asked once before the stage that rejects at random goes on."""
    rng = np.random.default_rng(3)
    votes = np.ones((900, 3, 3), dtype=bool)
    votes[:, 1, :] = (rng.random(900) < 0.5)[:, None]
    votes[:, 2, :] = rng.random((900, 3)) < 0.7
    order = measured_order(STAGES, 3, Measurements(stopped(votes, paper_order(STAGES, 3)), EQUAL))
    assert order[:2] == ((FACTS, 0), (GRADE, 0))
    assert order.index((FACTS, 1)) > order.index((GRADE, 2))


def test_an_order_measured_on_stopped_votes_is_cheaper_than_the_papers_on_other_candidates() -> None:
    rates = [(0.97, 0.9), (0.95, 0.5), (0.9, 0.2)]
    old, new = np.split(simulated(1200, 0.4, rates, 4), 2)
    measured = measured_order(STAGES, 4, Measurements(stopped(old, paper_order(STAGES, 4)), EQUAL))
    by_vote = tuple((stage, vote) for vote in range(4) for stage in STAGES)
    assert asked(new, measured) < min(asked(new, by_vote), asked(new, paper_order(STAGES, 4)))


def test_votes_that_were_never_cast_do_not_mislead() -> None:
    """Rates under early exit come out as those of all votes: what was left out depends on what was seen."""
    rates = [(0.95, 0.8), (0.95, 0.5), (0.95, 0.3)]
    votes = simulated(4000, 0.4, rates, 5)
    shares, fitted = fit_kinds(STAGES, stopped(votes, paper_order(STAGES, 5)))
    assert fitted @ shares == pytest.approx(votes.mean(axis=(0, 2)), abs=0.06)
