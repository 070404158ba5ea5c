from __future__ import annotations

from collections.abc import Sequence

import pytest

from envs.cascade.cascade import Cascade
from envs.cascade.template_sets import TemplateSet
from envs.problems.arithmetic import generate
from envs.solving import SolverAgent
from policies.scripted import ScriptedPolicy, Traits, decode
from policies.scripted.policy import STOP_ID
from svd_loop.contracts import (
    BUILT_IN_STAGES,
    AgentCall,
    CallId,
    Candidate,
    Domain,
    Message,
    PolicyVersion,
    Prompt,
    Role,
    RoleName,
    Stage,
    StageName,
)
from tests.envs.judges import settings_of

VERSION = PolicyVersion(0, "ab")
CHAT = TemplateSet.load("chat")
PROMPTS = [problem.as_prompt() for problem in generate("train", 60, seed=0)]


def policy_with(job_seed: int = 7, **traits: float) -> ScriptedPolicy:
    return ScriptedPolicy.simulated(Traits(**traits), version=VERSION, job_seed=job_seed)


def solve(policy: ScriptedPolicy, prompts: Sequence[Prompt] = PROMPTS, n: int = 4) -> list[Candidate]:
    return SolverAgent(CHAT).sample(policy, prompts, range(n), round=1)


def accepted_share(judge: ScriptedPolicy, candidates: Sequence[Candidate], stage: StageName, votes: int = 1) -> float:
    by_id = {prompt.id: prompt for prompt in PROMPTS}
    cascade = Cascade(CHAT, settings_of(stages=(stage,), votes=votes))
    verdicts = cascade.judge(judge, [(by_id[item.prompt_id], item) for item in candidates], round=1)
    return sum(verdict.accepted for verdict in verdicts) / len(verdicts)


def call(text: str, role: RoleName = Role.SOLVER, prompt_id: str = "p", vote: int = 0) -> AgentCall:
    return AgentCall(CallId("train", 1, role, prompt_id, vote=vote), (Message("user", text),), "set/1")


def test_answers_depend_on_the_call_and_not_on_order_or_batch() -> None:
    calls = [call(prompt.text, prompt_id=prompt.id) for prompt in PROMPTS[:20]]
    policy = policy_with()
    assert policy.generate(calls) == [policy.generate([one])[0] for one in calls]
    assert policy.generate(calls[::-1]) == policy.generate(calls)[::-1]
    assert policy.generate(calls) != policy_with(job_seed=8).generate(calls)


@pytest.mark.parametrize("skill", [0.0, 0.4, 1.0])
def test_skill_is_the_share_of_right_candidates(skill: float) -> None:
    perfect_judge = policy_with(true_positive=1.0, false_positive=0.0)
    share = accepted_share(perfect_judge, solve(policy_with(skill=skill)), Stage.CORRECTNESS)
    assert share == pytest.approx(skill, abs=0.08)


@pytest.mark.parametrize("stage", BUILT_IN_STAGES)
@pytest.mark.parametrize("skill, expected", [(1.0, 0.9), (0.0, 0.2)])
def test_every_stage_has_the_configured_true_and_false_positive_rate(
    stage: StageName, skill: float, expected: float
) -> None:
    judge = policy_with(true_positive=0.9, false_positive=0.2)
    assert accepted_share(judge, solve(policy_with(skill=skill)), stage) == pytest.approx(expected, abs=0.06)


def test_votes_are_drawn_independently_so_more_of_them_reject_more_wrong_candidates() -> None:
    judge, wrong = policy_with(false_positive=0.5), solve(policy_with(skill=0.0))
    assert accepted_share(judge, wrong, Stage.FACTUALITY, votes=3) == pytest.approx(0.125, abs=0.06)


def test_invalid_replies_carry_no_verdict() -> None:
    judge = policy_with(true_positive=1.0, invalid=1.0)
    assert accepted_share(judge, solve(policy_with(skill=1.0)), Stage.CORRECTNESS) == 0.0
    assert accepted_share(judge, solve(policy_with(skill=1.0)), Stage.CYCLE_CONSISTENCY) == 0.0


@pytest.mark.parametrize("stage", BUILT_IN_STAGES)
def test_prompts_of_unknown_form_can_be_played_too(stage: StageName) -> None:
    prompts = [Prompt(f"id-{n}", f"Why is the sky blue, take {n}?", Domain.SCIENCE) for n in range(60)]
    cascade = Cascade(CHAT, settings_of(stages=(stage,), votes=1))
    judge = policy_with(true_positive=1.0, false_positive=0.0)
    for skill, expected in ((1.0, 60), (0.0, 0)):
        candidates = solve(policy_with(skill=skill), prompts, n=1)
        verdicts = cascade.judge(judge, list(zip(prompts, candidates, strict=True)), round=1)
        assert sum(verdict.accepted for verdict in verdicts) == expected


def test_a_comparer_that_was_given_nothing_it_knows_refuses() -> None:
    (reply,) = policy_with().generate([call("compare apples with pears", Role.QUESTION_COMPARER)])
    assert reply.text.endswith("[[N]]")


def test_tokens_are_bytes_with_a_stop_after_the_answer() -> None:
    (reply,) = policy_with().generate([call("What is 12 + 30? ½")])
    assert reply.token_ids[-1] == STOP_ID
    assert decode(reply.token_ids) == reply.text
    assert decode(reply.prompt_ids) == "What is 12 + 30? ½"
    assert (reply.prompt_tokens, reply.output_tokens) == (len(reply.prompt_ids), len(reply.token_ids))
    assert reply.policy == VERSION


def test_the_key_tells_apart_what_can_change_the_answer() -> None:
    policy = policy_with()
    keys = {
        policy.key(call("a")),
        policy.key(call("b")),
        policy.key(call("a", vote=1)),
        policy_with(job_seed=8).key(call("a")),
        ScriptedPolicy.simulated(Traits(), version=PolicyVersion(1, "cd"), job_seed=7).key(call("a")),
    }
    assert len(keys) == 5
    assert policy.key(call("a")) == policy_with().key(call("a"))
    policy.close()
