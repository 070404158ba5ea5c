from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envs.cascade.cascade import Cascade, votes_beyond
from envs.cascade.look_ahead import reach
from envs.cascade.template_sets import TemplateSet
from envs.round_env import SelfVerificationEnv
from envs.solving import SolverAgent
from svd_loop.contracts import Candidate, Episode, Prompt, Stage, Verdict, VoteValue
from tests.envs.judges import RulePolicy, always, by_seed, interleaved, prompt, settings_of

CHAT = TemplateSet.load("chat")
PROMPTS = [prompt(number) for number in range(8)]
Items = list[tuple[Prompt, Candidate]]


def judged(judge: RulePolicy, candidates: int, fill_rows: int | None, **settings: Any) -> list[Verdict]:
    items = [(prompt(p), Candidate(f"p{p}", 0, f"solution of {p}")) for p in range(candidates)]
    chosen = settings_of(fill_rows=fill_rows, **settings)
    return Cascade(CHAT, chosen, order_of=interleaved(chosen)).judge(judge, items, round=1)


def played(fill_rows: int | None, *, yes: float = 0.6, votes: int = 3, seed: int = 5, **settings: Any) -> Episode:
    policy = by_seed(yes, invalid=0.05, job_seed=seed)
    cascade = Cascade(CHAT, settings_of((Stage.FACTUALITY, Stage.CORRECTNESS), votes, fill_rows=fill_rows))
    env = SelfVerificationEnv(
        prompts=PROMPTS, judge=policy, cascade=cascade, fill_rows=fill_rows, **{"n": 8, "block": 1} | settings
    )
    _, info = env.reset()
    while info["open"]:
        wanted = [PROMPTS[place] for place in info["open"]]
        _, _, _, _, info = env.step(env.action(SolverAgent(CHAT).sample(policy, wanted, info["indices"], round=1)))
    episode: Episode = info["outcome"]
    return episode


# ---------------------------------------------------------------------------------------- how far


@given(st.integers(1, 600), st.integers(1, 600), st.integers(0, 40), st.integers(1, 40))
def test_the_reach_keeps_to_its_bounds(fill: int, rows: int, answered: int, left: int) -> None:
    ahead = reach(fill, rows, answered, left)
    assert 1 <= ahead <= left and ahead <= answered + 1
    assert ahead == 1 or ahead * rows <= fill
    assert ahead == min(left, answered + 1) or (ahead + 1) * rows > fill
    assert reach(None, rows, answered, left) == 1


def test_waves_double_where_there_is_room() -> None:
    judge = always("[[Y]]")
    judged(judge, 2, 64, stages=(Stage.FACTUALITY, Stage.CORRECTNESS), votes=4)
    assert [len(batch) for batch in judge.batches] == [2, 4, 8, 2]


def test_waves_stay_within_the_rows_unless_more_are_alive() -> None:
    judge = always("[[Y]]")
    judged(judge, 5, 12, stages=(Stage.CORRECTNESS,), votes=5)
    assert [len(batch) for batch in judge.batches] == [5, 10, 10]
    judge = always("[[Y]]")
    judged(judge, 5, 3, stages=(Stage.CORRECTNESS,), votes=2)
    assert [len(batch) for batch in judge.batches] == [5, 5]


# ---------------------------------------------------------------------------- nothing else changes


@given(
    yes=st.floats(0.3, 1.0),
    seed=st.integers(0, 2**32),
    votes=st.integers(1, 5),
    needed=st.integers(1, 5),
    fill=st.integers(1, 60),
    order=st.sampled_from(["stage_major", "measured"]),
    audited=st.sampled_from([0.0, 0.3]),
)
def test_looking_ahead_agrees_with_the_exhaustive_cascade_vote_by_vote(
    yes: float, seed: int, votes: int, needed: int, fill: int, order: str, audited: float
) -> None:
    settings: dict[str, Any] = {
        "votes": votes,
        "at_least": min(needed, votes),
        "order": order,
        "audit_share": audited,
    }
    ahead, whole = by_seed(yes, job_seed=seed), by_seed(yes, job_seed=seed)
    for short, full in zip(
        judged(ahead, 7, fill, **settings), judged(whole, 7, None, early_exit=False, **settings), strict=True
    ):
        assert replace(short, votes=()) == replace(full, votes=())
        assert set(short.votes) <= set(full.votes)
    assert {call.id for call in ahead.calls} <= {call.id for call in whole.calls}


@given(st.floats(0.3, 1.0), st.integers(0, 1000), st.integers(1, 200))
def test_at_most_as_much_is_wasted_as_was_needed(yes: float, seed: int, fill: int) -> None:
    for verdict in judged(by_seed(yes, job_seed=seed), 6, fill):
        beyond = votes_beyond(verdict)
        assert beyond < max(1, len(verdict.votes) - beyond)
        needed = verdict.votes[: len(verdict.votes) - beyond]
        assert all(vote.value is VoteValue.YES for vote in needed[:-1])


@pytest.mark.parametrize("fill", [1, 8, 20, 500])
@pytest.mark.parametrize("block", [1, 3])
@pytest.mark.parametrize("seed", range(4))
def test_the_same_candidates_are_selected_in_fewer_steps(fill: int, block: int, seed: int) -> None:
    plain, ahead = played(None, block=block, seed=seed), played(fill, block=block, seed=seed)
    assert ahead.selected == plain.selected and plain.selected
    first = {candidate.prompt_id: candidate.index for candidate in plain.selected}
    verdicts = {(v.prompt_id, v.candidate): replace(v, votes=()) for v in ahead.verdicts}
    for verdict in plain.verdicts:
        if verdict.candidate <= first.get(verdict.prompt_id, 8):
            assert verdicts[verdict.prompt_id, verdict.candidate] == replace(verdict, votes=())
    assert ahead == played(fill, block=block, seed=seed)


def test_what_was_asked_in_vain_is_on_record() -> None:
    plain, ahead = played(None, yes=0.8), played(500, yes=0.8)
    accepted = {candidate.prompt_id: candidate.index for candidate in ahead.selected}
    later = [c for c in ahead.candidates if c.prompt_id in accepted and c.index > accepted[c.prompt_id]]
    assert ahead.metrics["ahead.candidates"] == len(later) == len(ahead.candidates) - len(plain.candidates) > 0
    assert ahead.metrics["ahead.votes"] == sum(map(votes_beyond, ahead.verdicts)) > 0
    assert not any(name.startswith("ahead") for name in plain.metrics)


# -------------------------------------------------------------------------------------- the blocks


def test_blocks_grow_while_few_prompts_are_open() -> None:
    shown: list[tuple[int, list[int]]] = []
    policy = RulePolicy(lambda call: "[[Y]]" if call.id.prompt_id != "p0" else "[[N]]")
    cascade = Cascade(CHAT, settings_of((Stage.CORRECTNESS,), 1))
    env = SelfVerificationEnv(prompts=PROMPTS, judge=policy, cascade=cascade, n=8, block=1, fill_rows=4)
    observation, info = env.reset()
    while info["open"]:
        shown.append((len(info["open"]), list(info["indices"])))
        action = env.action(["x"] * len(info["open"]) * len(info["indices"]))
        assert action in env.action_space
        observation, _, _, _, info = env.step(action)
        assert observation in env.observation_space
    assert shown == [(8, [0]), (1, [1, 2]), (1, [3, 4, 5, 6]), (1, [7])]
