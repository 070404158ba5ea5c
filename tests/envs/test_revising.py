from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from envs.cascade.cascade import Cascade, CascadeSettings
from envs.cascade.template_sets import TemplateSet
from envs.play import play
from envs.revising import revision_of
from envs.round_env import SelfVerificationEnv
from envs.solving import SolverAgent
from svd_loop.contracts import (
    AgentCall,
    Candidate,
    Episode,
    FinishReason,
    Rejection,
    Reply,
    Role,
    Stage,
    Verdict,
    Vote,
    VoteValue,
)
from svd_loop.errors import ConfigError
from svd_loop.loop.replay import accepted_rows
from tests.envs.judges import RulePolicy, prompt

CHAT = TemplateSet.load("chat")
PROMPTS = [prompt(number) for number in range(4)]
FACTS, GRADE = Stage.FACTUALITY, Stage.CORRECTNESS
YES, NO = VoteValue.YES, VoteValue.NO


class Learner(RulePolicy):
    """Solves p0 at once, p1 when told what was wrong, p2 never, and p3 does not come to an end."""

    def __init__(self) -> None:
        super().__init__(self.speak)

    def speak(self, call: AgentCall) -> str | tuple[str, FinishReason]:
        place, text = call.id, call.messages[-1].content
        if place.role is Role.REVISER:
            return f"second try at {place.prompt_id}"
        if place.role is Role.SOLVER:
            cut = place.prompt_id == "p3"
            return f"try {place.candidate} at {place.prompt_id}", FinishReason.LENGTH if cut else FinishReason.STOP
        good = place.prompt_id == "p0" or "second try at p1" in text
        late = place.candidate == 1 and place.stage == FACTS  # the second candidate gets one vote further
        return "fine\n[[Y]]" if good or late else f"step {place.candidate} is wrong\n[[N]]"

    def reply(self, call: AgentCall) -> Reply:
        reply = super().reply(call)
        if call.id.role is Role.REVISER:
            return replace(reply, prompt_ids=(9, 9, 9), token_ids=(7, 8, 0), output_tokens=3)
        return replace(reply, output_tokens=3)


def played(policy: RulePolicy, **settings: Any) -> Episode:
    cascade = Cascade(CHAT, CascadeSettings((FACTS, GRADE), votes=1))
    env = SelfVerificationEnv(
        prompts=PROMPTS, judge=policy, cascade=cascade, **{"n": 2, "block": 1, "revise": True} | settings
    )
    solver = SolverAgent(CHAT)
    _, info = env.reset()
    while info["open"]:
        wanted = [PROMPTS[place] for place in info["open"]]
        if revisions := info.get("revisions"):
            assert [revision.prompt for revision in revisions] == wanted and list(info["indices"]) == [2]
            candidates = solver.revise(policy, revisions, info["indices"][0], round=1)
        else:
            candidates = solver.sample(policy, wanted, info["indices"], round=1)
        _, _, _, _, info = env.step(env.action(candidates))
    episode: Episode = info["outcome"]
    return episode


def test_prompts_with_nothing_accepted_get_one_more_try_that_is_judged_anew() -> None:
    policy = Learner()
    episode = played(policy)
    assert {(c.prompt_id, c.index): c.revised_from for c in episode.candidates if c.index == 2} == {
        ("p1", 2): 1,
        ("p2", 2): 1,
    }
    assert [(c.prompt_id, c.index) for c in episode.selected] == [("p0", 0), ("p1", 2)]
    asked = [call for call in policy.calls if call.id.role is Role.REVISER]
    assert [call.id.prompt_id for call in asked] == ["p1", "p2"]
    shown = asked[0].messages[-1].content
    assert PROMPTS[1].text in shown and "try 1 at p1" in shown and "step 1 is wrong\n[ [N] ]" in shown
    rejudged = [call for call in policy.calls if call.id.stage and call.id.candidate == 2]
    assert {call.id.prompt_id for call in rejudged} == {"p1", "p2"}
    assert episode.metrics["revise.tried"] == 2 and episode.metrics["revise.accepted"] == 1
    assert episode.funnel["generated"] == len(episode.candidates) == 9


def test_the_row_is_the_plain_prompt_with_the_ids_that_were_sampled() -> None:
    rows = accepted_rows(played(Learner()), PROMPTS)
    row = next(row for row in rows if row.prompt_id == "p1")
    assert row.input_ids == (1, 2, 7, 8, 0) and row.supervised_from == 2 and row.candidate == 2
    [revised] = [c for c in played(Learner()).selected if c.index == 2]
    assert revised.prompt_ids == (1, 2) != (9, 9, 9)


def test_without_it_nothing_changes() -> None:
    plain, revised = played(Learner(), revise=False), played(Learner())
    assert set(plain.verdicts) == {verdict for verdict in revised.verdicts if verdict.candidate < 2}
    assert not any(name.startswith("revise") for name in plain.metrics)


@pytest.mark.parametrize("fill_rows", [None, 16])
def test_a_spent_budget_revises_nothing(fill_rows: int | None) -> None:
    tight = played(Learner(), budget_tokens=1, fill_rows=fill_rows)
    assert not any(c.revised_from is not None for c in tight.candidates) and tight.metrics["revise.tried"] == 0
    rich = played(Learner(), budget_tokens=10**6, fill_rows=fill_rows)
    assert rich.selected == played(Learner()).selected
    assert rich.metrics["budget.unserved"] == 0


def test_a_foreign_agent_simply_gets_another_try() -> None:
    cascade = Cascade(CHAT, CascadeSettings((GRADE,), votes=1))
    judge = RulePolicy(lambda call: "[[Y]]" if call.id.candidate == 2 else "no\n[[N]]")
    env = SelfVerificationEnv(prompts=PROMPTS, judge=judge, cascade=cascade, n=2, revise=True)
    episode = play(env, lambda texts, count: [["x"] * count for _ in texts])
    assert [c.index for c in episode.selected] == [2] * 4
    assert {c.revised_from for c in episode.selected} == {0}


def verdict(candidate: int, *votes: tuple[Stage, VoteValue, str]) -> Verdict:
    cast = tuple(Vote("p0", candidate, stage, 0, value, text) for stage, value, text in votes)
    last = cast[-1]
    return Verdict("p0", candidate, False, Rejection.VOTE, last.stage, last.vote, cast)


def test_the_candidate_that_came_furthest_is_revised_with_the_words_of_its_refusal() -> None:
    candidates = [Candidate("p0", index, f"s{index}") for index in range(4)]
    verdicts = [
        Verdict("p0", 0, False, Rejection.EMPTY),
        verdict(1, (FACTS, NO, "wrong")),
        verdict(2, (FACTS, YES, "fine"), (GRADE, NO, "<think>hm</think>not quite\n[[N]]")),
        verdict(3, (FACTS, YES, "fine"), (GRADE, NO, "no")),
    ]
    found = revision_of(PROMPTS[0], candidates, verdicts)
    assert found is not None
    assert (found.rejected, found.critique) == (candidates[2], "not quite\n[[N]]")
    assert revision_of(PROMPTS[0], candidates[:1], verdicts[:1]) is None
    assert revision_of(PROMPTS[0], [], []) is None


def test_a_set_without_a_reviser_has_none() -> None:
    assert CHAT.wordings(Role.REVISER) == 1
    with pytest.raises(ConfigError, match="nowhere"):
        TemplateSet.load("nowhere")
