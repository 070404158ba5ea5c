"""A simulated solver and judge: correct with given probabilities, decided by the call's own seed.

It does not model how errors cluster: every draw is independent, so more votes always help here, which real
judges do not promise.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass

from policies.scripted import tasks
from policies.scripted.tasks import Task
from svd_loop.contracts import AgentCall, FinishReason, Role

MARKS = ("[[N]]", "[[Y]]")
_FOUND_GOOD = ("I recomputed it and find no error.", "Both ask the same.")
_FOUND_BAD = ("I recomputed it and something is wrong.", "The questions differ.")
_REVIEWERS = (
    Role.FACT_REVIEWER,
    Role.ANSWER_REVIEWER,
    Role.QUESTION_REVIEWER,
    Role.FACT_COMPARER,
    Role.ANSWER_COMPARER,
)
"""Roles that give findings and leave the verdict to another turn."""


@dataclass(frozen=True, slots=True)
class Traits:
    """Parameters of the simulated policy: probabilities (0 to 1), and `gain`, the strength of an update."""

    skill: float = 0.4
    gain: float = 0.5
    true_positive: float = 0.97
    false_positive: float = 0.15
    invalid: float = 0.0

    def as_dict(self) -> dict[str, float]:
        """Plain data, for storing."""
        return asdict(self)


class SimulatedScript:
    """Answers a call in any role, from its messages, its prompt's id and its seed only.

    The solver computes the answer and states it with chance `skill`, otherwise a wrong one. Fact checker and grader
    recompute and vote yes with chance `true_positive` or `false_positive`. For cycle consistency the same two chances
    decide whether the question inferrer restates the question faithfully; the comparer then compares honestly. A
    vote is left without a verdict with chance `invalid`. Findings in a turn of their own are decided in the same way;
    the verdict then follows them, and an own solution of the judge changes nothing.
    """

    def __init__(self, traits: Traits) -> None:
        self._traits = traits

    def answer(self, call: AgentCall, seed: int, policy_round: int) -> tuple[str, FinishReason]:
        """The reply's text; simulated replies always end by themselves."""
        text = "\n".join(message.content for message in call.messages if message.role == "user")
        if call.id.role == Role.SOLVER:
            return self._solve(_question(text, call.id.prompt_id), seed), FinishReason.STOP
        if call.id.role == Role.QUESTION_INFERRER:
            return self._infer(text, call.id.prompt_id, seed), FinishReason.STOP
        if call.id.role == Role.REFERENCE_SOLVER:
            return self._solve(_question(text, call.id.prompt_id), seed), FinishReason.STOP
        if call.id.role == Role.VERDICT_GIVER:
            return MARKS[call.messages[-2].content in _FOUND_GOOD], FinishReason.STOP
        if _draw(seed, "invalid") < self._traits.invalid:
            return ("I cannot say." if call.id.role not in _REVIEWERS else "..."), FinishReason.STOP
        of_questions = call.id.role in (Role.QUESTION_COMPARER, Role.QUESTION_REVIEWER)
        passes = (self._compare if of_questions else self._judge)(text, call.id.prompt_id, seed)
        findings = (_FOUND_GOOD if passes else _FOUND_BAD)[of_questions]
        return findings if call.id.role in _REVIEWERS else f"{findings}\n{MARKS[passes]}", FinishReason.STOP

    def _solve(self, task: Task, seed: int) -> str:
        if _draw(seed, "skill") < self._traits.skill:
            return task.solution(task.result)
        return task.solution(task.result + 1 + int(9 * _draw(seed, "slip")))

    def _infer(self, text: str, prompt_id: str, seed: int) -> str:
        solved = tasks.solved_in(text)
        task = solved[-1] if solved else tasks.stand_in(prompt_id)
        return (task if self._approves(task.is_solved_by(text), seed) else task.drifted()).question()

    def _compare(self, text: str, prompt_id: str, seed: int) -> bool:
        found = tasks.questions_in(text)
        if len(found) == 1:  # The original has an unknown form; only the inferred question was found.
            found = [tasks.stand_in(prompt_id), *found]
        return len(found) > 1 and found[0] == found[-1]

    def _judge(self, text: str, prompt_id: str, seed: int) -> bool:
        return self._approves(_question(text, prompt_id).is_solved_by(text), seed)

    def _approves(self, right: bool, seed: int) -> bool:
        return _draw(seed, "vote") < (self._traits.true_positive if right else self._traits.false_positive)


def _question(text: str, prompt_id: str) -> Task:
    found = tasks.questions_in(text)
    return found[0] if found else tasks.stand_in(prompt_id)


def _draw(seed: int, label: str) -> float:
    """A number in [0, 1) that depends on the seed and on a label."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{label}".encode()).digest()[:7], "big") / 2**56
