"""A round of the environment in the flow."""

from __future__ import annotations

import pytest

from envs.cascade.cascade import Cascade
from envs.cascade.template_sets import TemplateSet
from envs.round_env import SelfVerificationEnv
from envs.solving import SolverAgent
from svd_loop.contracts import Candidate, Episode, Prompt, Verdict
from svd_loop.errors import ActionError
from tests.envs.flow.test_flow import in_waves, model, plain
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
