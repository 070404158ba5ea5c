"""The panel: questions that the judge of every round is asked again, to see it drift slowly.

Canaries are new every round, so two rounds differ by chance as much as by the judge: a judge whose yes votes on wrong
solutions rise by one point a round stays within their intervals. Asking the *same* questions again under the same
seeds takes that chance away. What remains are the votes that turned, and a judge that only changes here and there
turns as many to yes as to no.

The panel has two halves, each of single votes in the stages that ask a judge:

- right: solutions that the cascade accepted in the panel's first round, in every stage. They were accepted by other
  votes than these, so that no half begins with votes that are all alike (they could then only turn one way).
- wrong: canaries of every kind and near misses, made of those solutions, in the stages that should refuse them.

A judge that drifts to yes turns votes of the wrong half to yes, one that drifts to no turns votes of the right half to
no. A judge that improves turns votes the other way, which is no alarm (`svd_loop.loop.health_rule` has the test).

Drawing is seeded, so that a later round rebuilds the questions from the recorded solutions; their digest tells whether
they are still the same.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice, zip_longest

from envs.canaries import Canary, CanaryKind, Solved, caught_by, plant
from envs.cascade.cascade import Cascade
from envs.cascade.judging import cast_votes
from envs.cascade.stage import Ballot
from svd_loop.contracts import Candidate, Policy, VoteValue

PURPOSE = "panel"
_LETTERS = {VoteValue.YES: "y", VoteValue.NO: "n", VoteValue.INVALID: "i"}


@dataclass(frozen=True, slots=True)
class Panel:
    """The votes to ask, in order: on accepted solutions, and on planted wrong ones."""

    right: tuple[Ballot, ...]
    wrong: tuple[Ballot, ...]

    @property
    def digest(self) -> str:
        """Digest of all questions (hex): prompts, solutions, stages and numbers of votes."""
        asked = [(b.prompt.id, b.candidate.index, b.candidate.text, b.stage, b.vote) for b in self.right + self.wrong]
        return hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:16]


def draw_panel(cascade: Cascade, solved: Sequence[Solved], *, size: int, seed: int, round: int) -> Panel:
    """Draw a panel; the same arguments draw the same one.

    Args:
        cascade: the job's own.
        solved: prompts with an accepted candidate each.
        size: most votes of either half.
        seed: the job's seed.
        round: the panel's first round, part of every vote's seed.
    """
    settings = cascade.settings.with_judge_only()
    stages = settings.stage_names
    own = [(prompt, Candidate(prompt.id, place, one.text)) for place, (prompt, one) in enumerate(solved)]
    # All solutions before a second vote on any of them: votes on one solution tell less than votes on several.
    right = (
        Ballot(prompt, candidate, stage, vote, round, PURPOSE)
        for vote in range(settings.votes)
        for prompt, candidate in own
        for stage in stages
    )
    votes_a_kind = sum(len(caught_by(kind, stages)) for kind in CanaryKind)
    # Twice as many as fill the half, since not every solution can be changed in every way.
    per_kind = 2 * math.ceil(size / votes_a_kind) if votes_a_kind else 0
    canaries = plant(solved, per_kind=per_kind, seed=seed, round=round, kinds=tuple(CanaryKind))
    wrong = (
        Ballot(canary.prompt, replace(canary.candidate, index=len(own) + place), stage, 0, round, PURPOSE)
        for place, canary in enumerate(_alternating(canaries))
        for stage in stages
        if stage in caught_by(canary.kind, stages)
    )
    return Panel(tuple(islice(right, size)), tuple(islice(wrong, size)))


def ask_panel(cascade: Cascade, judge: Policy, panel: Panel) -> tuple[str, str]:
    """The judge's votes on both halves, a letter each: y, n, or i for one without a verdict.

    Raises:
        EngineError: the judge left a call unanswered.
    """
    settings = cascade.settings
    votes = cast_votes(
        judge,
        [*panel.right, *panel.wrong],
        cascade.templates,
        invalid_retries=settings.invalid_retries,
        show_thought=settings.show_thought,
        stages=settings.stages,
        asking=settings.asking,
    )
    letters = "".join(_LETTERS[vote.value] for vote in votes)
    return letters[: len(panel.right)], letters[len(panel.right) :]


def _alternating(canaries: Sequence[Canary]) -> list[Canary]:
    """One canary of each kind, then the second of each, and so on."""
    by_kind = [[canary for canary in canaries if canary.kind is kind] for kind in CanaryKind]
    return [canary for canary in chain.from_iterable(zip_longest(*by_kind)) if canary is not None]
