"""Agreement as a stage: pass the candidates whose final answer enough of the prompt's candidates reach.

It asks no judge and costs no call. Truncated and empty candidates, and those without an answer, count among the
prompt's candidates: a prompt that is too hard for the model to finish has little agreement.
"""

from __future__ import annotations

from collections.abc import Sequence

from envs.cascade.agreement import AnswerComparison, Group, partitions, sizes
from envs.cascade.stage import CascadeStage, Decision
from svd_loop.config.stages import AgreementSection
from svd_loop.contracts import VoteValue


def make_stage(section: AgreementSection) -> CascadeStage:
    """The stage with its threshold."""

    def decide(groups: Sequence[Group], comparison: AnswerComparison) -> list[list[Decision]]:
        for prompt, _ in groups:
            section.refuse_domain(prompt.domain)
        found = partitions(groups, comparison)
        return [_decisions(sizes(classes), section.needed(len(classes))) for classes in found]

    return CascadeStage(decide=decide)


def _decisions(reached_by: Sequence[int], needed: int) -> list[Decision]:
    """The vote on each candidate of a prompt, given how many candidates reach its answer."""
    total = len(reached_by)
    return [
        (
            VoteValue.YES if count >= needed else VoteValue.NO,
            f"{count} of {total} candidates reach this final answer, {needed} are needed"
            if count
            else "there is no final answer",
        )
        for count in reached_by
    ]
