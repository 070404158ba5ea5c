from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envs.cascade.cascade import Cascade
from envs.cascade.tally import Tally
from envs.cascade.template_sets import TemplateSet
from svd_loop.config import parse_config
from svd_loop.config.sections import CascadeSection
from svd_loop.contracts import BUILT_IN_STAGES, Candidate, Rejection, Stage, StageName, Verdict, VoteValue
from svd_loop.errors import ConfigError
from tests.envs.judges import always, by_seed, changed, interleaved, prompt, settings_of

CHAT = TemplateSet.load("chat")
ITEMS = [(prompt(p), Candidate(f"p{p}", i, f"solution {i} of {p}")) for p in range(3) for i in range(3)]
rules = st.integers(1, 5).flatmap(lambda votes: st.tuples(st.just(votes), st.integers(1, votes)))
stages_of = st.permutations(list(BUILT_IN_STAGES)).flatmap(lambda s: st.integers(1, 3).map(lambda k: tuple(s[:k])))


def passed(verdict: Verdict, stage: StageName, needed: int) -> bool:
    """The brute-force tally of a verdict with every vote."""
    return sum(vote.value is VoteValue.YES for vote in verdict.votes if vote.stage == stage) >= needed


@given(rules, stages_of, st.sampled_from(["stage_major", "measured"]), st.floats(0.2, 0.95), st.integers(0, 2**20))
def test_k_of_v_with_early_exit_agrees_with_a_count_of_all_votes(
    rule: tuple[int, int], stages: tuple[Stage, ...], order: str, yes: float, seed: int
) -> None:
    votes, needed = rule
    settings = settings_of(stages, votes, order=order, at_least=needed)
    order_of, judge = interleaved(settings), by_seed(yes, job_seed=seed)
    stopped = Cascade(CHAT, settings, order_of=order_of).judge(judge, ITEMS, round=1)
    complete = Cascade(CHAT, changed(settings, early_exit=False), order_of=order_of).judge(judge, ITEMS, round=1)
    for short, full in zip(stopped, complete, strict=True):
        assert len(full.votes) == votes * len(stages)
        assert replace(short, votes=()) == replace(full, votes=())
        assert set(short.votes) <= set(full.votes)
        assert full.accepted == all(passed(full, stage, needed) for stage in stages)
        if not full.accepted:
            assert full.rejection is Rejection.VOTE and full.stage is not None
            assert not passed(full, full.stage, needed)


@given(rules, st.lists(st.sampled_from(list(VoteValue)), max_size=5))
def test_settled_means_that_no_continuation_changes_the_outcome(rule: tuple[int, int], cast: list[VoteValue]) -> None:
    votes, needed = rule
    cast = cast[:votes]
    tally = Tally(votes, needed)
    for value in cast:
        tally.add(Stage.FACTUALITY, value)
    yes = cast.count(VoteValue.YES)
    worst, best = yes >= needed, yes + votes - len(cast) >= needed
    assert tally.is_passed(Stage.FACTUALITY) == worst
    assert tally.is_failed(Stage.FACTUALITY) == (not best)
    assert tally.is_settled(Stage.FACTUALITY) == (worst == best)
    assert not tally.is_settled(Stage.CORRECTNESS)


@pytest.mark.parametrize("needed, paid", [(5, 5), (3, 3), (1, 1)])
def test_a_stage_ends_with_its_last_needed_yes(needed: int, paid: int) -> None:
    judge = always("[[Y]]")
    settings = settings_of((Stage.CORRECTNESS,), 5, at_least=needed)
    [verdict] = Cascade(CHAT, settings).judge(judge, ITEMS[:1], round=1)
    assert verdict.accepted and len(judge.calls) == paid


@pytest.mark.parametrize("needed, paid", [(5, 1), (3, 3), (1, 5)])
def test_a_stage_ends_when_too_many_votes_are_not_yes(needed: int, paid: int) -> None:
    judge = always("[[N]]")
    settings = settings_of((Stage.CORRECTNESS,), 5, at_least=needed)
    [verdict] = Cascade(CHAT, settings).judge(judge, ITEMS[:1], round=1)
    assert not verdict.accepted and verdict.vote == paid - 1 and len(judge.calls) == paid


def test_fewer_needed_votes_accept_no_fewer_candidates() -> None:
    accepted = [
        {
            (v.prompt_id, v.candidate)
            for v in Cascade(CHAT, settings_of(votes=5, at_least=needed)).judge(by_seed(0.7), ITEMS, round=1)
            if v.accepted
        }
        for needed in range(5, 0, -1)
    ]
    assert all(stricter <= laxer for stricter, laxer in pairwise(accepted))
    assert len(accepted[0]) < len(accepted[-1])


@pytest.mark.parametrize("rule, needed", [("unanimous", 5), ("majority", 3), ({"at_least": 4}, 4)])
def test_rules_by_name(rule: object, needed: int) -> None:
    assert CascadeSection.model_validate({"rule": rule, "votes": 5}).needed == needed


def test_rules_that_cannot_be_met_are_refused() -> None:
    source = {"type": "nano", "count": 1}
    config = {"model": {"path": "nano"}, "data": {"train": source, "development": source}}
    with pytest.raises(ConfigError, match=r"cascade\.rule: at_least: 6.*cascade\.votes: 5"):
        parse_config({**config, "cascade": {"rule": {"at_least": 6}}})
