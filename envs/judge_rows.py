"""Judge rows: judgements of a round whose right verdict is inferred without labels, as training rows.

The update trains the judge's roles on the policy's own replies, as sampled, that say the inferred verdict:

- `accepted` (yes): the candidate was accepted, so every vote on it said yes.
- `agreed` (yes): a vote refused it, and its final answer is that of an accepted candidate of its prompt.
- `contradicted` (no): a vote refused it, and its final answer is none of the accepted ones of its prompt. Programs are
  left out, because nothing runs them to compare what they do.
- `planted` (no): an accepted solution with an error put in, or a solution of another prompt (`envs.canaries`), drawn
  apart from the round's canaries.

Votes of the round are asked again by their calls and so taken from the ledger; refused candidates that agreed, and
planted ones, are judged a few times more. Of every stage as many rows say yes as no. What the judge answered
both ways comes first: there it has something to learn.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from random import Random

from envs.canaries import CanaryKind, Solved, caught_by, plant
from envs.cascade.cascade import Cascade
from envs.cascade.judging import cast_votes
from envs.cascade.stage import Ballot
from svd_loop.config.domains import section_of
from svd_loop.config.stages import stage_section
from svd_loop.contracts import (
    AgentCall,
    Candidate,
    Episode,
    FinishReason,
    JudgeRow,
    Outcome,
    Policy,
    Prompt,
    Rejection,
    Reply,
    RoleName,
    StageName,
    TrainingRow,
    Vote,
    VoteValue,
)
from svd_loop.support.wrapping import PolicyWrapper

_Vote = tuple[str, str, int, str, int]
"""Purpose, prompt, candidate, stage and number of a vote."""

PURPOSE = "judge_rows"
TRIES = 3
"""Votes on a planted candidate, and further votes on a refused one that agreed, by each stage."""
_FIRST_PLANTED = 1_000_000
"""Number of the first planted candidate, beyond those of a prompt's own."""
_REASONS = ("agreed", "contradicted", "planted", "accepted")
_TRUTHS = (VoteValue.YES, VoteValue.NO)
_PLANTED = (CanaryKind.CORRUPTED, CanaryKind.NEAR_MISS, CanaryKind.FOREIGN)


@dataclass(frozen=True, slots=True)
class _Question:
    """One candidate before one stage: the votes asked, the inferred verdict, and what it is inferred from."""

    stage: StageName
    ballots: Sequence[Ballot]
    value: VoteValue
    reason: str


class _Recorder(PolicyWrapper):
    """A judge that keeps its replies by the vote they belong to."""

    def __init__(self, judge: Policy) -> None:
        super().__init__(judge)
        self.replies: dict[_Vote, list[Reply]] = defaultdict(list)

    def generate(self, calls: Sequence[AgentCall]) -> list[Reply]:
        replies = super().generate(calls)
        for reply in replies:
            one = reply.call
            self.replies[one.purpose, one.prompt_id, one.candidate, one.stage, one.vote].append(reply)
        return replies


def judge_rows(
    cascade: Cascade,
    judge: Policy,
    episode: Episode,
    others: Sequence[Candidate],
    prompts: Sequence[Prompt],
    *,
    share: float,
    seed: int,
) -> list[JudgeRow]:
    """Rows of the round's judge, of every stage as many that say yes as no.

    Args:
        cascade: the job's own, with a comparison of final answers.
        judge: the policy that voted in the episode.
        episode: the round; its selected candidates are those that the update trains on.
        others: further candidates of it that may be used; the refused ones are judged again.
        prompts: of the round.
        share: most verdicts for each selected candidate; replies that prepare a yes, such as an inferred question, are
            added, one to two of them.
        seed: the job's seed; with the round it decides what is planted and which rows are drawn.

    Returns:
        Rows in a fixed order; fewer than the share where the round gives fewer.

    Raises:
        EngineError: the judge left a call unanswered.
    """
    stages = [stage.type for stage in cascade.settings.stages if not stage.sees_all]
    each = math.ceil(share * len(episode.selected) / (2 * len(stages))) if stages else 0
    if not each:
        return []
    draw = Random(f"{PURPOSE}/{seed}/{episode.round}")
    by_id = {prompt.id: prompt for prompt in prompts}
    questions = [
        *_accepted(episode, by_id, stages, each, draw),
        *_refused(cascade, episode, others, by_id, stages),
        *_planted(episode, by_id, stages, each, seed),
    ]
    recorder = _Recorder(judge)
    votes = iter(_cast(cascade, recorder, [ballot for question in questions for ballot in question.ballots]))
    values = [[next(votes).value for _ in question.ballots] for question in questions]
    roles = {stage: stage_section(stage).roles_for(cascade.settings.asking)[-1] for stage in stages}
    rows: list[JudgeRow] = []
    for stage in stages:
        pools = {value: _pool(questions, values, recorder, stage, value, roles[stage]) for value in _TRUTHS}
        count = min(each, *map(len, pools.values()))
        yes, no = (pool[:count] for pool in pools.values())
        rows += [*yes, *no, *_preparing(questions, recorder, stage, roles[stage])[: count // 2]]
    return rows


def _cast(cascade: Cascade, judge: Policy, ballots: Sequence[Ballot]) -> list[Vote]:
    settings = cascade.settings
    return cast_votes(
        judge,
        ballots,
        cascade.templates,
        invalid_retries=settings.invalid_retries,
        show_thought=settings.show_thought,
        stages=settings.stages,
        asking=settings.asking,
    )


def _accepted(
    episode: Episode, prompts: Mapping[str, Prompt], stages: Sequence[StageName], count: int, draw: Random
) -> Iterator[_Question]:
    """Some selected candidates with their first vote of each stage."""
    for candidate in draw.sample(episode.selected, min(count, len(episode.selected))):
        for stage in stages:
            ballot = Ballot(prompts[candidate.prompt_id], candidate, stage, 0, episode.round)
            yield _Question(stage, [ballot], VoteValue.YES, "accepted")


def _refused(
    cascade: Cascade,
    episode: Episode,
    others: Sequence[Candidate],
    prompts: Mapping[str, Prompt],
    stages: Sequence[StageName],
) -> Iterator[_Question]:
    """Candidates that a vote refused, and whose final answer is, or is not, an accepted one of their prompt."""
    candidates = {(candidate.prompt_id, candidate.index): candidate for candidate in (*episode.selected, *others)}
    accepted: dict[str, list[Candidate]] = defaultdict(list)
    for verdict in episode.verdicts:
        if verdict.accepted and (found := candidates.get((verdict.prompt_id, verdict.candidate))):
            accepted[verdict.prompt_id].append(found)
    refused = [
        verdict
        for verdict in episode.verdicts
        if verdict.rejection is Rejection.VOTE
        and verdict.stage in stages
        and verdict.prompt_id in accepted
        and (verdict.prompt_id, verdict.candidate) in candidates
    ]
    assert cascade.comparison is not None, "a job's cascade compares final answers"
    pairs = [
        (prompts[verdict.prompt_id], candidates[verdict.prompt_id, verdict.candidate].text, other.text)
        for verdict in refused
        for other in accepted[verdict.prompt_id]
    ]
    outcomes = iter(cascade.comparison.same(pairs) if pairs else ())
    for verdict in refused:
        same = [next(outcomes) for _ in accepted[verdict.prompt_id]]
        prompt, candidate = prompts[verdict.prompt_id], candidates[verdict.prompt_id, verdict.candidate]
        agreed = Outcome.RIGHT in same
        if not agreed and (Outcome.UNDECIDED in same or section_of(prompt.domain).gold == "tests"):
            continue
        value, reason = (VoteValue.YES, "agreed") if agreed else (VoteValue.NO, "contradicted")
        for stage in stages:
            cast = [vote.vote for vote in verdict.votes if vote.stage == stage]
            ballots = [Ballot(prompt, candidate, stage, vote, episode.round) for vote in cast]
            if agreed:
                ballots += _further(prompt, candidate, stage, episode.round)
            yield _Question(stage, ballots, value, reason)


def _planted(
    episode: Episode, prompts: Mapping[str, Prompt], stages: Sequence[StageName], count: int, seed: int
) -> Iterator[_Question]:
    """Planted wrong solutions before the stages that should refuse their kind."""
    solved: list[Solved] = [(prompts[candidate.prompt_id], candidate) for candidate in episode.selected]
    canaries = plant(solved, per_kind=count, seed=seed, round=episode.round, kinds=_PLANTED, purpose=PURPOSE)
    for number, canary in enumerate(canaries):
        candidate = replace(canary.candidate, index=_FIRST_PLANTED + number)
        for stage in stages:
            if stage in caught_by(canary.kind, stages):
                ballots = _further(canary.prompt, candidate, stage, episode.round)
                yield _Question(stage, ballots, VoteValue.NO, "planted")


def _further(prompt: Prompt, candidate: Candidate, stage: StageName, round: int) -> list[Ballot]:
    return [Ballot(prompt, candidate, stage, number, round, PURPOSE) for number in range(TRIES)]


def _pool(
    questions: Sequence[_Question],
    values: Sequence[Sequence[VoteValue]],
    recorder: _Recorder,
    stage: StageName,
    value: VoteValue,
    role: RoleName,
) -> list[JudgeRow]:
    """The replies before a stage that say the inferred verdict: one of each question, then the second ones, and so on.

    Questions that were answered both ways come first, then those of the round's own refused candidates.
    """
    asked = [
        (any(vote is not value for vote in found), question, found)
        for question, found in zip(questions, values, strict=True)
        if (question.stage, question.value) == (stage, value) and value in found
    ]
    asked.sort(key=lambda one: (not one[0], _REASONS.index(one[1].reason)))
    by_question = [
        [
            _row(reply, question)
            for ballot, vote in zip(question.ballots, found, strict=True)
            if vote is value
            for reply in recorder.replies[_key(ballot)]
            if reply.call.role == role and _is_whole(reply)
        ]
        for _, question, found in asked
    ]
    rows = [row for turn in zip_longest(*by_question) for row in turn if row is not None]
    return list({row.row.input_ids: row for row in rows}.values())


def _preparing(questions: Sequence[_Question], recorder: _Recorder, stage: StageName, role: RoleName) -> list[JudgeRow]:
    """Replies that prepared a yes on an accepted candidate, such as an inferred question."""
    return [
        replace(_row(reply, question), value=None)
        for question in questions
        if question.stage == stage and question.reason == "accepted"
        for ballot in question.ballots
        for reply in recorder.replies[_key(ballot)]
        if reply.call.role != role and reply.call.candidate == ballot.candidate.index and _is_whole(reply)
    ]


def _key(ballot: Ballot) -> _Vote:
    return ballot.purpose, ballot.prompt.id, ballot.candidate.index, ballot.stage, ballot.vote


def _is_whole(reply: Reply) -> bool:
    return reply.finish_reason is FinishReason.STOP and reply.call.attempt == 0


def _row(reply: Reply, question: _Question) -> JudgeRow:
    ballot = question.ballots[0]
    row = TrainingRow(
        input_ids=(*reply.prompt_ids, *reply.token_ids),
        supervised_from=len(reply.prompt_ids),
        origin="judge",
        prompt_id=reply.call.prompt_id,
        candidate=reply.call.candidate,
        round=ballot.round,
        domain=ballot.prompt.domain,
    )
    return JudgeRow(row, question.stage, question.value, question.reason)
