"""Judgements whose verdict is inferred, as rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from envs.cascade.agreement import AnswerComparison, Solutions
from envs.cascade.cascade import Cascade
from envs.cascade.template_sets import TemplateSet
from envs.judge_rows import PURPOSE, TRIES, judge_rows
from svd_loop.contracts import (
    BUILT_IN_STAGES,
    AgentCall,
    Candidate,
    Domain,
    Episode,
    JudgeRow,
    Outcome,
    Prompt,
    Reply,
    VoteValue,
)
from tests.envs.judges import RulePolicy, always, by_seed, prompt, settings_of

PROMPTS = [prompt(number) for number in range(6)]
WORDS = {VoteValue.YES: "[[Y]]", VoteValue.NO: "[[N]]"}


class Judge(RulePolicy):
    """A judge whose replies have their own token ids: the call's key, and the text."""

    def reply(self, call: AgentCall) -> Reply:
        asked = tuple(self.key(call).encode())
        return replace(super().reply(call), prompt_ids=asked, token_ids=(*self.rule(call).encode(), 0))  # type: ignore[union-attr]


def same(pairs: Sequence[Solutions]) -> list[Outcome]:
    return [Outcome.of(one.split("=")[-1] == other.split("=")[-1]) for _, one, other in pairs]


CASCADE = Cascade(
    TemplateSet.load("chat"),
    settings_of(votes=2),
    comparison=AnswerComparison(lambda prompt, text: text.split("=")[-1], same),
)


def played(judge: Judge, prompts: Sequence[Prompt]) -> tuple[Episode, list[Candidate]]:
    """An episode with four candidates of each prompt, of which the first two and the others have the same answer."""
    candidates = [
        Candidate(one.id, index, f"{index}+{number}={10 + index // 2}")
        for number, one in enumerate(prompts)
        for index in range(4)
    ]
    by_id = {one.id: one for one in prompts}
    verdicts = CASCADE.judge(judge, [(by_id[one.prompt_id], one) for one in candidates], round=1)
    accepted = {(verdict.prompt_id, verdict.candidate) for verdict in verdicts if verdict.accepted}
    first = {one.prompt_id: one for one in reversed(candidates) if (one.prompt_id, one.index) in accepted}
    others = [one for one in candidates if one not in first.values()]
    return Episode(1, len(prompts), tuple(candidates), tuple(verdicts), tuple(first.values())), others


def rows_of(judge: Judge, share: float = 3.0, prompts: Sequence[Prompt] = PROMPTS) -> list[JudgeRow]:
    episode, others = played(judge, prompts)
    return judge_rows(CASCADE, judge, episode, others, prompts, share=share, seed=4)


def sampled(yes: float = 0.8) -> Judge:
    return Judge(by_seed(yes=yes, invalid=0.02).rule)


def test_of_every_stage_as_many_say_yes_as_no_and_each_reply_says_so() -> None:
    judge = sampled()
    rows = rows_of(judge)
    replies = {(*reply.prompt_ids, *reply.token_ids): reply for reply in map(judge.reply, judge.calls)}
    counts = Counter((one.stage, one.value) for one in rows)
    assert all(counts[stage, VoteValue.YES] == counts[stage, VoteValue.NO] > 1 for stage in BUILT_IN_STAGES)
    for one in rows:
        reply = replies[one.row.input_ids]
        assert reply.prompt_ids == one.row.input_ids[: one.row.supervised_from]
        assert (reply.call.stage, reply.call.candidate) == (one.stage, one.row.candidate)
        assert WORDS[one.value] in reply.text if one.value else reply.text.startswith("inferred")
    reasons = {value: {one.reason for one in rows if one.value is value} for value in (*WORDS, None)}
    assert reasons[VoteValue.NO] == {"contradicted", "planted"} and reasons[None] == {"accepted"}
    assert "agreed" in reasons[VoteValue.YES]


def test_a_refused_candidate_counts_by_the_accepted_answer_of_its_prompt() -> None:
    judge = sampled()
    episode, _ = played(judge, PROMPTS)
    answers = {(one.prompt_id, one.index): one.text.split("=")[-1] for one in episode.candidates}
    accepted = {
        one.prompt_id: {
            answers[one.prompt_id, v.candidate] for v in episode.verdicts if v.accepted and v.prompt_id == one.prompt_id
        }
        for one in episode.selected
    }
    found = [one for one in rows_of(judge) if one.reason in ("agreed", "contradicted")]
    assert len(found) > 4
    for one in found:
        key = one.row.prompt_id, one.row.candidate
        assert (answers[key] in accepted[key[0]]) == (one.reason == "agreed")


def test_votes_of_the_round_are_not_asked_anew() -> None:
    judge = sampled()
    episode, others = played(judge, PROMPTS)
    known = {judge.key(call) for call in judge.calls}
    judge.batches.clear()
    judge_rows(CASCADE, judge, episode, others, PROMPTS, share=3.0, seed=4)
    new = [call for call in judge.calls if judge.key(call) not in known]
    assert new and all(call.id.purpose == PURPOSE and call.id.vote < TRIES for call in new)


def test_a_judge_that_always_says_the_same_gives_no_rows() -> None:
    assert rows_of(Judge(always("[[Y]]").rule)) == []
    assert rows_of(Judge(always("[[N]]").rule)) == []


def test_programs_contradict_nothing_and_what_may_not_be_used_is_left_out() -> None:
    programs = [prompt(number, Domain.CODING) for number in range(6)]
    assert "contradicted" not in {one.reason for one in rows_of(sampled(), prompts=programs)}
    judge = sampled()
    episode, _ = played(judge, PROMPTS)
    alone = judge_rows(CASCADE, judge, episode, [], PROMPTS, share=3.0, seed=4)
    assert {one.reason for one in alone} == {"accepted", "planted"}


def test_rows_follow_the_seed_and_are_at_most_the_share() -> None:
    assert rows_of(sampled()) == rows_of(sampled())
    few = rows_of(sampled(), share=0.5)
    assert Counter(one.value for one in few if one.value) == {VoteValue.YES: 3, VoteValue.NO: 3}
    assert rows_of(sampled(), share=0.0) == []
