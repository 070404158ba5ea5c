"""Acceptors to compare the cascade with; used by controls only (`svd_loop.experiments.controls`).

`RandomAcceptor` is the unverified control, `SelfConsistency` and `SelfCertainty` need no judge, and `GoldAcceptor` is
the upper bound.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass

from envs.cascade.votes import unfit
from svd_loop.config.domains import DomainSection
from svd_loop.contracts import Candidate, Outcome, Problem, Prompt, Rejection, Verdict
from svd_loop.errors import ConfigError, DataError
from svd_loop.evaluation.evaluation import score_pairs

_LISTED_IDS = 5
"""Number of ids listed in an error message."""
_REJECTIONS = {Outcome.RIGHT: None, Outcome.WRONG: Rejection.GOLD, Outcome.UNDECIDED: Rejection.UNDECIDED}


@dataclass(frozen=True, slots=True)
class RandomAcceptor:
    """The unverified control: accepts the first complete candidate of prompts drawn at random.

    The draw is per prompt and not per candidate, because the control must train on as many rows as the run it is
    compared
    with: under first-valid selection a round's rows are its accepted prompts, whatever n is. So give the accepted
    fractions of that run, round by round, as `rates`.

    Attributes:
        rates: share of prompts accepted in round 1, 2, ...; the last one applies to all later rounds.
        seed: the job's seed. The draw is a hash of seed, round and prompt id, so that it depends neither on the order
            of prompts nor on the blocks of an episode; the accepted count is binomial around the rate.
    """

    rates: tuple[float, ...] = (1.0,)
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.rates or not all(0.0 <= rate <= 1.0 for rate in self.rates):
            raise ConfigError(f"control.rates: one fraction or more, each from 0 to 1, found {self.rates}")

    def __call__(self, items: Sequence[tuple[Prompt, Candidate]], *, round: int) -> list[Verdict]:
        """Accept the first complete candidate of every drawn prompt; `items` come in the prompts' sampling order."""
        rate = self.rates[min(max(round, 1), len(self.rates)) - 1]
        settled: set[str] = set()
        verdicts = []
        for prompt, candidate in items:
            rejection = unfit(candidate)
            if rejection is None and (prompt.id in settled or self._draw(prompt.id, round) >= rate):
                rejection = Rejection.NOT_SELECTED_AT_RANDOM
            if rejection is None:
                settled.add(prompt.id)
            verdicts.append(Verdict(prompt.id, candidate.index, rejection is None, rejection))
        return verdicts

    def _draw(self, prompt_id: str, round: int) -> float:
        """Return a number in [0, 1), uniform over prompts."""
        digest = hashlib.sha256(f"random acceptance\x1f{self.seed}\x1f{round}\x1f{prompt_id}".encode()).digest()
        return int.from_bytes(digest[:6], "big") / 2**48


@dataclass(frozen=True, slots=True)
class SelfConsistency:
    """Accepts the first complete candidate that has its prompt's most frequent final answer.

    Wang et al. 2022, "Self-Consistency Improves Chain of Thought Reasoning in Language Models", arXiv 2203.11171, used
    to choose training rows. Answers are compared as text without spaces and case; programs likewise, because they
    cannot be run without tests. Among equally frequent answers the first one wins. If all answers differ, the first is
    taken, so that the prompt still yields a row; a prompt is refused only if no candidate has an answer.

    All candidates of a prompt must come in one call (`sampling.block: null`).

    Attributes:
        extract: returns the final answer in the text of a candidate of a prompt, None if there is none. It is a
            parameter, because nothing that scores answers may be imported here.
    """

    extract: Callable[[Prompt, str], str | None]

    def __call__(self, items: Sequence[tuple[Prompt, Candidate]], *, round: int) -> list[Verdict]:
        """A verdict for each item, aligned; `round` changes nothing."""
        answers = [self._answer(prompt, candidate) for prompt, candidate in items]
        counts = Counter((prompt.id, answer) for (prompt, _), answer in zip(items, answers, strict=True) if answer)
        chosen: dict[str, int] = {}
        for place, ((prompt, _), answer) in enumerate(zip(items, answers, strict=True)):
            best = chosen.get(prompt.id)
            if answer and (best is None or counts[prompt.id, answer] > counts[prompt.id, answers[best]]):
                chosen[prompt.id] = place
        return _only(chosen, items, Rejection.OUTVOTED)

    def _answer(self, prompt: Prompt, candidate: Candidate) -> Hashable:
        """Return the form in which a final answer is compared; None if there is none or the candidate is unfit."""
        answer = self.extract(prompt, candidate.text) if unfit(candidate) is None else None
        return "".join(answer.split()).casefold() or None if answer else None


@dataclass(frozen=True, slots=True)
class SelfCertainty:
    """Accepts each prompt's complete candidate with the highest certainty of the policy (best of n).

    Kang et al. 2025, "Scalable Best-of-N Selection for Large Language Models via Self-Certainty", arXiv 2502.18581.
    All candidates of a prompt must come in one call (`sampling.block: null`).

    Attributes:
        certainty: returns the policy's certainty of each candidate, aligned; larger is more certain.
    """

    certainty: Callable[[Sequence[Candidate]], Sequence[float]]

    def __call__(self, items: Sequence[tuple[Prompt, Candidate]], *, round: int) -> list[Verdict]:
        """A verdict for each item, aligned; `round` changes nothing."""
        fit = [place for place, (_, candidate) in enumerate(items) if unfit(candidate) is None]
        scores = dict(zip(fit, self.certainty([items[place][1] for place in fit]), strict=True))
        chosen: dict[str, int] = {}
        for place in fit:
            prompt_id = items[place][0].id
            if prompt_id not in chosen or scores[place] > scores[chosen[prompt_id]]:
                chosen[prompt_id] = place
        return _only(chosen, items, Rejection.LESS_CERTAIN)


class GoldAcceptor:
    """The upper bound: accepts candidates that are right by gold. Never part of a real job."""

    def __init__(
        self, problems: Iterable[Problem], *, test_seconds: float = 5.0, domains: Sequence[DomainSection] = ()
    ) -> None:
        """Store the training prompts' problems, which only generators can provide."""
        self._problems = {problem.id: problem for problem in problems}
        self._test_seconds = test_seconds
        self._domains = domains

    def __call__(self, items: Sequence[tuple[Prompt, Candidate]], *, round: int = 0) -> list[Verdict]:
        """A verdict for each item, aligned; `round` changes nothing.

        Raises:
            DataError: a prompt has no gold.
        """
        if unknown := list(dict.fromkeys(prompt.id for prompt, _ in items if prompt.id not in self._problems)):
            listed = ", ".join(unknown[:_LISTED_IDS])
            raise DataError(f"control: gold has no answer for {len(unknown)} of the prompts, among them {listed}")
        pairs = [(candidate.text, self._problems[prompt.id]) for prompt, candidate in items]
        verdicts = []
        for (prompt, candidate), outcome in zip(
            items, score_pairs(pairs, self._test_seconds, self._domains), strict=True
        ):
            rejection = unfit(candidate) or _REJECTIONS[outcome]
            verdicts.append(Verdict(prompt.id, candidate.index, rejection is None, rejection))
        return verdicts


def _only(chosen: dict[str, int], items: Sequence[tuple[Prompt, Candidate]], otherwise: Rejection) -> list[Verdict]:
    """Accept the chosen candidate of each prompt; all others are unfit, or rejected for the given reason."""
    verdicts = []
    for place, (prompt, candidate) in enumerate(items):
        accepted = chosen.get(prompt.id) == place
        rejection = None if accepted else unfit(candidate) or otherwise
        verdicts.append(Verdict(prompt.id, candidate.index, accepted, rejection))
    return verdicts
