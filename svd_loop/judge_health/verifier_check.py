"""The verifier test: what a policy can verify on this job's own prompts, before the job is paid for.

Three kinds of candidates are judged with every vote of every stage: samples of development problems, whose labels only
the evaluation reads; candidates of the first training prompts of round 1, which that round finds answered in the
ledger; and canaries, near misses among them. `svd_loop.judge_health.verifiers` turns their votes into rates.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from envs.canaries import GROSS, Canary, CanaryKind, agreeing, plant, watch
from envs.cascade.agreement import AnswerComparison
from envs.cascade.cascade import Cascade
from envs.cascade.every_vote import judge_first
from svd_loop.contracts import (
    Candidate,
    Estimate,
    JudgedCandidate,
    Policy,
    Prompt,
    Role,
    Solver,
    Usage,
    VerifierRates,
    VerifierReport,
)
from svd_loop.evaluation.audit import LabelledSamples
from svd_loop.judge_health.gain import Setting, detectable, forecast_gain, recommendation
from svd_loop.judge_health.verifiers import labelled_rates, latent_rates, passes, vote_figures
from svd_loop.support.statistics import wilson
from svd_loop.support.usage import MeteredPolicy


@dataclass(frozen=True, slots=True)
class SampleSize:
    """How much a test judges.

    Attributes:
        labelled: development problems.
        unlabelled: training prompts.
        canaries: planted candidates of each kind.
    """

    labelled: int
    unlabelled: int
    canaries: int


_PILOT = SampleSize(labelled=0, unlabelled=4, canaries=1)
_LEAST = SampleSize(labelled=6, unlabelled=4, canaries=1)
_MOST = SampleSize(labelled=400, unlabelled=200, canaries=20)
_CANARY_PRICE = 4.0
"""Price of one canary of each kind, in candidates with all their votes: two near misses with every vote, and five that
are mostly refused by an early one."""


@dataclass(frozen=True, slots=True)
class VerifierTest:
    """Measures the verifiers of a job.

    Attributes:
        cascade: the job's own.
        solver: samples candidates.
        labelled: judges samples of development problems.
        prompts: the training prompts of round 1, at most so many.
        comparison: how final answers are found and compared.
        samples: candidates of a training prompt that are compared.
        candidates: of a prompt, as configured.
        problems: development problems of the job.
        seed: the job's.
    """

    cascade: Cascade
    solver: Solver
    labelled: LabelledSamples
    prompts: Callable[[int], Sequence[Prompt]]
    comparison: AnswerComparison
    samples: int
    candidates: int
    problems: int
    seed: int

    def __call__(self, policy: Policy, size: SampleSize) -> VerifierReport:
        """The rates of every stage, of the cascade and of agreement, with intervals, and the forecast.

        Raises:
            EngineError: the policy left a call unanswered.
        """
        metered = MeteredPolicy(policy)
        labelled = self.labelled(metered, size.labelled) if size.labelled else []
        setting = self._setting(metered.take_usage(), len(labelled))
        unlabelled, near, canaries = self.without_labels(policy, size)
        stages, needed = self.cascade.settings.stage_names, self.cascade.settings.needed
        judges = self.cascade.settings.with_judge_only().stage_names
        judged = [*labelled, *unlabelled]
        wrong = [one for one in labelled if one.right is False]
        rates: tuple[VerifierRates, ...] = labelled_rates(labelled, stages, needed)
        rates += latent_rates(judged, near, stages, needed, judges=judges, seed=self.seed)
        forecasts = forecast_gain(labelled, setting, seed=self.seed)
        return VerifierReport(
            rates=rates,
            votes={stage: vote_figures(judged, stage) for stage in stages},
            canaries=canaries,
            complete=sum(one.complete for one in wrong) / len(wrong) if wrong else math.nan,
            candidates=len(judged),
            forecasts=forecasts,
            detectable=detectable(setting),
            recommended=recommendation(forecasts),
        )

    def without_labels(
        self, policy: Policy, size: SampleSize
    ) -> tuple[list[JudgedCandidate], list[JudgedCandidate], Mapping[str, Estimate]]:
        """Candidates of training prompts, near misses, and the share of canaries accepted by kind."""
        prompts, groups = self._sampled(policy, size.unlabelled)
        judged = judge_first(self.cascade, policy, groups, prompts, self.comparison, round=1, purpose="train")
        return judged, *self._canaries(policy, prompts, groups, judged, size.canaries)

    def _setting(self, usage: Mapping[str, Usage], judged: int) -> Setting:
        """The job as configured, with prices from the labelled part's usage."""
        settings, solver = self.cascade.settings, usage.get(Role.SOLVER, Usage())
        votes = _tokens(usage) - solver.output_tokens
        return Setting(
            stages=settings.stage_names,
            judges=settings.with_judge_only().stage_names,
            n=self.candidates,
            votes=settings.votes,
            needed=settings.needed,
            problems=self.problems,
            samples=self.labelled.samples,
            sample_tokens=solver.output_tokens / max(solver.calls, 1),
            vote_tokens=votes / max(judged, 1),
        )

    def _sampled(self, policy: Policy, count: int) -> tuple[Sequence[Prompt], list[list[Candidate]]]:
        """The first prompts of round 1 and candidates of each, under the ids that the round asks for."""
        prompts = self.prompts(count) if count else []
        drawn = self.solver.sample(policy, prompts, range(self.samples), round=1) if prompts else []
        return prompts, [drawn[start : start + self.samples] for start in range(0, len(drawn), self.samples)]

    def _canaries(
        self,
        policy: Policy,
        prompts: Sequence[Prompt],
        groups: Sequence[Sequence[Candidate]],
        judged: Sequence[JudgedCandidate],
        per_kind: int,
    ) -> tuple[list[JudgedCandidate], Mapping[str, Estimate]]:
        """Near misses with every vote, and the share of canaries that the cascade accepts, by kind.

        They are made from complete candidates, right or wrong: at this point nothing says which are right, and wrong
        ones stay wrong.
        """
        if not self.cascade.settings.with_judge_only().stages:
            return [], {}
        items = zip(prompts, groups, judged, strict=True)
        solved = [(prompt, group[0]) for prompt, group, one in items if one.complete]
        gross = plant(solved, per_kind=per_kind, seed=self.seed, round=0)
        among = {prompt.id: group for prompt, group in zip(prompts, groups, strict=True)}
        found = dict(watch(self.cascade, policy, gross, round=0, groups=among).by_kind) if gross else {}
        missed = plant(solved, per_kind=2 * per_kind, seed=self.seed, round=0, kinds=[CanaryKind.NEAR_MISS])
        near = self._every_vote(policy, missed, first=len(GROSS) * per_kind)
        shares = {kind.value: share for kind, share in found.items()}
        if near:
            judges = self.cascade.settings.with_judge_only()
            left = [canary for canary, one in near if all(passes(one, s, judges.needed) for s in judges.stage_names)]
            for section in self.cascade.settings.stages:
                left = agreeing(self.cascade, section, left, among) if section.sees_all else left
            shares[CanaryKind.NEAR_MISS.value] = wilson(len(left), len(near))
        return [one for _, one in near], shares

    def _every_vote(
        self, policy: Policy, canaries: Sequence[Canary], *, first: int
    ) -> list[tuple[Canary, JudgedCandidate]]:
        """Canaries judged like candidates; numbered from `first`, since other canaries have the numbers below."""
        settings = self.cascade.settings.with_judge_only().model_copy(update={"early_exit": False})
        whole = replace(self.cascade, settings=settings)
        items = [(one.prompt, replace(one.candidate, index=first + place)) for place, one in enumerate(canaries)]
        verdicts = whole.judge(policy, items, round=0, purpose="canary")
        found = zip(canaries, verdicts, strict=True)
        return [
            (canary, JudgedCandidate(verdict.prompt_id, verdict.votes)) for canary, verdict in found if verdict.votes
        ]


@dataclass(frozen=True, slots=True)
class BudgetedTest:
    """The verifier test of round 0, as large as a share of the job's tokens allows.

    The job's tokens are estimated from the baseline's measurement (once more every round) and from the price of a
    candidate with all its votes, one for each prompt of each round. That price comes from a pilot, which is part of the
    test.

    Attributes:
        test: the test.
        share: of the job's tokens; 0 is no test.
        rounds: most rounds of the job.
        prompts: prompts of a round.
    """

    test: VerifierTest
    share: float
    rounds: int
    prompts: int

    def __call__(self, policy: MeteredPolicy, measured: Mapping[str, Usage]) -> VerifierReport | None:
        """The report, with the policy's counters holding its usage; None where the share does not pay for a pilot.

        Args:
            policy: the base.
            measured: usage of the baseline's measurement.

        Raises:
            EngineError: the policy left a call unanswered.
        """
        if self.share * self.rounds * self.prompts < _LEAST.labelled + _LEAST.unlabelled:
            return None
        self.test.without_labels(policy, _PILOT)
        votes = _tokens({role: usage for role, usage in policy.take_usage().items() if role != Role.SOLVER})
        price = votes / (_PILOT.unlabelled + _CANARY_PRICE * _PILOT.canaries)
        solver = measured.get(Role.SOLVER, Usage())
        sample = solver.output_tokens / max(solver.calls, 1)
        job = _tokens(measured) * (self.rounds + 1) + self.rounds * self.prompts * (sample + price)
        report = self.test(policy, _affordable(self.share * job, price, sample * self.test.samples))
        return replace(report, tokens=policy.output_tokens)


def size_of(candidates: int) -> SampleSize:
    """The size of a test of so many labelled candidates."""
    return SampleSize(candidates, candidates // 4, candidates // 16)


def no_test(policy: MeteredPolicy, measured: Mapping[str, Usage]) -> None:
    """Return None: used by controls, which have no judge."""
    return None


def _affordable(tokens: float, price: float, samples: float) -> SampleSize:
    """The sizes that a number of tokens pays for, at least `_LEAST`.

    Args:
        tokens: to spend.
        price: of a candidate's votes.
        samples: price of a training prompt's candidates; those of development problems are drawn already.
    """
    price = max(price, 1.0)
    return SampleSize(
        labelled=min(max(int(0.55 * tokens / price), _LEAST.labelled), _MOST.labelled),
        unlabelled=min(max(int(0.25 * tokens / (price + samples)), _LEAST.unlabelled), _MOST.unlabelled),
        canaries=min(max(int(0.2 * tokens / (price * _CANARY_PRICE)), _LEAST.canaries), _MOST.canaries),
    )


def _tokens(usage: Mapping[str, Usage]) -> int:
    return sum(one.output_tokens for one in usage.values())
