"""Candidates with every vote of every stage and the agreement among their prompt's, for measurements of verifiers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from envs.cascade.agreement import AnswerComparison, partitions, sizes
from envs.cascade.cascade import Cascade
from svd_loop.contracts import Candidate, JudgedCandidate, Policy, Prompt, Rejection


def judge_first(
    cascade: Cascade,
    judge: Policy,
    groups: Sequence[Sequence[Candidate]],
    prompts: Sequence[Prompt],
    comparison: AnswerComparison,
    *,
    round: int,
    purpose: str,
) -> list[JudgedCandidate]:
    """Judge the first candidate of each prompt with every vote of every stage.

    Args:
        cascade: the job's own.
        judge: the policy that votes.
        groups: candidates of each prompt, aligned with `prompts`; agreement is counted among all of them.
        prompts: P different ones.
        comparison: how final answers are found and compared.
        round: of the votes.
        purpose: of the votes.

    Raises:
        EngineError: the judge left a call unanswered.
    """
    whole = replace(cascade, settings=cascade.settings.model_copy(update={"early_exit": False, "audit_share": 0.0}))
    first = [group[0] for group in groups]
    by_prompt = {prompt.id: group for prompt, group in zip(prompts, groups, strict=True)}
    items = list(zip(prompts, first, strict=True))
    verdicts = whole.judge(judge, items, round=round, purpose=purpose, groups=by_prompt)
    classes = partitions(list(zip(prompts, groups, strict=True)), comparison)
    return [
        JudgedCandidate(
            prompt.id,
            verdict.votes,
            complete=verdict.accepted or verdict.rejection is Rejection.VOTE,
            agreeing=sizes(found)[0] if len(group) > 1 else None,
            compared=len(group),
            largest=max(sizes(found)),
        )
        for prompt, verdict, group, found in zip(prompts, verdicts, groups, classes, strict=True)
    ]
