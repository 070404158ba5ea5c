"""The estimated chance that a candidate passes its next votes."""

from __future__ import annotations

import pytest

from envs.flow.yes_rates import YesRates
from svd_loop.contracts import VoteValue


def test_without_votes_every_place_says_yes_half_of_the_time() -> None:
    assert YesRates().passing(3) == [1.0, 0.5, 0.25, 0.125]


def test_a_place_has_its_own_rate_and_one_without_votes_that_of_all() -> None:
    rates = YesRates()
    for place, yes, no in ((0, 50, 50), (1, 49, 1)):
        for value, count in ((VoteValue.YES, yes), (VoteValue.NO, no)):
            for _ in range(count):
                rates.add(place, value)
    passing = rates.passing(3)
    of_all = 100 / 152
    assert passing[1] == pytest.approx((50 + of_all) / 101)
    assert passing[2] / passing[1] == pytest.approx((49 + of_all) / 51)
    assert passing[3] / passing[2] == pytest.approx(of_all)


@pytest.mark.parametrize("value", [VoteValue.YES, VoteValue.NO, VoteValue.INVALID])
def test_no_chance_is_ever_nothing_and_none_grows_with_further_votes(value: VoteValue) -> None:
    rates = YesRates()
    for _ in range(1000):
        rates.add(1, value)
        passing = rates.passing(4)
        assert passing == sorted(passing, reverse=True)
        assert min(passing) > 0.0
