"""The policy as judge: the votes of any number of candidates and stages, asked in parallel.

A vote is written as a conversation: a generator that yields a call, receives the reply, and returns the vote. Each
stage (`envs.cascade.stage`) can then be read from top to bottom (factuality and correctness are one call, cycle
consistency is two, an invalid vote is asked again), while `cast_votes` runs any number of conversations in step, one
batch per turn.

The judge sees a candidate's answer, not the reasoning before `</think>`: the answer is what a reader gets, and
reasoning usually repeats the question, which would reveal it to the cycle-consistency stage. `show_thought` shows the
reasoning to the stages that see the question anyway.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass

from envs.cascade.asking import ask
from envs.cascade.stage import Ballot, CallBuilder, stage_of
from envs.cascade.template_sets import TemplateSet
from svd_loop.config.stages import StageSection
from svd_loop.contracts import NO_CANDIDATE, AgentCall, Asking, CallId, Policy, Reply, Vote, VoteValue
from svd_loop.errors import ConfigError

Conversation = Generator[AgentCall, Reply, Vote]


def cast_votes(
    judge: Policy,
    ballots: Sequence[Ballot],
    templates: TemplateSet,
    *,
    invalid_retries: int,
    show_thought: bool = False,
    stages: Sequence[StageSection] = (),
    asking: Asking = Asking.DIRECT,
    shared: dict[CallId, Reply] | None = None,
) -> list[Vote]:
    """Cast all ballots: per turn, one batch with the next call of every unfinished conversation.

    Args:
        judge: The policy that votes.
        ballots: The votes to cast, in any order.
        templates: The judge's instructions.
        invalid_retries: How often a vote without a readable verdict is asked again (with `attempt` counting up).
        show_thought: Whether fact checker and grader see the candidate's reasoning.
        stages: Settings of stages (`cascade.stages`); others take their defaults.
        asking: How a vote of the built-in stages is asked (`envs.cascade.check`).
        shared: Replies to calls that all candidates of a prompt share, by earlier calls of this function; new ones are
            added.

    Returns:
        The votes, aligned with `ballots`.

    Raises:
        EngineError: The judge left a call unanswered.
    """
    settings = JudgeSettings(templates, invalid_retries, show_thought, stages, asking)
    conversations = [converse(ballot, settings) for ballot in ballots]
    shared = {} if shared is None else shared
    votes: dict[int, Vote] = {}
    waiting: dict[int, AgentCall] = {}
    replies: Mapping[int, Reply | None] = dict.fromkeys(range(len(ballots)))  # a conversation begins without a reply
    while replies:
        for place, reply in replies.items():
            try:
                waiting[place] = next(conversations[place]) if reply is None else conversations[place].send(reply)
            except StopIteration as finished:
                votes[place] = finished.value
                waiting.pop(place, None)
        replies = dict(zip(waiting, _ask_each_once(judge, list(waiting.values()), shared), strict=True))
    return [votes[place] for place in range(len(ballots))]


@dataclass(frozen=True, slots=True)
class JudgeSettings:
    """The arguments of `cast_votes`."""

    templates: TemplateSet
    invalid_retries: int
    show_thought: bool
    stages: Sequence[StageSection]
    asking: Asking


def _ask_each_once(judge: Policy, calls: Sequence[AgentCall], shared: dict[CallId, Reply]) -> list[Reply]:
    """The replies to all calls; a call that candidates share is asked once, and its reply is kept in `shared`."""
    new = {call.id: call for call in calls if call.id not in shared}
    replies = dict(zip(new, ask(judge, list(new.values())), strict=True))
    shared |= {call_id: reply for call_id, reply in replies.items() if call_id.candidate == NO_CANDIDATE}
    return [shared[call.id] if call.id in shared else replies[call.id] for call in calls]


def converse(ballot: Ballot, settings: JudgeSettings) -> Conversation:
    """Ask the stage's question, and ask again while the answer has no readable verdict."""
    ask_once = stage_of(ballot.stage, settings.stages).ask
    if ask_once is None:
        raise ConfigError(f"cascade.stages: {ballot.stage} neither asks a judge nor decides by itself")
    value, text = VoteValue.INVALID, ""
    for attempt in range(1 + settings.invalid_retries):
        calls = CallBuilder(settings.templates, ballot, attempt, settings.show_thought, settings.asking)
        value, text = yield from ask_once(calls)
        if value is not VoteValue.INVALID:
            break
    return Vote(ballot.prompt.id, ballot.candidate.index, ballot.stage, ballot.vote, value, text)
