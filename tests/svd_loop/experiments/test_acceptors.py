from __future__ import annotations

import re

import pytest

from svd_loop.contracts import Candidate, Domain, FinishReason, Problem, Prompt, Rejection
from svd_loop.errors import ConfigError, DataError
from svd_loop.experiments.acceptors import GoldAcceptor, RandomAcceptor, SelfCertainty, SelfConsistency
from tests.envs.judges import prompt


def items_of(prompts: int, n: int = 2) -> list[tuple[Prompt, Candidate]]:
    return [(prompt(p), Candidate(f"p{p}", i, "text")) for p in range(prompts) for i in range(n)]


def accepted(acceptor: RandomAcceptor, items: list[tuple[Prompt, Candidate]], round: int = 1) -> set[tuple[str, int]]:
    return {(v.prompt_id, v.candidate) for v in acceptor(items, round=round) if v.accepted}


def test_the_rate_is_the_share_of_prompts_whatever_n_is() -> None:
    for n in (1, 8):
        assert len(accepted(RandomAcceptor((0.3,)), items_of(2000, n))) == pytest.approx(600, abs=60)


@pytest.mark.parametrize("rate, count", [(0.0, 0), (1.0, 5)])
def test_none_and_all(rate: float, count: int) -> None:
    chosen = accepted(RandomAcceptor((rate,)), items_of(5))
    assert len(chosen) == count and all(index == 0 for _, index in chosen)


def test_rates_by_round_and_the_last_one_holds_later() -> None:
    acceptor = RandomAcceptor((0.0, 1.0))
    assert [len(accepted(acceptor, items_of(4), round)) for round in (1, 2, 3, 9)] == [0, 4, 4, 4]


def test_luck_depends_on_seed_round_and_prompt_alone() -> None:
    acceptor, items = RandomAcceptor((0.5,), seed=1), items_of(100)
    assert accepted(acceptor, items) == accepted(acceptor, items[::2])
    assert accepted(acceptor, items) != accepted(acceptor, items, round=2)
    assert accepted(acceptor, items) != accepted(RandomAcceptor((0.5,), seed=2), items)


def test_the_first_complete_candidate_is_taken() -> None:
    cut = (prompt(), Candidate("p0", 0, "cut off", FinishReason.LENGTH))
    items = [cut, *((prompt(), Candidate("p0", i + 1, text)) for i, text in enumerate(["", "good", "good too"]))]
    verdicts = RandomAcceptor()(items, round=1)
    assert [verdict.rejection for verdict in verdicts] == [
        Rejection.TRUNCATED,
        Rejection.EMPTY,
        None,
        Rejection.NOT_SELECTED_AT_RANDOM,
    ]


@pytest.mark.parametrize("rates", [(), (1.5,), (0.5, -0.1), (float("nan"),)])
def test_rates_that_are_no_fractions_are_refused(rates: tuple[float, ...]) -> None:
    with pytest.raises(ConfigError, match=r"control\.rates"):
        RandomAcceptor(rates)


def written(prompt_id: str, *texts: str) -> list[tuple[Prompt, Candidate]]:
    return [(prompt(int(prompt_id[1:])), Candidate(prompt_id, index, text)) for index, text in enumerate(texts)]


def boxed(prompt: Prompt, text: str) -> str | None:
    found = re.search(r"\\boxed\{(.*?)\}", text)
    return found[1] if found else None


def test_self_consistency_takes_the_first_candidate_with_the_most_frequent_answer() -> None:
    items = written("p0", r"\boxed{3}", r"so \boxed{4}", "no answer here", r"again \boxed{ 4 }") + written("p1", "none")
    verdicts = SelfConsistency(boxed)(items, round=1)
    assert [v.accepted for v in verdicts] == [False, True, False, False, False]
    assert {v.rejection for v in verdicts} == {None, Rejection.OUTVOTED}


def test_self_consistency_breaks_a_tie_for_the_first_and_counts_no_truncated_candidate() -> None:
    tie = written("p0", r"\boxed{1}", r"\boxed{2}")
    cut = (prompt(0), Candidate("p0", 2, r"\boxed{2}", FinishReason.LENGTH))
    verdicts = SelfConsistency(boxed)([*tie, cut], round=1)
    assert [v.accepted for v in verdicts] == [True, False, False]
    assert verdicts[2].rejection is Rejection.TRUNCATED


def test_self_certainty_takes_the_most_certain_complete_candidate() -> None:
    items = [*written("p0", "a", "bb", "ccc"), *written("p1", "d")]
    items.append((prompt(1), Candidate("p1", 1, "longest of all", FinishReason.LENGTH)))
    verdicts = SelfCertainty(lambda candidates: [float(len(c.text)) for c in candidates])(items, round=1)
    assert [v.accepted for v in verdicts] == [False, False, True, True, False]
    assert [v.rejection for v in verdicts if not v.accepted] == [Rejection.LESS_CERTAIN] * 2 + [Rejection.TRUNCATED]


def test_gold_accepts_what_is_right_and_complete() -> None:
    problem = Problem("m1", "6 x 7?", Domain.MATH, answer="42")
    texts = [
        (r"\boxed{42}", FinishReason.STOP),
        (r"\boxed{3}", FinishReason.STOP),
        (r"\boxed{42}", FinishReason.LENGTH),
    ]
    items = [(problem.as_prompt(), Candidate("m1", index, text, reason)) for index, (text, reason) in enumerate(texts)]
    verdicts = GoldAcceptor([problem])(items, round=1)
    assert [v.rejection for v in verdicts] == [None, Rejection.GOLD, Rejection.TRUNCATED]
    with pytest.raises(DataError, match=r"no answer for 1 of the prompts, among them m1$"):
        GoldAcceptor([])(items)
