from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from envs.cascade.cascade import Cascade, funnel, vote_counts
from envs.cascade.template_sets import TemplateSet
from envs.cascade.votes import unfit
from svd_loop.contracts import (
    BUILT_IN_STAGES,
    AgentCall,
    Candidate,
    FinishReason,
    Prompt,
    Rejection,
    Reply,
    Stage,
    StageName,
    Verdict,
    VoteValue,
)
from svd_loop.errors import EngineError
from tests.envs.judges import RulePolicy, always, by_seed, interleaved, prompt, settings_of

CHAT = TemplateSet.load("chat")
CYCLE, FACTS, GRADE = Stage.CYCLE_CONSISTENCY, Stage.FACTUALITY, Stage.CORRECTNESS
LENGTH = FinishReason.LENGTH
Items = list[tuple[Prompt, Candidate]]


def items_of(prompts: int, n: int) -> Items:
    return [(prompt(p), Candidate(f"p{p}", i, f"solution {i} of {p}")) for p in range(prompts) for i in range(n)]


def judge_with(judge: RulePolicy, items: Items, purpose: str = "train", **settings: Any) -> list[Verdict]:
    chosen = settings_of(**settings)
    return Cascade(CHAT, chosen, order_of=interleaved(chosen)).judge(judge, items, round=1, purpose=purpose)


def asked_votes(verdict: Verdict) -> dict[tuple[StageName, int], VoteValue]:
    return {(vote.stage, vote.vote): vote.value for vote in verdict.votes}


# --------------------------------------------------------------------------- early exit is exact


@given(
    yes=st.floats(0.3, 1.0),
    job_seed=st.integers(0, 2**32),
    votes=st.integers(1, 4),
    stages=st.permutations(list(BUILT_IN_STAGES)).flatmap(lambda s: st.integers(1, 3).map(lambda k: tuple(s[:k]))),
    retries=st.integers(0, 2),
    order=st.sampled_from(["stage_major", "measured"]),
)
def test_early_exit_agrees_with_the_exhaustive_cascade_vote_by_vote(
    yes: float, job_seed: int, votes: int, stages: tuple[Stage, ...], retries: int, order: str
) -> None:
    items = items_of(3, 4)
    settings = {"votes": votes, "stages": stages, "invalid_retries": retries, "order": order}
    eager, exhaustive = by_seed(yes, job_seed=job_seed), by_seed(yes, job_seed=job_seed)
    stopped = judge_with(eager, items, early_exit=True, **settings)
    complete = judge_with(exhaustive, items, early_exit=False, **settings)
    for short, full in zip(stopped, complete, strict=True):
        assert replace(short, votes=()) == replace(full, votes=())
        assert full.votes[: len(short.votes)] == short.votes
        assert len(full.votes) == votes * len(stages)
    assert {call.id for call in eager.calls} <= {call.id for call in exhaustive.calls}


def test_early_exit_pays_only_up_to_the_first_vote_that_is_not_yes() -> None:
    for verdict in judge_with(by_seed(0.6), items_of(10, 4)):
        *before, last = verdict.votes
        assert all(vote.value is VoteValue.YES for vote in before)
        assert verdict.accepted == (last.value is VoteValue.YES)
        assert verdict.accepted or (verdict.stage, verdict.vote) == (last.stage, last.vote)


def test_order_does_not_change_who_is_accepted() -> None:
    items = items_of(20, 4)
    by_stage = judge_with(by_seed(0.9), items, order="stage_major")
    by_vote = judge_with(by_seed(0.9), items, order="measured")
    assert [v.accepted for v in by_stage] == [v.accepted for v in by_vote]
    assert 0 < sum(v.accepted for v in by_stage) < len(items)
    assert [v.votes for v in by_stage] != [v.votes for v in by_vote]


def test_a_verdict_does_not_depend_on_who_else_is_judged() -> None:
    items = items_of(5, 4)
    together = judge_with(by_seed(), items)
    assert together == [judge_with(by_seed(), [item])[0] for item in items]
    assert together[::-1] == judge_with(by_seed(), items[::-1])


# ------------------------------------------------------------------------------------- the tally


def test_all_votes_yes_is_accepted_with_every_vote_on_record() -> None:
    [verdict] = judge_with(always("[[Y]]"), items_of(1, 1), votes=2)
    assert verdict.accepted and verdict.rejection is None and verdict.stage is None and verdict.vote is None
    assert list(asked_votes(verdict)) == [(stage, vote) for stage in BUILT_IN_STAGES for vote in range(2)]


@pytest.mark.parametrize("bad", ["[[N]]", "hm"])
@pytest.mark.parametrize("stage", BUILT_IN_STAGES)
@pytest.mark.parametrize("vote", range(3))
@pytest.mark.parametrize("early_exit", [True, False])
def test_a_single_vote_that_is_not_yes_rejects(bad: str, stage: StageName, vote: int, early_exit: bool) -> None:
    judge = RulePolicy(lambda call: bad if (call.id.stage, call.id.vote) == (stage, vote) else "[[Y]]")
    items = items_of(1, 1)
    if stage == CYCLE:  # the inferrer's part of the vote always succeeds
        judge = RulePolicy(lambda call: bad if (call.id.role, call.id.vote) == ("question_comparer", vote) else "[[Y]]")
    [verdict] = judge_with(judge, items, votes=3, early_exit=early_exit)
    assert not verdict.accepted and verdict.rejection is Rejection.VOTE
    assert (verdict.stage, verdict.vote) == (stage, vote)


# ------------------------------------------------------------------------------------------ waves


def test_each_wave_asks_one_unit_of_all_survivors_at_once() -> None:
    judge = RulePolicy(lambda call: "[[N]]" if call.id.candidate == 0 and call.id.stage == FACTS else "[[Y]]")
    judge_with(judge, items_of(3, 2), stages=(FACTS, GRADE), votes=2)
    assert [len(batch) for batch in judge.batches] == [6, 3, 3, 3]
    assert [{(call.id.stage, call.id.vote) for call in batch} for batch in judge.batches] == [
        {(FACTS, 0)},
        {(FACTS, 1)},
        {(GRADE, 0)},
        {(GRADE, 1)},
    ]


def test_votes_are_asked_in_the_measured_order() -> None:
    judge = always("[[Y]]")
    judge_with(judge, items_of(1, 1), stages=(FACTS, GRADE), votes=2, order="measured")
    assert [(call.id.stage, call.id.vote) for call in judge.calls] == [
        (FACTS, 0),
        (GRADE, 0),
        (FACTS, 1),
        (GRADE, 1),
    ]


def test_nobody_left_means_nobody_asked() -> None:
    judge = always("[[N]]")
    judge_with(judge, items_of(2, 2), stages=(FACTS, GRADE))
    assert [len(batch) for batch in judge.batches] == [4]


def test_the_exhaustive_cascade_asks_everything_in_one_batch_candidate_by_candidate() -> None:
    judge = always("[[N]]")
    judge_with(judge, items_of(2, 1), stages=(FACTS, GRADE), votes=2, early_exit=False)
    [batch] = judge.batches
    assert [call.id.prompt_id for call in batch] == ["p0"] * 4 + ["p1"] * 4


def test_purpose_and_round_reach_the_calls() -> None:
    judge = always("[[Y]]")
    judge_with(judge, items_of(1, 1), purpose="canary")
    assert {(call.id.purpose, call.id.round) for call in judge.calls} == {("canary", 1)}


# ------------------------------------------------------------------------------------------ unfit


@pytest.mark.parametrize(
    "text, reason, rejection",
    [
        ("fine", FinishReason.STOP, None),
        ("cut", LENGTH, Rejection.TRUNCATED),
        ("", LENGTH, Rejection.TRUNCATED),
        ("", FinishReason.STOP, Rejection.EMPTY),
        (" \n\u200b", FinishReason.STOP, Rejection.EMPTY),
        ("<think>all thought</think>\n", FinishReason.STOP, Rejection.EMPTY),
        ("<think>never done", FinishReason.STOP, Rejection.EMPTY),
        (":", FinishReason.STOP, None),
    ],
)
@pytest.mark.parametrize("early_exit", [True, False])
def test_truncated_and_empty_candidates_are_rejected_unasked(
    text: str, reason: FinishReason, rejection: Rejection | None, early_exit: bool
) -> None:
    judge, candidate = always("[[Y]]"), Candidate("p0", 0, text, reason)
    assert unfit(candidate) is rejection
    [verdict] = judge_with(judge, [(prompt(), candidate)], early_exit=early_exit)
    assert verdict.accepted == (rejection is None) and verdict.rejection is rejection
    assert bool(judge.calls) == (rejection is None) == bool(verdict.votes)


# ---------------------------------------------------------------------------------------- counting


def test_funnel_and_counts() -> None:
    judge = RulePolicy(
        lambda call: (
            "[[Y]]"
            if call.id.candidate == 0
            else "?"
            if call.id.stage == GRADE
            else "[[N]]"
            if call.id.candidate == 2
            else "[[Y]]"
        )
    )
    items = [*items_of(1, 3), (prompt(0), Candidate("p0", 3, "cut", LENGTH)), (prompt(0), Candidate("p0", 4, ""))]
    verdicts = judge_with(judge, items, stages=(FACTS, GRADE), votes=2)
    assert funnel(verdicts, (FACTS, GRADE)) == {
        "generated": 5,
        "complete": 3,
        "factuality": 2,
        "correctness": 1,
        "accepted": 1,
    }
    assert list(funnel(verdicts, (FACTS, GRADE))) == ["generated", "complete", "factuality", "correctness", "accepted"]
    assert vote_counts(verdicts, (FACTS, GRADE)) == {
        FACTS: {VoteValue.YES: 4, VoteValue.NO: 1, VoteValue.INVALID: 0},
        GRADE: {VoteValue.YES: 2, VoteValue.NO: 0, VoteValue.INVALID: 1},
    }


def test_counting_nothing() -> None:
    assert funnel([], ()) == {"generated": 0, "complete": 0, "accepted": 0}
    assert vote_counts([], (GRADE,)) == {GRADE: dict.fromkeys(VoteValue, 0)}
    assert judge_with(always("[[Y]]"), []) == []


@given(st.floats(0.0, 1.0), st.integers(0, 1000))
def test_the_funnel_only_narrows_and_ends_with_the_accepted(yes: float, job_seed: int) -> None:
    verdicts = judge_with(by_seed(yes, job_seed=job_seed), items_of(2, 3), votes=2, order="measured")
    counts = list(funnel(verdicts, tuple(BUILT_IN_STAGES)).values())
    assert counts == sorted(counts, reverse=True)
    assert counts[-1] == counts[-2] == sum(verdict.accepted for verdict in verdicts)


# ----------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize("settings", [{"stages": ()}, {"stages": (GRADE, GRADE)}, {"votes": 0}])
def test_settings_that_verify_nothing_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        settings_of(**settings)


def test_a_judge_that_leaves_calls_unanswered_is_an_error() -> None:
    class Lazy(RulePolicy):
        def generate(self, calls: Sequence[AgentCall]) -> list[Reply]:
            return super().generate(calls)[1:]

    with pytest.raises(EngineError, match="asked 4 calls and gave 3"):
        judge_with(Lazy(lambda call: "[[Y]]"), items_of(2, 2))
