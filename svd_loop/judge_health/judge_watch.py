"""Measure the judge of a round: canaries made from accepted candidates, and figures of the episode.

This needs no labels. If the user has labelled answers, `svd_loop.judge_health.labelled` adds the judge's true and
false positive rates; `svd_loop.evaluation.audit` measures the judge on held-out problems.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from envs.canaries import plant, watch
from envs.cascade.cascade import Cascade
from svd_loop.contracts import Episode, HealthFigure, HealthMeasure, HealthReport, Policy, Prompt
from svd_loop.judge_health.labelled import LabelledAnswers
from svd_loop.loop.health_rule import FALSE_ACCEPT, episode_health


@dataclass(frozen=True, slots=True)
class JudgeWatch:
    """Measures the health of a round's judge.

    Attributes:
        cascade: the job's cascade.
        per_kind: canaries of each kind; with 0 only the figures of the episode are reported.
        seed: the job's seed; seed and round decide which canaries are planted.
        labelled: labelled answers of the user, if any.
    """

    cascade: Cascade
    per_kind: int
    seed: int
    labelled: LabelledAnswers = field(default_factory=LabelledAnswers)

    def __call__(self, judge: Policy, episode: Episode, prompts: Sequence[Prompt]) -> HealthReport | None:
        """Return the round's figures; None if nothing could be measured.

        Canaries are made from accepted candidates and measure stages that ask the judge; without either there are none.

        Raises:
            EngineError: a call of the judge got no reply.
        """
        report = episode_health(episode)
        shares = {**report.shares, **self.labelled.shares(self.cascade, judge, episode.round)}
        report = replace(report, shares=shares)
        by_id = {prompt.id: prompt for prompt in prompts}
        solved = [(by_id[candidate.prompt_id], candidate) for candidate in episode.selected]
        judged = self.cascade.settings.with_judge_only().stages
        canaries = plant(solved if judged else [], per_kind=self.per_kind, seed=self.seed, round=episode.round)
        if not canaries:
            return None if report.is_empty else report
        found = watch(self.cascade, judge, canaries, round=episode.round)
        shares[FALSE_ACCEPT] = found.overall
        shares |= {HealthFigure(HealthMeasure.FALSE_ACCEPT, stage): share for stage, share in found.by_stage.items()}
        return replace(
            report, shares=shares, canaries={kind.value: share.value for kind, share in found.by_kind.items()}
        )


def no_watch(judge: Policy, episode: Episode, prompts: Sequence[Prompt]) -> None:
    """Return None; used by controls, which have no judge."""
    return None
