from __future__ import annotations

from collections.abc import Sequence

import pytest

from envs.cascade.template_sets import TemplateSet
from envs.solving import SolverAgent
from svd_loop.contracts import AgentCall, CallId, Domain, FinishReason, Reply, Role
from svd_loop.errors import EngineError
from tests.envs.judges import VERSION, RulePolicy, always, prompt

AGENT = SolverAgent(TemplateSet.load("chat"))
PROMPTS = [prompt(0), prompt(1, Domain.CODING)]


def test_calls_are_prompt_major_with_the_candidates_numbers() -> None:
    calls = AGENT.calls(PROMPTS, range(2, 5), round=3)
    assert [call.id for call in calls] == [
        CallId("train", 3, Role.SOLVER, name, candidate=index) for name in ("p0", "p1") for index in (2, 3, 4)
    ]
    assert len({call.id.seed(0) for call in calls}) == 6


def test_each_domain_has_its_own_words_and_version() -> None:
    math, coding = AGENT.calls(PROMPTS, [0], round=1)
    assert "\\boxed" in math.messages[0].content and "```python" in coding.messages[0].content
    assert math.template_version != coding.template_version


def test_purpose_separates_namespaces() -> None:
    assert AGENT.calls(PROMPTS[:1], [0], round=0, purpose="test")[0].id.purpose == "test"


def test_candidates_carry_exactly_what_was_sampled() -> None:
    policy = RulePolicy(lambda call: (f"{call.id.prompt_id}/{call.id.candidate}", FinishReason.LENGTH))
    candidates = AGENT.sample(policy, PROMPTS, range(2), round=1)
    assert [candidate.text for candidate in candidates] == ["p0/0", "p0/1", "p1/0", "p1/1"]
    assert [(candidate.prompt_id, candidate.index) for candidate in candidates] == [
        ("p0", 0),
        ("p0", 1),
        ("p1", 0),
        ("p1", 1),
    ]
    first = candidates[0]
    assert first.finish_reason is FinishReason.LENGTH and first.policy == VERSION
    assert first.prompt_ids == (1, 2) and first.token_ids == (3, 4, 0)


def test_nothing_wanted_asks_nothing() -> None:
    policy = always("x")
    assert AGENT.sample(policy, [], range(8), round=1) == []
    assert policy.batches == []


class Forgetful(RulePolicy):
    def generate(self, calls: Sequence[AgentCall]) -> list[Reply]:
        return super().generate(calls)[:-1]


class Shuffling(RulePolicy):
    def generate(self, calls: Sequence[AgentCall]) -> list[Reply]:
        return super().generate(calls)[::-1]


@pytest.mark.parametrize("broken", [Forgetful, Shuffling])
def test_missing_or_misplaced_replies_are_an_error(broken: type[RulePolicy]) -> None:
    with pytest.raises(EngineError, match="was asked"):
        AGENT.sample(broken(lambda call: "x"), PROMPTS, range(2), round=1)
