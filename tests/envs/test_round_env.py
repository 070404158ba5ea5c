from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import gymnasium
import pytest
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import check_env
from gymnasium.wrappers import RecordEpisodeStatistics
from gymnasium.wrappers.vector import RecordEpisodeStatistics as VectorRecordEpisodeStatistics

from envs.cascade.cascade import Cascade
from envs.cascade.template_sets import TemplateSet
from envs.demo import DEMO_PROMPTS, DemoJudge
from envs.play import play
from envs.round_env import SelfVerificationEnv
from envs.solving import SolverAgent
from svd_loop.contracts import Candidate, Episode, FinishReason, Policy, Prompt, Rejection, Selection, Stage, Verdict
from svd_loop.errors import ActionError, ConfigError, DataError, EngineError
from svd_loop.experiments.acceptors import RandomAcceptor
from tests.envs.judges import RulePolicy, always, by_seed, prompt, settings_of

CHAT = TemplateSet.load("chat")
GRADE_ONCE = Cascade(CHAT, settings_of(stages=(Stage.CORRECTNESS,), votes=1))
PROMPTS = [prompt(number) for number in range(3)]


def env_with(judge: Policy, **settings: Any) -> SelfVerificationEnv:
    return SelfVerificationEnv(**{"prompts": PROMPTS, "judge": judge, "cascade": GRADE_ONCE, "n": 2} | settings)


def right_for(*accepted: tuple[str, int]) -> RulePolicy:
    """A judge that approves of the named (prompt id, candidate) pairs."""
    return RulePolicy(lambda call: "[[Y]]" if (call.id.prompt_id, call.id.candidate) in accepted else "[[N]]")


def play_with(env: SelfVerificationEnv, policy: Policy, round: int = 1) -> Episode:
    """The controller's way of playing."""
    _, info = env.reset(options={"prompts": PROMPTS, "round": round, "judge": policy})
    terminated = False
    while not terminated:
        wanted = [PROMPTS[place] for place in info["open"]]
        candidates = SolverAgent(CHAT).sample(policy, wanted, info["indices"], round=round)
        _, _, terminated, _, info = env.step(env.action(candidates))
    episode: Episode = info["outcome"]
    return episode


# -------------------------------------------------------------------------------------- Gymnasium


@pytest.mark.filterwarnings("error")
def test_the_registered_environment_passes_the_checker() -> None:
    check_env(gymnasium.make("SelfVerification-v0").unwrapped)


def test_gymnasium_can_record_the_statistics_of_an_episode() -> None:
    env = RecordEpisodeStatistics(gymnasium.make("SelfVerification-v0", disable_env_checker=True, n=1))
    _, info = env.reset()
    assert set(info) == {"open", "indices", "verdicts"}
    _, reward, terminated, _, info = env.step(tuple(("42",) for _ in DEMO_PROMPTS))
    assert terminated and isinstance(info["outcome"], Episode)
    assert (info["episode"]["r"], info["episode"]["l"]) == (reward, 1), "Gymnasium's own key"


def test_gymnasium_can_record_the_statistics_of_a_vector_of_environments() -> None:
    vector = gymnasium.make_vec("SelfVerification-v0", num_envs=2, vectorization_mode="sync", n=1)
    env = VectorRecordEpisodeStatistics(vector)
    env.reset()
    wrong = tuple(("no idea",) for _ in DEMO_PROMPTS)
    right = (("17 + 25 = 42",), ("31 + 48 = 79",), ("206 + 77 = 283",))
    _, rewards, terminated, _, info = env.step((right, wrong))
    assert terminated.all() and list(info["episode"]["r"]) == list(rewards) == [1.0, 0.0]
    assert [outcome.accepted for outcome in info["outcome"]] == [len(DEMO_PROMPTS), 0]


@pytest.mark.filterwarnings("error")
def test_small_blocks_pass_the_checker_too() -> None:
    check_env(gymnasium.make("SelfVerification-v0", n=3, block=2).unwrapped)


def test_random_actions_reach_the_end() -> None:
    env = gymnasium.make("SelfVerification-v0", n=5, block=2)
    env.action_space.seed(0)
    env.reset(seed=0)
    steps, terminated, truncated = 0, False, False
    while not terminated:
        _, reward, terminated, truncated, _ = env.step(env.action_space.sample())
        steps += 1
        assert reward == 0.0 and not truncated
    assert steps == 3


def test_stepping_outside_an_episode_is_refused() -> None:
    env = env_with(always("[[Y]]"))
    with pytest.raises(ResetNeeded):
        env.step(((), (), ()))
    env.reset()
    env.step((("a", "b"),) * 3)
    with pytest.raises(ResetNeeded):
        env.step((("a", "b"),) * 3)


# -------------------------------------------------------------------------- somebody else's agent


def adder(texts: Sequence[str], count: int) -> list[list[str]]:
    """An agent that has never heard of this project; its first try at every other text is wrong."""
    answers = []
    for place, text in enumerate(texts):
        a, b = map(int, re.findall(r"\d+", text))
        answers.append([f"{a} + {b} = {a + b if place % 2 == 0 else a + b + 1}"] * count)
    return answers


def test_a_foreign_agent_plays_the_wrapped_default() -> None:
    episode = play(gymnasium.make("SelfVerification-v0", n=1), adder)
    assert [candidate.prompt_id for candidate in episode.selected] == [DEMO_PROMPTS[0].id, DEMO_PROMPTS[2].id]
    assert episode.accepted == 2 and episode.funnel["accepted"] == 2


def test_an_agent_is_asked_only_for_what_is_open() -> None:
    shown: list[tuple[list[str], int]] = []

    def agent(texts: Sequence[str], count: int) -> list[list[str]]:
        shown.append((list(texts), count))
        return [["try"] * count for _ in texts]

    play(env_with(right_for(("p0", 0), ("p2", 3)), n=5, block=2), agent)
    q0, q1, q2 = (p.text for p in PROMPTS)
    assert shown == [([q0, q1, q2], 2), ([q1, q2], 2), ([q1], 1)]


def test_an_agent_that_answers_another_number_of_texts_is_told() -> None:
    with pytest.raises(ActionError, match="shown 3 texts and answered 1"):
        play(env_with(always("[[Y]]")), lambda texts, count: [["x"]])


def test_the_default_judge_refuses_what_it_cannot_check() -> None:
    env = SelfVerificationEnv(prompts=PROMPTS, n=1)
    assert play(env, lambda texts, count: [["42"] * count for _ in texts]).accepted == 0
    assert DemoJudge().key(SolverAgent(CHAT).calls(PROMPTS, [0], round=1)[0])


# ---------------------------------------------------------------------------------------- episodes


def test_observation_reward_and_info_along_an_episode() -> None:
    env = env_with(right_for(("p1", 0), ("p0", 1)), block=1)
    observation, info = env.reset()
    assert observation == tuple(p.text for p in PROMPTS) and observation in env.observation_space
    assert info["open"] == (0, 1, 2) and list(info["indices"]) == [0]

    observation, reward, terminated, truncated, info = env.step((("a",), ("b",), ("c",)))
    assert observation == (PROMPTS[0].text, "", PROMPTS[2].text) and observation in env.observation_space
    assert (reward, terminated, truncated) == (pytest.approx(1 / 3), False, False)
    assert info["open"] == (0, 2) and list(info["indices"]) == [1] and "outcome" not in info
    assert [(v.prompt_id, v.accepted) for v in info["verdicts"]] == [("p0", False), ("p1", True), ("p2", False)]

    observation, reward, terminated, _, info = env.step((("d",), (), ("e",)))
    assert observation == ("", "", "") and reward == pytest.approx(1 / 3) and terminated
    episode = info["outcome"]
    assert [(c.prompt_id, c.index, c.text) for c in episode.candidates] == [
        ("p0", 0, "a"),
        ("p0", 1, "d"),
        ("p1", 0, "b"),
        ("p2", 0, "c"),
        ("p2", 1, "e"),
    ]
    assert [(v.prompt_id, v.candidate) for v in episode.verdicts] == [
        (c.prompt_id, c.index) for c in episode.candidates
    ]
    assert [c.text for c in episode.selected] == ["d", "b"]
    assert episode.prompts == 3 and episode.accepted == 2
    assert episode.funnel == {"generated": 5, "complete": 5, "correctness": 2, "accepted": 2}


@pytest.mark.parametrize("selection, texts", [(Selection.FIRST_VALID, ["b"]), (Selection.ALL_VALID, ["b", "d"])])
def test_selection(selection: Selection, texts: list[str]) -> None:
    env = env_with(right_for(("p0", 1), ("p0", 3)), prompts=PROMPTS[:1], n=4, selection=selection)
    env.reset()
    _, reward, terminated, _, info = env.step((("a", "b", "c", "d"),))
    assert [c.text for c in info["outcome"].selected] == texts
    assert reward == 1.0 and terminated


def test_all_valid_keeps_prompts_open_until_n_and_rewards_a_prompt_once() -> None:
    env = env_with(always("[[Y]]"), prompts=PROMPTS[:1], n=2, block=1, selection=Selection.ALL_VALID)
    env.reset()
    _, first, terminated, _, info = env.step((("a",),))
    assert (first, terminated, info["open"]) == (1.0, False, (0,))
    _, second, terminated, _, info = env.step((("b",),))
    assert (second, terminated) == (0.0, True) and len(info["outcome"].selected) == 2


@pytest.mark.parametrize("block", [1, 2, 3, 8, None])
def test_first_valid_selects_the_same_candidates_whatever_the_block(block: int | None) -> None:
    whole = play_with(env_with(by_seed(), n=8), by_seed(0.5))
    stepped = play_with(env_with(by_seed(), n=8, block=block), by_seed(0.5))
    assert stepped.selected == whole.selected and whole.selected
    assert set(stepped.verdicts) <= set(whole.verdicts)
    assert len(stepped.candidates) <= len(whole.candidates)


def test_sampled_candidates_reach_the_selection_with_their_tokens() -> None:
    env = env_with(always("[[Y]]"))
    assert {c.token_ids for c in play_with(env, always("[[Y]]"), round=4).selected} == {(3, 4, 0)}
    assert play_with(env, always("[[Y]]"), round=4).round == 4


def test_truncated_candidates_are_never_accepted() -> None:
    env = env_with(always("[[Y]]"), prompts=PROMPTS[:1], n=1)
    env.reset()
    _, _, _, _, info = env.step(((Candidate("p0", 0, "[[Y]]", FinishReason.LENGTH),),))
    assert info["verdicts"][0].rejection is Rejection.TRUNCATED and info["outcome"].accepted == 0


def test_reset_options_hold_for_one_episode() -> None:
    env = env_with(always("[[N]]"))
    other = [prompt(number) for number in range(5)]
    observation, _ = env.reset(options={"prompts": other, "round": 7, "judge": always("[[Y]]")})
    assert len(observation) == 5 and observation in env.observation_space
    _, reward, _, _, info = env.step((("a",),) * 5)
    assert reward == 1.0 and info["outcome"].round == 7
    observation, _ = env.reset()
    assert len(observation) == 3
    _, reward, _, _, info = env.step((("a", "b"),) * 3)
    assert reward == 0.0 and info["outcome"].round == 1


def test_fewer_candidates_forfeit_and_a_surplus_is_ignored() -> None:
    judge = always("[[N]]")
    env = env_with(judge, n=3, block=2)
    env.reset()
    env.step((("a",), (), ("b", "c")))
    _, _, terminated, _, info = env.step((("d", "surplus"), ("e",), ()))
    assert terminated
    assert [(c.prompt_id, c.index, c.text) for c in info["outcome"].candidates] == [
        ("p0", 0, "a"),
        ("p0", 2, "d"),
        ("p1", 2, "e"),
        ("p2", 0, "b"),
        ("p2", 1, "c"),
    ]


def test_candidates_for_settled_prompts_are_ignored() -> None:
    env = env_with(right_for(("p0", 0)), block=1)
    env.reset()
    env.step((("a",),) * 3)
    _, _, _, _, info = env.step((("unwanted",), ("b",), ("c",)))
    assert [v.prompt_id for v in info["verdicts"]] == ["p1", "p2"]


@pytest.mark.parametrize("text", ["", "\ud800", "a\x00b", "🙂" * 5000, "[[Y]]", "</think>"])
def test_any_text_can_be_judged(text: str) -> None:
    env = env_with(always("[[N]]"), prompts=[Prompt("p", f"{text}?", PROMPTS[0].domain)], n=1)
    env.reset()
    _, reward, terminated, _, _ = env.step(((text,),))
    assert reward == 0.0 and terminated


def test_many_prompts_in_small_blocks() -> None:
    many = [prompt(number) for number in range(20_000)]
    env = env_with(always("[[N]]"), prompts=many, n=4, block=1, acceptor=RandomAcceptor((0.5,)))
    episode = play(env, lambda texts, count: [["x"] * count for _ in texts])
    assert 9_000 < episode.accepted < 11_000


# ---------------------------------------------------------------------------------------- controls


def test_the_random_control_asks_no_judge_and_has_no_stages() -> None:
    judge = always("[[Y]]")
    episode = play_with(env_with(judge, acceptor=RandomAcceptor((1.0,)), block=1), judge)
    assert {call.id.role for call in judge.calls} == {"solver"}
    assert [candidate.index for candidate in episode.selected] == [0, 0, 0]
    assert episode.funnel == {"generated": 3, "complete": 3, "accepted": 3}


def test_the_random_control_accepts_the_same_whatever_the_block() -> None:
    control = RandomAcceptor((0.5,), seed=3)
    selected = [
        play_with(env_with(always("x"), n=6, block=block, acceptor=control), always("x")).selected
        for block in (1, 2, 6)
    ]
    assert selected[0] == selected[1] == selected[2]


def test_any_callable_can_accept() -> None:
    def second(items: Sequence[tuple[Prompt, Candidate]], *, round: int) -> list[Verdict]:
        return [Verdict(p.id, c.index, c.index == 1, None if c.index == 1 else Rejection.GOLD) for p, c in items]

    assert [c.index for c in play_with(env_with(always("x"), acceptor=second), always("x")).selected] == [1, 1, 1]


def test_an_acceptor_that_loses_candidates_is_an_error() -> None:
    env = env_with(always("x"), acceptor=lambda items, *, round: [])
    env.reset()
    with pytest.raises(EngineError, match="given 3 candidates and gave 0"):
        env.step((("a",),) * 3)


# ------------------------------------------------------------------------------------------ errors


@pytest.mark.parametrize(
    "action, found",
    [
        ("abc", "found str"),
        (None, "found NoneType"),
        ((("a",),), "found 1 entries with 1"),
        (("a", "b", "c"), "with str, str, str"),
        ((("a", "b", "c"), (), ()), "with 3, 0, 0"),
        (((1,), (), ()), "each a str or a Candidate"),
        ((("a",),) * 9, r"found 9 entries with 1, 1.*\.\.\."),
    ],
)
def test_ill_formed_actions_are_value_errors_that_say_what_is_wanted(action: Any, found: str) -> None:
    env = env_with(always("[[Y]]"))
    env.reset()
    with pytest.raises(ActionError, match=found) as caught:
        env.step(action)
    assert isinstance(caught.value, ValueError) and "3 tuples" in str(caught.value)


@pytest.mark.parametrize("candidate", [Candidate("p1", 0, "x"), Candidate("p0", 1, "x")])
def test_candidates_that_belong_elsewhere_are_refused(candidate: Candidate) -> None:
    env = env_with(always("[[Y]]"))
    env.reset()
    with pytest.raises(ActionError, match="expected candidate 0 of prompt p0"):
        env.step(((candidate,), (), ()))


@pytest.mark.parametrize("count", [0, 5, 7])
def test_arranging_another_number_of_candidates_is_refused(count: int) -> None:
    env = env_with(always("[[Y]]"))
    env.reset()
    with pytest.raises(ActionError, match=f"2 candidates for each of 3 prompts, found {count}"):
        env.action(["x"] * count)


def test_unknown_options_are_refused() -> None:
    with pytest.raises(ActionError, match=r"unknown \['promts'\]; known: prompts, round, judge"):
        env_with(always("x")).reset(options={"promts": PROMPTS})


@pytest.mark.parametrize(
    "prompts, message",
    [
        ([], "at least one"),
        ([prompt(0), prompt(1), prompt(0)], "different ids, repeated: p0"),
        ([Prompt("p9", "", PROMPTS[0].domain)], "without text.*p9"),
    ],
)
def test_prompts_that_cannot_make_a_round_are_refused(prompts: list[Prompt], message: str) -> None:
    with pytest.raises(DataError, match=message):
        env_with(always("x"), prompts=prompts)
    with pytest.raises(DataError, match=message):
        env_with(always("x")).reset(options={"prompts": prompts})


@pytest.mark.parametrize("settings", [{"n": 0}, {"block": 0}])
def test_sizes_below_one_are_refused(settings: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match=r"sampling\.n and sampling\.block"):
        env_with(always("x"), **settings)
