"""How often votes say yes, by their place in the order: which call ahead will most likely be needed."""

from __future__ import annotations

from itertools import accumulate
from operator import mul

from svd_loop.contracts import VoteValue

_RENEWED = 16
"""The rates are computed again when the votes have grown by 1 / _RENEWED."""


class YesRates:
    """The share of yes among the votes of a round so far, for each place in the order.

    Early exit asks the later votes of good candidates alone, so they say yes more often than the first ones: one rate
    for all votes would take an acceptance for much rarer than it is. A place with few votes has the rate of all votes:
    it counts as one vote of each place, and as one yes and one other vote among all. So no rate is 0.
    """

    __slots__ = ("_all", "_next", "_passing", "_votes", "_yes", "_yes_of_all")

    def __init__(self) -> None:
        self._yes: list[int] = []
        self._votes: list[int] = []
        self._yes_of_all, self._all, self._next = 1, 2, 0
        self._passing = [1.0]

    def add(self, place: int, value: VoteValue) -> None:
        """Count a vote."""
        while len(self._votes) <= place:
            self._votes.append(0)
            self._yes.append(0)
        self._votes[place] += 1
        self._all += 1
        if value is VoteValue.YES:
            self._yes[place] += 1
            self._yes_of_all += 1

    def passing(self, places: int) -> list[float]:
        """The estimated chance that a candidate passes the first k votes, for k from 0 to `places`."""
        if self._all >= self._next or len(self._passing) != places + 1:
            rate = self._yes_of_all / self._all
            more = places - len(self._votes)
            counted = zip([*self._yes, *[0] * more], [*self._votes, *[0] * more], strict=True)
            self._passing = [*accumulate(((yes + rate) / (votes + 1) for yes, votes in counted), mul, initial=1.0)]
            self._next = self._all + self._all // _RENEWED + 1
        return self._passing
