from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from envs.cascade.judging import cast_votes
from envs.cascade.stage import Ballot
from envs.cascade.template_sets import TemplateSet
from svd_loop.contracts import (
    BUILT_IN_STAGES,
    AgentCall,
    Candidate,
    FinishReason,
    Reply,
    Role,
    RoleName,
    Stage,
    StageName,
    Vote,
    VoteValue,
)
from svd_loop.errors import EngineError
from tests.envs.judges import RulePolicy, always, by_seed, prompt

CHAT = TemplateSet.load("chat")
CYCLE, FACTS, GRADE = Stage.CYCLE_CONSISTENCY, Stage.FACTUALITY, Stage.CORRECTNESS
QUESTION = prompt().text


def ballot(stage: StageName, vote: int = 0, text: str = "the solution", candidate: int = 0) -> Ballot:
    return Ballot(prompt(), Candidate("p0", candidate, text), stage, vote, round=3)


def cast(judge: RulePolicy, *ballots: Ballot, retries: int = 1) -> list[Vote]:
    return cast_votes(judge, ballots, CHAT, invalid_retries=retries)


def in_role(**answers: str | tuple[str, FinishReason]) -> Callable[[AgentCall], str | tuple[str, FinishReason]]:
    return lambda call: answers[call.id.role]


@pytest.mark.parametrize("stage, role", [(FACTS, Role.FACT_CHECKER), (GRADE, Role.GRADER)])
@pytest.mark.parametrize("reply, value", [("[[Y]]", VoteValue.YES), ("[[N]]", VoteValue.NO)])
def test_single_call_stages(stage: StageName, role: RoleName, reply: str, value: VoteValue) -> None:
    judge = always(reply)
    assert cast(judge, ballot(stage, vote=4, candidate=2)) == [Vote("p0", 2, stage, 4, value, reply)]
    [call] = judge.calls
    assert (call.id.role, call.id.stage, call.id.vote, call.id.candidate, call.id.round, call.id.attempt) == (
        role,
        stage,
        4,
        2,
        3,
        0,
    )
    assert QUESTION in call.messages[0].content and "the solution" in call.messages[0].content


def test_cycle_consistency_infers_from_the_solution_alone_and_then_compares() -> None:
    judge = RulePolicy(in_role(question_inferrer="what was it?", question_comparer="same. [[Y]]"))
    [vote] = cast(judge, ballot(CYCLE))
    inference, comparison = judge.calls
    assert QUESTION not in inference.messages[0].content and "the solution" in inference.messages[0].content
    assert QUESTION in comparison.messages[0].content and "what was it?" in comparison.messages[0].content
    assert "the solution" not in comparison.messages[0].content
    assert vote.value is VoteValue.YES
    assert "what was it?" in vote.text and "same. [[Y]]" in vote.text


@pytest.mark.parametrize(
    "inference", ["", " \n", "<think>never ends", ("cut off", FinishReason.LENGTH), "<think>only thoughts</think>"]
)
def test_an_unusable_inference_is_an_invalid_vote(inference: str | tuple[str, FinishReason]) -> None:
    judge = RulePolicy(in_role(question_inferrer=inference, question_comparer="[[Y]]"))
    assert cast(judge, ballot(CYCLE))[0].value is VoteValue.INVALID
    assert {call.id.role for call in judge.calls} == {Role.QUESTION_INFERRER}


def test_the_inferrer_cannot_vote() -> None:
    judge = RulePolicy(in_role(question_inferrer="[[Y]] [[Y]]", question_comparer="[[N]]"))
    assert cast(judge, ballot(CYCLE))[0].value is VoteValue.NO
    assert "[[Y]] [[Y]]" not in judge.calls[1].messages[0].content


def test_the_judge_sees_the_answer_without_its_reasoning() -> None:
    judge = always("[[N]]")
    cast(judge, ballot(GRADE, text="<think>secret thoughts</think>\nthe answer"))
    assert "secret thoughts" not in judge.calls[0].messages[0].content
    assert "the answer" in judge.calls[0].messages[0].content


@pytest.mark.parametrize("stage", [FACTS, GRADE])
def test_the_reasoning_is_shown_where_the_configuration_says_so(stage: StageName) -> None:
    judge = always("[[N]]")
    thought = "<think>so [[Y]] and </think> is quoted</think>\nthe answer"
    cast_votes(judge, [ballot(stage, text=thought)], CHAT, invalid_retries=0, show_thought=True)
    shown = judge.calls[0].messages[0].content
    assert "Reasoning:\nso [ [Y] ] and < /think> is quoted\n\nFinal answer:\nthe answer" in shown
    assert "<think>" not in shown and "</think>" not in shown


def test_the_inferrer_never_sees_the_reasoning() -> None:
    judge = RulePolicy(in_role(question_inferrer="what was it?", question_comparer="[[Y]]"))
    answer = ballot(CYCLE, text="<think>they ask for x</think>\nthe answer")
    cast_votes(judge, [answer], CHAT, invalid_retries=0, show_thought=True)
    assert "they ask for x" not in judge.calls[0].messages[0].content


def test_an_answer_without_reasoning_is_shown_bare() -> None:
    judge = always("[[N]]")
    cast_votes(judge, [ballot(GRADE, text="the answer")], CHAT, invalid_retries=0, show_thought=True)
    assert "Proposed answer begins ===\nthe answer\n=== Proposed" in judge.calls[0].messages[0].content


@pytest.mark.parametrize("retries, attempts", [(0, [0]), (1, [0, 1]), (3, [0, 1, 2, 3])])
def test_an_unreadable_vote_is_asked_again_then_stays_invalid(retries: int, attempts: list[int]) -> None:
    judge = always("perhaps")
    [vote] = cast(judge, ballot(GRADE), retries=retries)
    assert [call.id.attempt for call in judge.calls] == attempts
    assert vote.value is VoteValue.INVALID and vote.text == "perhaps"


def test_a_readable_retry_counts_and_is_a_new_question() -> None:
    judge = RulePolicy(lambda call: "[[Y]]" if call.id.attempt == 1 else ("[[Y]]", FinishReason.LENGTH))
    assert cast(judge, ballot(FACTS))[0].value is VoteValue.YES
    first, second = judge.calls
    assert first.messages == second.messages and first.id.seed(0) != second.id.seed(0)


def test_a_no_is_not_asked_again() -> None:
    judge = always("[[N]]")
    cast(judge, ballot(FACTS), retries=5)
    assert len(judge.calls) == 1


def test_conversations_of_different_length_share_batches() -> None:
    judge = RulePolicy(in_role(question_inferrer="q?", question_comparer="[[Y]]", grader="hm", fact_checker="[[Y]]"))
    votes = cast(judge, ballot(GRADE), ballot(CYCLE), ballot(FACTS), retries=1)
    assert [vote.stage for vote in votes] == [GRADE, CYCLE, FACTS]
    assert [vote.value for vote in votes] == [VoteValue.INVALID, VoteValue.YES, VoteValue.YES]
    assert [[call.id.role for call in batch] for batch in judge.batches] == [
        [Role.GRADER, Role.QUESTION_INFERRER, Role.FACT_CHECKER],
        [Role.GRADER, Role.QUESTION_COMPARER],
    ]


def test_votes_do_not_depend_on_company() -> None:
    ballots = [ballot(stage, vote, candidate=c) for c in range(20) for stage in BUILT_IN_STAGES for vote in range(3)]
    together = cast(by_seed(0.4, invalid=0.5), *ballots)
    assert together == [cast(by_seed(0.4, invalid=0.5), one)[0] for one in ballots]
    assert together == cast(by_seed(0.4, invalid=0.5), *ballots[::-1])[::-1]
    assert {vote.value for vote in together} == set(VoteValue)


def test_votes_about_a_candidate_show_the_same_messages_and_render_them_once() -> None:
    ballots = [replace(ballot(CYCLE, vote), rendered=rendered) for rendered in [{}] for vote in range(3)]
    judge = RulePolicy(lambda call: f"own {call.id.vote}" if call.id.role == Role.QUESTION_INFERRER else "[[Y]]")
    assert {vote.value for vote in cast(judge, *ballots)} == {VoteValue.YES}
    inferring, comparing = judge.batches
    assert len({id(call.messages) for call in inferring}) == 1
    assert ["own 0" in call.messages[0].content for call in comparing] == [True, False, False]
    assert list(ballots[0].rendered) == [(Role.QUESTION_INFERRER, "the solution")]


def test_no_ballots_ask_nothing() -> None:
    judge = always("[[Y]]")
    assert cast(judge) == [] and judge.batches == []


def test_a_judge_that_answers_too_little_is_an_error() -> None:
    class Forgetful(RulePolicy):
        def reply(self, call: AgentCall) -> Reply:
            return super().reply(self.batches[-1][0])

    with pytest.raises(EngineError, match="replied to"):
        cast(Forgetful(lambda call: "[[Y]]"), ballot(FACTS), ballot(GRADE))
