"""Which prompts get another block of candidates when a round has a token budget.

The policy, in full. Every prompt gets its first block, whatever that costs. After that only prompts with nothing
accepted are served, those with the fewest tries first: all of them have failed every time, so whatever is believed of
prompts beforehand, fewer failures mean the better chance (of a rate p drawn from Beta(a, b), t failures leave a mean
of a / (a + b + t)). A step serves prompts with equally many tries, in the round's order, as many as the rest of the
budget pays for at the round's mean price of a candidate so far, judging included. It ends when that is none.

So the budget is kept up to the surprise of one step. Left out: stopping early on prompts that seem hopeless;
`sampling.n` is the limit of tries.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Account:
    """Where a round's budget stands: `spent` output tokens of solver and judge bought `candidates`, `budget` in all."""

    budget: int
    spent: int = 0
    candidates: int = 0

    def pay(self, tokens: int, candidates: int) -> Account:
        """The account after a step."""
        return Account(self.budget, self.spent + tokens, self.candidates + candidates)

    def affordable(self, size: int) -> int | None:
        """How many blocks of `size` candidates the rest pays for; None while nothing has a price."""
        if not self.spent:
            return None
        return max(0, self.budget - self.spent) * self.candidates // (self.spent * size)

    def affords(self, blocks: int, size: int) -> bool:
        """Whether the rest pays for so many blocks of `size` candidates."""
        affordable = self.affordable(size)
        return affordable is None or blocks <= affordable


def next_served(waiting: Sequence[tuple[int, int]], account: Account, *, block: int, n: int) -> list[int]:
    """The places of the prompts to be served next; none ends the round.

    Args:
        waiting: place and tries of every prompt with nothing accepted and fewer than n tries, in the round's order.
        account: what was paid so far.
        block: candidates of a block.
        n: tries of a prompt at most.

    Returns:
        Places of prompts with equally many tries, in the round's order.
    """
    if not waiting:
        return []
    fewest = min(tries for _, tries in waiting)
    places = [place for place, tries in waiting if tries == fewest]
    return places if fewest == 0 else places[: account.affordable(min(block, n - fewest))]
