"""Who accepts candidates: the cascade, or, in benchmarks, something to compare it with.

An acceptor is any callable from candidates to verdicts. The cascade with a judge is one (`functools.partial` of
`Cascade.judge`), `RandomAcceptor` is the unverified control, and the gold ceiling is handed in by evaluation, which
alone may read gold.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from envs.cascade import unfit
from svd_loop.contracts import Candidate, Prompt, Rejection, Verdict
from svd_loop.errors import ConfigError


class Acceptor(Protocol):
    """Decides which candidates are accepted."""

    def __call__(self, items: Sequence[tuple[Prompt, Candidate]], *, round: int) -> list[Verdict]:
        """A verdict for each item, aligned; truncated and empty candidates are never accepted."""
        ...


@dataclass(frozen=True, slots=True)
class RandomAcceptor:
    """The unverified control: prompts drawn by chance have their first complete candidate accepted.

    The draw is per prompt, not per candidate, because the control must train on as many rows as the run it is
    compared with: under first-valid selection a round's rows are its accepted prompts, whatever n is. So give as
    `rates` the accepted fractions of that run, round by round.

    Attributes:
        rates: Share of prompts accepted in round 1, 2, ...; the last one holds for all later rounds.
        seed: The job's seed. A prompt's luck is a hash of seed, round and prompt id, so that neither the order of
            prompts nor the blocks of an episode change it; the accepted count is binomial around the rate.
    """

    rates: tuple[float, ...] = (1.0,)
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.rates or not all(0.0 <= rate <= 1.0 for rate in self.rates):
            raise ConfigError(f"cascade.random_accept: one fraction or more, each from 0 to 1, found {self.rates}")

    def __call__(self, items: Sequence[tuple[Prompt, Candidate]], *, round: int) -> list[Verdict]:
        """Accept the first complete candidate of every lucky prompt; `items` come in the prompts' sampling order."""
        rate = self.rates[min(max(round, 1), len(self.rates)) - 1]
        settled: set[str] = set()
        verdicts = []
        for prompt, candidate in items:
            rejection = unfit(candidate)
            if rejection is None and (prompt.id in settled or self._luck(prompt.id, round) >= rate):
                rejection = Rejection.NOT_SELECTED_AT_RANDOM
            if rejection is None:
                settled.add(prompt.id)
            verdicts.append(Verdict(prompt.id, candidate.index, rejection is None, rejection))
        return verdicts

    def _luck(self, prompt_id: str, round: int) -> float:
        """A number in [0, 1), uniform over prompts."""
        digest = hashlib.sha256(f"random acceptance\x1f{self.seed}\x1f{round}\x1f{prompt_id}".encode()).digest()
        return int.from_bytes(digest[:6], "big") / 2**48
