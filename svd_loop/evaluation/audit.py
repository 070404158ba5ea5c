"""Measure the judge on held-out solutions: precision and recall of every stage, round by round.

It is never used for training: the cascade votes on samples of development problems that the evaluation has already
drawn, and gold shows which of the accepted ones are right. So judge drift is detected without labels of training
prompts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from envs.cascade.cascade import Cascade
from envs.cascade.every_vote import judge_first
from svd_loop.config.domains import DomainSection
from svd_loop.contracts import (
    Candidate,
    JudgedCandidate,
    Outcome,
    Policy,
    Problem,
    Prompt,
    Rejection,
    Solver,
    StageName,
    StepRates,
    Verdict,
)
from svd_loop.evaluation.evaluation import answer_comparison, score_pairs


@dataclass(frozen=True, slots=True)
class JudgeAudit:
    """Judges the first sample of some development problems.

    Attributes:
        problems: the problems of the audit; an empty list disables it.
        solver: requests the samples, which the ledger already has.
        cascade: the job's own.
        test_seconds: time limit of one program's tests.
        domains: settings of domains, `evaluation.domains`.
        samples: samples of a problem that the evaluation has drawn, among which agreement is counted.
    """

    problems: Sequence[Problem]
    solver: Solver
    cascade: Cascade
    test_seconds: float = 5.0
    domains: Sequence[DomainSection] = ()
    samples: int = 1

    def __call__(self, policy: Policy) -> dict[str, StepRates]:
        """Precision, recall and false positive rate by step of the funnel.

        Candidates that scoring leaves undecided are left out.
        """
        if not self.problems:
            return {}
        prompts = [problem.as_prompt() for problem in self.problems]
        groups = self._groups(policy, prompts)
        candidates = [groups[prompt.id][0] for prompt in prompts]
        items = list(zip(prompts, candidates, strict=True))
        verdicts = self.cascade.judge(policy, items, round=0, purpose="audit", groups=groups)
        pairs = [(candidate.text, problem) for candidate, problem in zip(candidates, self.problems, strict=True)]
        outcomes = score_pairs(pairs, self.test_seconds, self.domains)
        decided = [place for place, outcome in enumerate(outcomes) if outcome is not Outcome.UNDECIDED]
        right = np.array([outcomes[place] is Outcome.RIGHT for place in decided], dtype=bool)
        stages = self.cascade.settings.stage_names
        rates: dict[str, StepRates] = {}
        for place, step in enumerate(("complete", *stages)):
            alive = np.array(
                [_survives(verdict, stages[:place]) for verdict in (verdicts[i] for i in decided)], dtype=bool
            )
            rates[str(step)] = StepRates(
                precision=float(right[alive].mean()) if alive.any() else None,
                recall=float(alive[right].mean()) if right.any() else None,
                false_positive=float(alive[~right].mean()) if not right.all() else None,
            )
        return rates

    def _groups(self, policy: Policy, prompts: Sequence[Prompt]) -> dict[str, list[Candidate]]:
        """The samples of each problem: the first one, or all where a stage has to see them."""
        count = self.samples if self.cascade.settings.deciding_stages else 1
        found = self.solver.sample(policy, prompts, range(count), round=0, purpose="development")
        return {prompt.id: found[place * count : (place + 1) * count] for place, prompt in enumerate(prompts)}


@dataclass(frozen=True, slots=True)
class LabelledSamples:
    """Judges the first sample of development problems with every vote of every stage, for the verifier test.

    The samples are those that the evaluation draws, and the votes those that the audit asks for, so that the ledger has
    what either of them was answered.

    Attributes:
        problems: to draw from.
        solver: requests the samples.
        cascade: the job's own.
        samples: samples of a problem, for the agreement among them.
        test_seconds: time limit of one program's tests.
        domains: settings of domains, `evaluation.domains`.
    """

    problems: Sequence[Problem]
    solver: Solver
    cascade: Cascade
    samples: int = 1
    test_seconds: float = 5.0
    domains: Sequence[DomainSection] = ()

    def __call__(self, policy: Policy, count: int) -> list[JudgedCandidate]:
        """The first samples of `count` problems with their labels; those that scoring leaves undecided are left out.

        Raises:
            EngineError: the judge left a call unanswered.
        """
        problems = audit_sample(self.problems, count)
        prompts = [problem.as_prompt() for problem in problems]
        drawn = self.solver.sample(policy, prompts, range(self.samples), round=0, purpose="development")
        groups = [drawn[start : start + self.samples] for start in range(0, len(drawn), self.samples)]
        outcomes = score_pairs(
            [(one.text, problem) for group, problem in zip(groups, problems, strict=True) for one in group],
            self.test_seconds,
            self.domains,
        )
        judged = judge_first(
            self.cascade, policy, groups, prompts, answer_comparison(self.domains), round=0, purpose="audit"
        )
        by_problem = [outcomes[start : start + self.samples] for start in range(0, len(outcomes), self.samples)]
        return [
            replace(one, right=found[0] is Outcome.RIGHT, solved=_share_right(found))
            for one, found in zip(judged, by_problem, strict=True)
            if found[0] is not Outcome.UNDECIDED
        ]


def audit_sample(problems: Sequence[Problem], count: int) -> list[Problem]:
    """`count` problems in equal steps through the list, so that every domain is represented."""
    if count >= len(problems):
        return list(problems)
    return [problems[place * len(problems) // count] for place in range(count)]


_NOT_JUDGED = (Rejection.TRUNCATED, Rejection.EMPTY, Rejection.STATIC)


def _share_right(outcomes: Sequence[Outcome]) -> float:
    """The share of the decided outcomes that are right."""
    decided = [outcome for outcome in outcomes if outcome is not Outcome.UNDECIDED]
    return sum(outcome is Outcome.RIGHT for outcome in decided) / len(decided)


def _survives(verdict: Verdict, passed: Sequence[StageName]) -> bool:
    # What is malformed (`cascade.static`) was not judged either: it is in no step, so precision is that of the judge.
    return verdict.rejection not in _NOT_JUDGED and verdict.stage not in passed
