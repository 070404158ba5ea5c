from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envs.cascade.cascade import Cascade, CascadeSettings
from envs.cascade.template_sets import TemplateSet
from envs.round_env import SelfVerificationEnv
from envs.solving import SolverAgent
from envs.spending import Account, next_served
from svd_loop.contracts import AgentCall, Episode, Reply, Stage
from svd_loop.errors import ConfigError
from svd_loop.jobs import run_job
from svd_loop.ledger import LedgerReader
from tests.envs.judges import RulePolicy, by_seed, prompt
from tests.svd_loop.jobs_support import small

CHAT = TemplateSet.load("chat")
PROMPTS = [prompt(number) for number in range(12)]
waiting_lists = st.lists(st.integers(0, 7), max_size=12).map(lambda tries: list(enumerate(tries)))
accounts = st.builds(Account, st.integers(0, 5000), st.integers(0, 5000), st.integers(1, 200))


class PricedPolicy(RulePolicy):
    """Solves and judges by seed; every answer says that it took 10 tokens."""

    def reply(self, call: AgentCall) -> Reply:
        reply = super().reply(call)
        return Reply(reply.call, reply.text, reply.finish_reason, reply.policy, (1,), (2,) * 10, 1, 10)


def played(budget: int | None, n: int = 8, block: int = 1) -> Episode:
    policy = PricedPolicy(by_seed(0.45, invalid=0.0).rule)
    cascade = Cascade(CHAT, CascadeSettings((Stage.CORRECTNESS,), 2))
    env = SelfVerificationEnv(prompts=PROMPTS, judge=policy, cascade=cascade, n=n, block=block, budget_tokens=budget)
    _, info = env.reset()
    while info["open"]:
        wanted = [PROMPTS[place] for place in info["open"]]
        _, _, _, _, info = env.step(env.action(SolverAgent(CHAT).sample(policy, wanted, info["indices"], round=1)))
    episode: Episode = info["outcome"]
    return episode


@given(waiting_lists, accounts, st.integers(1, 8))
def test_the_fewest_tries_come_first_and_the_estimate_keeps_the_budget(
    waiting: list[tuple[int, int]], account: Account, block: int
) -> None:
    served = next_served(waiting, account, block=block, n=8)
    tries = dict(waiting)
    assert served == sorted(served) and set(served) <= set(tries)
    if served:
        [equal] = {tries[place] for place in served}
        assert equal == min(tries.values())
        if equal > 0 and account.spent:
            price = account.spent / account.candidates
            assert account.spent + len(served) * min(block, 8 - equal) * price <= account.budget + 1e-6


@given(st.lists(st.integers(1, 7), min_size=1, max_size=12), accounts, st.integers(1, 8), st.integers(0, 5000))
def test_a_larger_budget_serves_no_fewer(tries: list[int], account: Account, block: int, more: int) -> None:
    waiting = list(enumerate(tries))
    richer = Account(account.budget + more, account.spent, account.candidates)
    served, also = (next_served(waiting, a, block=block, n=8) for a in (account, richer))
    assert also[: len(served)] == served


def test_everybody_gets_a_first_block_and_nobody_waiting_ends_the_round() -> None:
    assert next_served([(0, 0), (3, 0), (5, 2)], Account(0, 900, 3), block=1, n=8) == [0, 3]
    assert next_served([(5, 2)], Account(0, 900, 3), block=1, n=8) == []
    assert next_served([], Account(10**9), block=1, n=8) == []


def test_a_large_budget_plays_the_round_as_without_one() -> None:
    free, rich = played(None), played(10**9)
    assert (rich.candidates, rich.verdicts, rich.selected) == (free.candidates, free.verdicts, free.selected)
    assert free.metrics == {}
    assert rich.metrics["budget.unserved"] == 0 < rich.metrics["budget.spent"]


@pytest.mark.parametrize("block", [1, 3])
@pytest.mark.parametrize("share", [0.0, 0.5, 0.8])
def test_a_round_stops_at_its_budget_and_finds_a_part_of_what_it_would_have_found(share: float, block: int) -> None:
    whole = played(10**9, block=block)
    first = played(1, block=block)
    budget = max(1, int(share * whole.metrics["budget.spent"]))
    episode = played(budget, block=block)
    assert first.metrics["budget.spent"] <= episode.metrics["budget.spent"] < whole.metrics["budget.spent"]
    assert episode.metrics["budget.spent"] <= max(budget * 1.25, first.metrics["budget.spent"])
    assert episode.metrics["budget.tokens"] == budget and episode.metrics["budget.unserved"] > 0
    assert set(episode.selected) <= set(whole.selected)
    assert {candidate.prompt_id for candidate in episode.candidates} == {prompt.id for prompt in PROMPTS}
    failed = {p.id: [c for c in episode.candidates if c.prompt_id == p.id] for p in PROMPTS}
    accepted = {candidate.prompt_id for candidate in episode.selected}
    tries = [len(tried) for prompt_id, tried in failed.items() if prompt_id not in accepted]
    assert max(tries) - min(tries) <= block


def test_spent_tokens_are_those_of_the_answers() -> None:
    episode = played(400)
    votes = sum(len(verdict.votes) for verdict in episode.verdicts)
    assert episode.metrics["budget.spent"] == 10 * (len(episode.candidates) + votes)


def test_a_budget_needs_blocks_and_first_valid(tmp_path: Path) -> None:
    for other in ("sampling.block=null", "cascade.selection=all_valid"):
        with pytest.raises(ConfigError, match=r"sampling\.(budget_tokens|block)"):
            small(tmp_path, "sampling.budget_tokens=9", other)


def test_a_job_under_a_budget_goes_on_as_if_it_had_not_stopped(tmp_path: Path) -> None:
    options = ("sampling.budget_tokens=4000", "sampling.block=1", "sampling.n=8", "engine.skill=0.2")
    run_job(small(tmp_path / "parts", *options, "job.rounds=1"))
    histories = [run_job(small(tmp_path / name, *options)).history for name in ("whole", "parts")]
    assert [r.metrics for r in histories[0]] == [r.metrics for r in histories[1]]
    assert [r.version for r in histories[0]] == [r.version for r in histories[1]]
    with LedgerReader.open_for_reading(tmp_path / "whole" / "jobs" / "scripted") as ledger:
        last = ledger.state().last
    roles = [value for name, value in last.metrics.items() if name.endswith(".output_tokens") and name.count(".") == 1]
    assert last.metrics["budget.spent"] == sum(roles)
