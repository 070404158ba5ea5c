"""The flow gives what the cascade in waves gives, vote by vote, whatever finishes first and is asked ahead."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envs.cascade.agreement import AnswerComparison, Solutions
from envs.cascade.cascade import Cascade
from envs.cascade.ordering import paper_order
from envs.cascade.template_sets import TemplateSet
from envs.flow.flow import LEAD, Flow
from envs.flow.prompt_flow import PromptFlow, RoundRules
from envs.round_env import SelfVerificationEnv
from envs.solving import SolverAgent
from svd_loop.contracts import (
    BUILT_IN_STAGES,
    AgentCall,
    Asking,
    CallId,
    Candidate,
    Episode,
    FinishReason,
    Outcome,
    Prompt,
    Reply,
    Role,
    Selection,
    Verdict,
    VoteValue,
)
from svd_loop.errors import EngineError
from svd_loop.support.streams import WaveStream
from tests.envs.judges import VERSION, RulePolicy, prompt, settings_of
from tests.envs.streams import ShuffledStream

CHAT = {asking: TemplateSet.load("chat", asking=asking) for asking in Asking}
REVIEWERS = (
    Role.FACT_REVIEWER,
    Role.ANSWER_REVIEWER,
    Role.QUESTION_REVIEWER,
    Role.FACT_COMPARER,
    Role.ANSWER_COMPARER,
)


def same(pairs: Sequence[Solutions]) -> list[Outcome]:
    return [Outcome.of(one[0] == other[0]) for _, one, other in pairs]


FIRST_LETTER = AnswerComparison(lambda _, text: text[0] if text[0] != "?" else None, same)


def model(yes: float, job_seed: int = 3) -> RulePolicy:
    """Solver and judge; every reply depends on the call's own seed alone."""

    def rule(call: AgentCall) -> str | tuple[str, FinishReason]:
        draw = call.id.seed(job_seed) / 2**63
        if call.id.role == Role.SOLVER:
            if draw < 0.1:
                return ("a long one", FinishReason.LENGTH) if draw < 0.05 else ""
            return f"{'aab?'[int(draw * 1000) % 4]} {draw:.6f}"
        if call.id.role in REVIEWERS:
            return "" if draw < 0.1 else "I recomputed it."
        if call.id.role in (Role.QUESTION_INFERRER, Role.REFERENCE_SOLVER):
            return "" if draw < 0.1 else f"own {draw:.6f}"
        return "[[Y]]" if draw < yes else "hm" if draw < yes + 0.1 else "[[N]]"

    return RulePolicy(rule)


def in_waves(prompts: Sequence[Prompt], rules: RoundRules, policy: RulePolicy) -> Episode:
    env = SelfVerificationEnv(
        prompts=prompts, judge=policy, cascade=rules.cascade, n=rules.n, block=rules.block, selection=rules.selection
    )
    _, info = env.reset(options={"round": rules.round})
    while info["open"]:
        wanted = [prompts[place] for place in info["open"]]
        candidates = rules.solver.sample(policy, wanted, info["indices"], round=rules.round)
        _, _, _, _, info = env.step(env.action(candidates))
    episode: Episode = info["outcome"]
    return episode


def in_flow(prompts: Sequence[Prompt], rules: RoundRules, flow: Flow) -> list[tuple[Candidate, Verdict]]:
    done = {one.prompt.id: one.played() for one in flow.play(PromptFlow(prompt, rules) for prompt in prompts)}
    return [pair for prompt in prompts for pair in done[prompt.id]]


@st.composite
def rounds(draw: st.DrawFn) -> RoundRules:
    asking = draw(st.sampled_from(list(Asking)))
    stages: list[object] = list(draw(st.permutations(list(BUILT_IN_STAGES)))[: draw(st.integers(1, 3))])
    n = draw(st.integers(1, 4))
    if n > 1 and draw(st.integers(0, 3)) == 0:
        stages.insert(draw(st.integers(0, len(stages))), {"type": "agreement", "share": 0.5})
    selection = draw(st.sampled_from(list(Selection)))
    whole = any(isinstance(stage, dict) for stage in stages) or selection is Selection.ALL_VALID
    votes = draw(st.integers(1, 3))
    section = settings_of(
        stages,  # type: ignore[arg-type]
        votes,
        asking=asking,
        early_exit=draw(st.booleans()),
        invalid_retries=draw(st.integers(0, 1)),
        audit_share=draw(st.sampled_from([0.0, 0.4])),
        at_least=draw(st.integers(1, votes)),
        order=draw(st.sampled_from(["stage_major", "measured"])),
    )
    judges = [stage for stage in stages if isinstance(stage, str)]
    order = tuple(draw(st.permutations(paper_order(judges, votes))))
    cascade = Cascade(CHAT[asking], section, order_of=lambda round: order, comparison=FIRST_LETTER)
    block = n if whole else draw(st.integers(1, n))
    return RoundRules(cascade, SolverAgent(CHAT[asking]), cascade.units(2), 2, n, block, selection)


@settings(max_examples=80)
@given(
    rules=rounds(),
    count=st.integers(1, 5),
    yes=st.sampled_from([0.3, 0.8, 0.95, 1.0]),
    slots=st.sampled_from([0, 1, 3, 16, 64]),
    fill_rows=st.sampled_from([None, 1, 8, 1000]),
    seed=st.integers(0, 2**32),
)
def test_candidates_and_verdicts_are_those_of_the_waves(
    rules: RoundRules, count: int, yes: float, slots: int, fill_rows: int | None, seed: int
) -> None:
    prompts, policy = [prompt(number) for number in range(count)], model(yes)
    episode = in_waves(prompts, rules, policy)
    stream = ShuffledStream(policy, slots, seed)
    played = in_flow(prompts, rules, Flow(stream, fill_rows=fill_rows))
    assert played == list(zip(episode.candidates, episode.verdicts, strict=True))
    needed = {call.id for call in policy.calls}
    assert needed <= set(stream.asked)
    assert len(stream.asked) == len(set(stream.asked))
    assert not needed & set(stream.dropped)
    if fill_rows is None:
        assert set(stream.asked) == needed
    assert not slots or stream.most <= slots + slots // LEAD


def plain(n: int = 4, block: int = 1, **others: object) -> RoundRules:
    section = settings_of(["factuality"], 3, **others)
    cascade = Cascade(CHAT[Asking.DIRECT], section)
    solver = SolverAgent(CHAT[Asking.DIRECT])
    return RoundRules(cascade, solver, cascade.units(1), 1, n, block, Selection.FIRST_VALID)


def of_table(table: dict[int, str]) -> RulePolicy:
    """A judge with one letter of a vote for each candidate: y or n."""
    marks = {"y": "[[Y]]", "n": "[[N]]"}

    def rule(call: AgentCall) -> str:
        return "text" if call.id.role == Role.SOLVER else marks[table[call.id.candidate][call.id.vote]]

    return RulePolicy(rule)


def test_a_prompt_that_is_settled_drops_what_was_asked_ahead() -> None:
    streams = [ShuffledStream(of_table(dict.fromkeys(range(4), "yyy")), 64, seed) for seed in range(4)]
    for stream in streams:
        played = in_flow([prompt()], plain(), Flow(stream, fill_rows=64))
        assert [verdict.accepted for _, verdict in played] == [True]
    dropped = [call for stream in streams for call in stream.dropped]
    assert dropped
    assert all(call.candidate > 0 for call in dropped)


def test_votes_ahead_of_a_rejection_are_not_part_of_the_verdict() -> None:
    policy = of_table(dict.fromkeys(range(4), "nyy"))
    stream = ShuffledStream(policy, 64, seed=1)
    played = in_flow([prompt()], plain(), Flow(stream, fill_rows=64))
    assert [[vote.vote for vote in verdict.votes] for _, verdict in played] == [[0]] * 4
    assert [verdict.vote for _, verdict in played] == [0] * 4


@pytest.mark.parametrize("fill_rows, further", [(8, False), (1000, True)])
def test_the_fewer_rows_are_to_be_filled_the_surer_a_call_ahead_has_to_be(fill_rows: int, further: bool) -> None:
    rules = plain()
    for place in range(3):
        for _ in range(10):
            rules.rates.add(place, VoteValue.YES)  # so a second candidate will hardly be needed
    stream = ShuffledStream(of_table({0: "yyy", 1: "yyy", 2: "yyy", 3: "yyy"}), 64, seed=1)
    in_flow([prompt()], rules, Flow(stream, fill_rows=fill_rows))
    assert any(call.candidate > 0 for call in stream.asked) is further


def test_nothing_is_asked_ahead_while_prompts_wait_for_slots() -> None:
    policy = of_table(dict.fromkeys(range(4), "yyy"))
    stream = ShuffledStream(policy, 4, seed=5)
    prompts = [prompt(number) for number in range(40)]
    begun: list[str] = []
    stream.put = lambda calls, put=stream.put: (begun.extend(c.id.prompt_id for c in calls), put(calls))[1]  # type: ignore
    in_flow(prompts, plain(), Flow(stream, fill_rows=4))
    ahead = [place for place, call in enumerate(stream.asked) if call.candidate > 0]
    assert not ahead or min(ahead) > begun.index("p39")


def test_prompts_are_finished_soon_after_they_are_begun() -> None:
    stream = ShuffledStream(of_table({0: "yyy"}), 4, seed=5)
    begun: list[int] = []

    def flows(rules: RoundRules) -> object:
        for number in range(100):
            begun.append(number)
            yield PromptFlow(prompt(number), rules)

    most = finished = 0
    for _ in Flow(stream).play(flows(plain(n=1))):  # type: ignore[arg-type]
        finished += 1
        most = max(most, len(begun) - finished)
    assert (finished, most <= 8) == (100, True)


def test_a_policy_without_a_stream_answers_in_waves() -> None:
    policy = model(0.8)
    rules = plain()
    prompts = [prompt(number) for number in range(6)]
    played = in_flow(prompts, rules, Flow(WaveStream(policy)))
    flow_batches = [sorted(map(str, (call.id for call in batch))) for batch in policy.batches]
    episode = in_waves(prompts, rules, policy)
    assert played == list(zip(episode.candidates, episode.verdicts, strict=True))
    assert len(flow_batches) <= len(policy.batches) - len(flow_batches)


class Broken(WaveStream):
    """Loses every reply, or answers another call."""

    def __init__(self, policy: RulePolicy, replies: list[Reply]) -> None:
        super().__init__(policy)
        self.replies = replies

    def take(self) -> list[Reply]:
        return self.replies


def test_lost_and_foreign_replies_are_errors() -> None:
    rules, policy = plain(), model(1.0)
    with pytest.raises(EngineError, match="left 1 calls unanswered"):
        in_flow([prompt()], rules, Flow(Broken(policy, [])))
    foreign = Reply(CallId("train", 1, Role.SOLVER, "another"), "", FinishReason.STOP, VERSION)
    with pytest.raises(EngineError, match=r"not in flight: .*another"):
        in_flow([prompt()], rules, Flow(Broken(policy, [foreign])))


def test_an_audited_candidate_is_asked_every_vote_at_once() -> None:
    rules = plain(n=1, audit_share=1.0)
    policy = of_table({0: "nyy"})
    played = in_flow([prompt()], rules, Flow(WaveStream(policy)))
    assert [len(batch) for batch in policy.batches] == [1, 3]
    assert [vote.vote for vote in played[0][1].votes] == [0, 1, 2]
    other = replace(rules, purpose="canary")
    assert len(in_flow([prompt()], other, Flow(WaveStream(of_table({0: "nyy"}))))[0][1].votes) == 1
