"""A verdict in one forward pass: what the judge would say if it had to decide at once, read as a probability.

The judge is shown what a vote would show it, but instead of letting it write, the log probabilities of the two
verdicts, `[[Y]]` and `[[N]]`, right behind its prompt are compared. That costs a prompt and no decoding. Candidates
whose probability of yes lies below a threshold are rejected before any vote.

This is an approximation of the method: a judge that decides before it has reasoned is a worse judge, and it rejects
candidates that the votes would have let through. How many is measured on the audit slice, whose candidates get every
vote all the same (`prefilter.false_reject`), and the threshold is set from such votes
(`svd_loop.experiments.thresholds`).

Left out: cycle consistency, whose verdict needs a question that is decoded first.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from envs.cascade.asking import ask
from envs.cascade.template_sets import TemplateSet
from envs.cascade.votes import answer_of
from svd_loop.contracts import AgentCall, CallId, Candidate, Policy, Prompt, Rejection, Role, Stage, Verdict, VoteValue
from svd_loop.errors import ConfigError, EngineError
from svd_loop.support.statistics import wilson

PURPOSE = "prefilter"
"""Namespace of the calls: their answers are no votes."""
VERDICTS = ("[[Y]]", "[[N]]")
_ROLES = {Stage.FACTUALITY: Role.FACT_CHECKER, Stage.CORRECTNESS: Role.GRADER}


@dataclass(frozen=True, slots=True)
class Prefilter:
    """Which stage is asked, and below which probability of yes a candidate is rejected; 0 only takes the figures."""

    stage: Stage = Stage.CORRECTNESS
    threshold: float = 0.0

    def __post_init__(self) -> None:
        if self.stage not in _ROLES:
            raise ConfigError(
                f"cascade.prefilter.stage: {self.stage} decodes a question before its verdict; "
                f"use {' or '.join(_ROLES)}"
            )

    def scores(
        self, judge: Policy, items: Sequence[tuple[Prompt, Candidate]], templates: TemplateSet, *, round: int
    ) -> list[float]:
        """Probability of yes of each item, from 0 to 1; all are asked in one batch.

        Raises:
            ConfigError: the engine cannot tell log probabilities.
            EngineError: the judge left a call unanswered, or its answer holds no two numbers.
        """
        calls = [self._call(prompt, candidate, templates, round) for prompt, candidate in items]
        return [probability_of_yes(reply.text) for reply in ask(judge, calls)]

    def rejects(self, score: float) -> bool:
        """Whether a candidate goes no further."""
        return score < self.threshold

    def _call(self, prompt: Prompt, candidate: Candidate, templates: TemplateSet, round: int) -> AgentCall:
        role = _ROLES[self.stage]
        place = CallId(PURPOSE, round, role, prompt.id, candidate=candidate.index, stage=self.stage.value)
        solution = answer_of(candidate.text).strip()
        messages = templates.render(role, prompt.domain, question=prompt.text, solution=solution)
        return AgentCall(place, messages, templates.version(role, prompt.domain), choices=VERDICTS)


def probability_of_yes(text: str) -> float:
    """From a reply's `[log p(yes), log p(no)]`, the probability of yes among the two.

    Raises:
        EngineError: it is something else, for instance what a recording made without the prefilter holds.
    """
    try:
        yes, no = map(float, json.loads(text))
    except (ValueError, TypeError):
        raise EngineError(f"a one-token verdict is two log probabilities, found {text[:80]!r}") from None
    return 1.0 / (1.0 + math.exp(min(no - yes, 700.0)))


def prefilter_metrics(verdicts: Sequence[Verdict], audited: Sequence[Verdict], needed: int) -> dict[str, float]:
    """What the prefilter did in a round.

    Args:
        verdicts: All of the round's.
        audited: Those of the audit slice, with every vote.
        needed: Yes votes that let a candidate through a stage.

    Returns:
        `prefilter.rejected`, a count; with an audit slice, `prefilter.audited_accepted`, how many of it the votes alone
        would have accepted, and `prefilter.false_reject`, the share of these that was rejected all the same, with a 95%
        Wilson interval (`.low`, `.high`).
    """
    metrics = {"prefilter.rejected": float(sum(v.rejection is Rejection.PREFILTER for v in verdicts))}
    passed = [verdict for verdict in audited if would_be_accepted(verdict, needed)]
    if audited:
        metrics["prefilter.audited_accepted"] = float(len(passed))
    if passed:
        lost = wilson(sum(not verdict.accepted for verdict in passed), len(passed))
        figures = {"": lost.value, ".low": lost.low, ".high": lost.high}
        metrics |= {f"prefilter.false_reject{end}": value for end, value in figures.items()}
    return metrics


def would_be_accepted(verdict: Verdict, needed: int) -> bool:
    """Whether the votes of a candidate that got all of them accept it, whatever the prefilter said."""
    stages = {vote.stage for vote in verdict.votes}
    yes = Counter(vote.stage for vote in verdict.votes if vote.value is VoteValue.YES)
    return bool(stages) and all(yes[stage] >= needed for stage in stages)
