"""Judge labelled answers every round: true and false positive rates of the judge.

They are never trained on: they are not candidates of the round, their votes have a purpose of their own, and the label
is read after the verdict. All votes are cast, without early exit, so that a stage's rates do not depend on earlier
stages.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from envs.cascade.cascade import Cascade
from svd_loop.contracts import DomainName, Estimate, HealthFigure, HealthMeasure, Policy, Verdict, VoteValue
from svd_loop.errors import DataError
from svd_loop.evaluation.answers_file import Answer, read_answers
from svd_loop.support.statistics import wilson

PURPOSE = "labelled"


@dataclass(frozen=True, slots=True)
class LabelledAnswers:
    """A set of labelled answers; an empty set measures nothing."""

    answers: Sequence[Answer] = ()

    def shares(self, cascade: Cascade, judge: Policy, round: int) -> dict[HealthFigure, Estimate]:
        """Return true and false positive rates of the cascade and of each stage, with intervals.

        The true positive rate is the accepted share of correct answers, the false positive rate that of wrong answers.
        Without answers of a kind there is no rate.

        Raises:
            EngineError: a call of the judge got no reply.
        """
        if not self.answers:
            return {}
        # Agreement among a file's answers would say nothing about the policy's own candidates.
        judged = cascade.settings.with_judge_only()
        if not judged.stages:
            return {}
        whole = replace(cascade, settings=judged.model_copy(update={"early_exit": False}))
        items = [(answer.prompt, answer.candidate) for answer in self.answers]
        verdicts = whole.judge(judge, items, round=round, purpose=PURPOSE)
        found: dict[HealthFigure, Estimate] = {}
        for measure, label in ((HealthMeasure.TRUE_POSITIVE, True), (HealthMeasure.FALSE_POSITIVE, False)):
            chosen = [v for v, answer in zip(verdicts, self.answers, strict=True) if answer.correct is label]
            if chosen:
                found |= _shares(measure, chosen, whole)
        return found


def read_labelled(path: Path, domain: DomainName) -> LabelledAnswers:
    """Read labelled answers from a file of `{"prompt", "solution", "correct"}` lines.

    Raises:
        DataError: a line cannot be used (file and line are given), or all labels are the same.
    """
    answers = read_answers(path, domain, labelled=True)
    if len({answer.correct for answer in answers}) == 1:
        raise DataError(f"{path}: every answer is labelled {str(answers[0].correct).lower()}; rates need both kinds")
    return LabelledAnswers(answers)


def _shares(measure: HealthMeasure, verdicts: Sequence[Verdict], cascade: Cascade) -> dict[HealthFigure, Estimate]:
    """Return the shares accepted by the cascade and passed by each stage."""
    needed_of, total = cascade.settings.needed_of, len(verdicts)
    found = {HealthFigure(measure): wilson(sum(verdict.accepted for verdict in verdicts), total)}
    for stage in cascade.settings.stage_names:
        yes = [sum(vote.stage == stage and vote.value is VoteValue.YES for vote in v.votes) for v in verdicts]
        passed = sum(count >= needed_of(stage) for count in yes)
        found[HealthFigure(measure, stage)] = wilson(passed, total)
    return found
