"""The policy as judge: the calls behind one vote of each stage, run for many votes in parallel.

A vote is written as a conversation: a generator that yields a call, receives the reply, and returns the vote. Each
stage can then be read from top to bottom (factuality and correctness are one call, cycle consistency is two, an invalid
vote is asked again), while `cast_votes` runs any number of conversations in step, one batch per turn.

The judge sees a candidate's answer, not the reasoning before `</think>`: the answer is what a reader gets, and
reasoning usually repeats the question, which would reveal it to the cycle-consistency stage. `show_thought` shows the
reasoning to the stages that see the question anyway.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass

from envs.cascade.asking import ask
from envs.cascade.template_sets import TemplateSet
from envs.cascade.votes import answer_of, read_verdict, says_nothing, with_thought
from svd_loop.contracts import (
    AgentCall,
    CallId,
    Candidate,
    FinishReason,
    Policy,
    Prompt,
    Reply,
    Role,
    Stage,
    Vote,
    VoteValue,
)

Conversation = Generator[AgentCall, Reply, Vote]
_Opinion = Generator[AgentCall, Reply, tuple[VoteValue, str]]


@dataclass(frozen=True, slots=True)
class Ballot:
    """One vote to cast: candidate, stage, and number of the vote."""

    prompt: Prompt
    candidate: Candidate
    stage: Stage
    vote: int
    round: int
    purpose: str = "train"


@dataclass(frozen=True, slots=True)
class _CallBuilder:
    """Builds the calls of one attempt at a ballot."""

    templates: TemplateSet
    ballot: Ballot
    attempt: int
    show_thought: bool = False

    def call(self, role: Role, **fields: str) -> AgentCall:
        """A call in a role; its id says which vote it belongs to."""
        ballot, domain = self.ballot, self.ballot.prompt.domain
        call_id = CallId(
            ballot.purpose,
            ballot.round,
            role,
            ballot.prompt.id,
            candidate=ballot.candidate.index,
            stage=ballot.stage.value,
            vote=ballot.vote,
            attempt=self.attempt,
        )
        messages = self.templates.render(role, domain, **fields)
        return AgentCall(call_id, messages, self.templates.version(role, domain))

    @property
    def question(self) -> str:
        """The original question."""
        return self.ballot.prompt.text

    @property
    def solution(self) -> str:
        """The candidate's answer without its reasoning."""
        return answer_of(self.ballot.candidate.text).strip()

    @property
    def examined(self) -> str:
        """The candidate's text as shown to the stages that know the question."""
        return with_thought(self.ballot.candidate.text) if self.show_thought else self.solution


def cast_votes(
    judge: Policy,
    ballots: Sequence[Ballot],
    templates: TemplateSet,
    *,
    invalid_retries: int,
    show_thought: bool = False,
) -> list[Vote]:
    """Cast all ballots: per turn, one batch with the next call of every unfinished conversation.

    Args:
        judge: The policy that votes.
        ballots: The votes to cast, in any order.
        templates: The judge's instructions.
        invalid_retries: How often a vote without a readable verdict is asked again (with `attempt` counting up).
        show_thought: Whether fact checker and grader see the candidate's reasoning.

    Returns:
        The votes, aligned with `ballots`.

    Raises:
        EngineError: The judge left a call unanswered.
    """
    conversations = [_converse(ballot, templates, invalid_retries, show_thought) for ballot in ballots]
    votes: dict[int, Vote] = {}
    waiting = {place: next(conversation) for place, conversation in enumerate(conversations)}
    while waiting:
        replies = ask(judge, list(waiting.values()))
        # A copy of the keys: a finished conversation is deleted from `waiting` inside the loop.
        for place, reply in zip(list(waiting), replies, strict=True):
            try:
                waiting[place] = conversations[place].send(reply)
            except StopIteration as finished:
                votes[place] = finished.value
                del waiting[place]
    return [votes[place] for place in range(len(ballots))]


def _converse(ballot: Ballot, templates: TemplateSet, invalid_retries: int, show_thought: bool) -> Conversation:
    """Ask the stage's question, and ask again while the answer has no readable verdict."""
    value, text = VoteValue.INVALID, ""
    for attempt in range(1 + invalid_retries):
        value, text = yield from _QUESTIONS[ballot.stage](_CallBuilder(templates, ballot, attempt, show_thought))
        if value is not VoteValue.INVALID:
            break
    return Vote(ballot.prompt.id, ballot.candidate.index, ballot.stage, ballot.vote, value, text)


def _cycle_consistency(build: _CallBuilder) -> _Opinion:
    """Infer the question from the solution alone, then compare it with the original question."""
    inference = yield build.call(Role.QUESTION_INFERRER, solution=build.solution)
    inferred = answer_of(inference.text).strip()
    if inference.finish_reason is FinishReason.LENGTH or says_nothing(inferred):
        return VoteValue.INVALID, inference.text
    comparison = yield build.call(Role.QUESTION_COMPARER, question=build.question, inferred=inferred)
    return read_verdict(comparison.text, comparison.finish_reason), f"{inferred}\n\n{comparison.text}"


def _factuality(build: _CallBuilder) -> _Opinion:
    """Check the solution for clearly false statements."""
    return (yield from _single(build, Role.FACT_CHECKER))


def _correctness(build: _CallBuilder) -> _Opinion:
    """Check the solution's reasoning and conclusion."""
    return (yield from _single(build, Role.GRADER))


def _single(build: _CallBuilder, role: Role) -> _Opinion:
    reply = yield build.call(role, question=build.question, solution=build.examined)
    return read_verdict(reply.text, reply.finish_reason), reply.text


_QUESTIONS: dict[Stage, Callable[[_CallBuilder], _Opinion]] = {
    Stage.CYCLE_CONSISTENCY: _cycle_consistency,
    Stage.FACTUALITY: _factuality,
    Stage.CORRECTNESS: _correctness,
}

ROLES: Mapping[Stage, tuple[Role, ...]] = {
    Stage.CYCLE_CONSISTENCY: (Role.QUESTION_INFERRER, Role.QUESTION_COMPARER),
    Stage.FACTUALITY: (Role.FACT_CHECKER,),
    Stage.CORRECTNESS: (Role.GRADER,),
}
"""The roles that are called in each stage."""
