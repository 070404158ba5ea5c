"""A round of the environment in the flow."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envs.cascade.cascade import Cascade
from envs.cascade.template_sets import TemplateSet
from envs.flow.lockstep import judge_in_flow
from envs.flow.prompt_flow import RoundRules
from envs.play import play
from envs.round_env import SelfVerificationEnv
from envs.solving import SolverAgent
from svd_loop.contracts import Candidate, Episode, Prompt, Verdict
from svd_loop.errors import ActionError
from svd_loop.support.shelved import held
from tests.envs.flow.test_flow import in_waves, model, plain, rounds
from tests.envs.judges import prompt, settings_of

CHAT = TemplateSet.load("chat")


def environment(**others: object) -> SelfVerificationEnv:
    cascade = Cascade(CHAT, settings_of(["factuality"], 3))
    return SelfVerificationEnv(
        prompts=[prompt(number) for number in range(12)], cascade=cascade, n=4, block=1, **others
    )  # type: ignore[arg-type]


@pytest.mark.parametrize("fill_rows", [None, 30])
def test_a_round_in_the_flow_is_the_round_in_steps(fill_rows: int | None) -> None:
    env, policy, seen = environment(fill_rows=fill_rows), model(0.8), list[Verdict]()
    env.reset(options={"round": 1, "judge": policy})
    episode = env.flow(policy, SolverAgent(CHAT), seen.extend)
    expected: Episode = in_waves([prompt(number) for number in range(12)], plain(), policy)
    assert (episode.candidates, episode.verdicts) == (expected.candidates, expected.verdicts)
    assert (episode.selected, episode.funnel) == (expected.selected, expected.funnel)
    assert sorted(seen, key=lambda v: (v.prompt_id, v.candidate)) == sorted(
        episode.verdicts, key=lambda v: (v.prompt_id, v.candidate)
    )


@pytest.mark.parametrize("flow", [True, False])
def test_a_round_on_a_shelf_is_the_round_in_memory(flow: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("envs.prompt_state.BATCH", 20)
    shelf, policy, solver = MemoryShelf(), model(0.8), SolverAgent(CHAT)
    episodes = []
    for env in (environment(), environment(shelf=shelf)):
        _, info = env.reset(options={"round": 1, "judge": policy})
        if flow:
            episodes.append(env.flow(policy, solver))
            continue
        while "outcome" not in info:
            wanted = [prompt(place) for place in info["open"]]
            *_, info = env.step(env.action(solver.sample(policy, wanted, info["indices"], round=1)))
        episodes.append(info["outcome"])
    expected, shelved = episodes
    assert tuple(shelved.candidates) == expected.candidates
    assert (shelved.selected, shelved.funnel) == (expected.selected, expected.funnel)
    assert shelved.verdicts == tuple(without_texts(verdict) for verdict in expected.verdicts)
    assert len(shelf.batches) > 1 and sum(shelf.batches) == len(expected.candidates)
    assert [one.text for one in held(shelved.candidates) if one.text] == [one.text for one in expected.selected]


def without_texts(verdict: Verdict) -> Verdict:
    return replace(verdict, votes=tuple(replace(vote, text="") for vote in verdict.votes))


class MemoryShelf:
    """A shelf in memory."""

    def __init__(self) -> None:
        self.known: dict[tuple[str, int], Candidate] = {}
        self.batches: list[int] = []

    def shelve(
        self, played: Sequence[tuple[Candidate, Verdict]], kept: Collection[tuple[str, int]]
    ) -> list[tuple[Candidate, Verdict]]:
        self.batches.append(len(played))
        self.known |= {(one.prompt_id, one.index): one for one, _ in played}
        return [
            (one if (one.prompt_id, one.index) in kept else replace(one, text=""), without_texts(verdict))
            for one, verdict in played
        ]

    def complete(self, candidates: Sequence[Candidate]) -> list[Candidate]:
        return [self.known[one.prompt_id, one.index] for one in candidates]


def test_the_flow_plays_whole_rounds_of_the_cascade_alone() -> None:
    env, solver = environment(), SolverAgent(CHAT)
    with pytest.raises(ActionError, match="call reset"):
        env.flow(model(0.8), solver)
    env.reset(options={"judge": model(0.8)})
    env.step(env.action(["text"] * 12))
    with pytest.raises(ActionError, match="call reset"):
        env.flow(model(0.8), solver)

    def acceptor(items: list[tuple[Prompt, Candidate]], *, round: int) -> list[Verdict]:
        return [Verdict(one.id, candidate.index, True) for one, candidate in items]

    other = environment(acceptor=acceptor)
    other.reset()
    with pytest.raises(ActionError, match="use no acceptor"):
        other.flow(model(0.8), solver)


def flowing(cascade: Cascade) -> Cascade:
    return replace(cascade, settings=cascade.settings.model_copy(update={"flow": True}))


@settings(max_examples=40)
@given(rounds(), st.sampled_from([0.5, 0.9]))
def test_steps_in_the_flow_are_steps_in_waves(rules: RoundRules, yes: float) -> None:
    prompts = [prompt(number) for number in range(4)]
    expected = in_waves(prompts, rules, model(yes))
    assert in_waves(prompts, replace(rules, cascade=flowing(rules.cascade)), model(yes)) == expected


def test_what_a_step_asks_ahead_is_no_part_of_the_round() -> None:
    prompts = [prompt(number) for number in range(6)]
    items = [(one, Candidate(one.id, index, f"a {index}")) for index in range(2) for one in prompts]
    cascade, judges = plain().cascade, [model(0.8), model(0.8)]
    expected = cascade.judge(judges[0], items, round=1)
    assert judge_in_flow(cascade, judges[1], items, round=1, fill_rows=500) == expected
    assert len(judges[1].calls) > len(judges[0].calls)
    env = SelfVerificationEnv(prompts=prompts, cascade=flowing(cascade), n=4, block=1, fill_rows=30)
    env.reset(options={"judge": model(0.0)})
    *_, info = env.step(env.action(["a"] * 6))
    assert list(info["indices"]) == [1]


@pytest.mark.parametrize("judged", [False, True])
def test_an_acceptor_decides_in_the_flow_what_it_decides_in_waves(judged: bool) -> None:
    def acceptor(items: list[tuple[Prompt, Candidate]], *, round: int) -> list[Verdict]:
        return [Verdict(one.id, candidate.index, candidate.text.endswith(("0", "3"))) for one, candidate in items]

    def agent(texts: Sequence[str], count: int) -> list[list[str]]:
        return [[f"{text} {place + k}" for k in range(count)] for place, text in enumerate(texts)]

    episodes = []
    for cascade in (plain().cascade, flowing(plain().cascade)):
        env = SelfVerificationEnv(
            prompts=[prompt(number) for number in range(12)],
            cascade=cascade,
            acceptor=acceptor,
            judged=judged,
            n=4,
        )
        episodes.append(play(env, agent, options={"judge": model(0.9)}))
    assert episodes[0] == episodes[1]
    assert 0 < len(episodes[0].selected) < 12
