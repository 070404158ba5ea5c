"""Classes of equal answers: what they hold, that order changes nothing, and how few comparisons they take."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envs.cascade.agreement import AnswerComparison, Solutions, agreement, partition, partitions
from svd_loop.contracts import Candidate, Domain, FinishReason, Outcome, Prompt
from svd_loop.evaluation.evaluation import answer_comparison
from tests.envs.judges import prompt

ANSWERS = st.lists(st.sampled_from(["-", "0", "3", "6", "1", "4", "2", "x"]), max_size=9)
"""`-` is no answer; numbers are equal if they are so modulo 3."""


class Modulo:
    """A comparison of numbers modulo 3, which counts what it is asked."""

    def __init__(self) -> None:
        self.asked: list[Solutions] = []

    def comparison(self) -> AnswerComparison:
        return AnswerComparison(lambda _, text: None if text == "-" else text, self.same)

    def same(self, pairs: Sequence[Solutions]) -> list[Outcome]:
        self.asked += pairs
        return [Outcome.of(kind(one) == kind(other)) for _, one, other in pairs]


def kind(text: str) -> int | str:
    return int(text) % 3 if text.isdigit() else text


def candidates(texts: Sequence[str]) -> list[Candidate]:
    return [Candidate("p0", index, text) for index, text in enumerate(texts)]


@given(texts=ANSWERS)
def test_a_class_holds_the_candidates_with_equal_answers(texts: list[str]) -> None:
    found = partition(prompt(), candidates(texts), Modulo().comparison())
    for text, number in zip(texts, found, strict=True):
        assert (number is None) == (text == "-")
        if number is not None:
            assert [number == other for other in found] == [kind(text) == kind(other) for other in texts]
    firsts = list(dict.fromkeys(number for number in found if number is not None))
    assert firsts == list(range(len(firsts)))
    counts = Counter(kind(text) for text in texts)
    expected = [0 if text == "-" else counts[kind(text)] for text in texts]
    assert agreement(prompt(), candidates(texts), Modulo().comparison()) == expected


@given(texts=ANSWERS, data=st.data(), table=st.dictionaries(st.text("0346", min_size=2, max_size=2), st.booleans()))
def test_the_order_of_candidates_changes_no_class(
    texts: list[str], data: st.DataObject, table: dict[str, bool]
) -> None:
    """Also under a comparison that is neither symmetric nor transitive."""
    comparison = AnswerComparison(
        lambda _, text: None if text == "-" else text,
        lambda pairs: [Outcome.of(table.get(one + other, False)) for _, one, other in pairs],
    )
    order = data.draw(st.permutations(range(len(texts))))
    sizes = agreement(prompt(), candidates(texts), comparison)
    assert agreement(prompt(), candidates([texts[place] for place in order]), comparison) == [sizes[p] for p in order]


@given(texts=ANSWERS)
def test_comparisons_are_few(texts: list[str]) -> None:
    modulo = Modulo()
    partition(prompt(), candidates(texts), modulo.comparison())
    distinct = set(texts) - {"-"}
    pairs = [frozenset((one, other)) for _, one, other in modulo.asked]
    assert all(one != other for _, one, other in modulo.asked)
    assert all(count <= 2 for count in Counter(pairs).values())  # a pair once in each direction at most
    classes = len({kind(text) for text in distinct})
    assert len(set(pairs)) <= classes * max(0, len(distinct) - 1)
    assert not (classes == len(distinct) == 1 and pairs)


def test_the_prompts_of_a_batch_are_compared_together_and_do_not_mix() -> None:
    batches: list[int] = []
    modulo = Modulo()

    def same(pairs: Sequence[Solutions]) -> list[Outcome]:
        batches.append(len(pairs))
        return modulo.same(pairs)

    groups = [(prompt(number), candidates(["0", "3", "1", "2"])) for number in range(50)]
    found = partitions(groups, AnswerComparison(lambda _, text: text, same))
    assert found == [[0, 0, 1, 2]] * 50
    assert len(batches) == 3 and batches[0] == 150  # 0 with the others, 3 with 0, then 1 with 2


def test_an_undecided_comparison_and_one_that_holds_in_one_direction_are_not_equal() -> None:
    def found(outcome: dict[tuple[str, str], Outcome]) -> list[int]:
        comparison = AnswerComparison(lambda _, text: text, lambda ps: [outcome[one, other] for _, one, other in ps])
        return agreement(prompt(), candidates(["a", "b"]), comparison)

    assert found({("a", "b"): Outcome.RIGHT, ("b", "a"): Outcome.RIGHT}) == [2, 2]
    assert found({("a", "b"): Outcome.RIGHT, ("b", "a"): Outcome.UNDECIDED}) == [1, 1]
    assert found({("a", "b"): Outcome.RIGHT, ("b", "a"): Outcome.WRONG}) == [1, 1]
    assert found({("a", "b"): Outcome.UNDECIDED}) == [1, 1]


def test_truncated_and_empty_candidates_reach_no_answer() -> None:
    cut = Candidate("p0", 1, "3", FinishReason.LENGTH)
    group = [Candidate("p0", 0, "3"), cut, Candidate("p0", 2, "<think>3"), Candidate("p0", 3, "<think>a</think>3")]
    comparison = AnswerComparison(lambda _, text: text, lambda pairs: [Outcome.WRONG for _ in pairs])
    assert partition(prompt(), group, comparison) == [0, None, None, 0]


@pytest.mark.parametrize(
    ("domain", "question", "solutions", "sizes"),
    [
        (
            Domain.MATH,
            "q",
            [r"\boxed{0.5}", r"\boxed{\frac12}", "So \\boxed{1/2}.", r"\boxed{2}", "no answer"],
            [3, 3, 3, 1, 0],
        ),
        (Domain.SCIENCE, "Which? A) tin B) zinc", [r"\boxed{B}", r"\boxed{zinc}", r"\boxed{A}"], [2, 2, 1]),
        (Domain.SCIENCE, "How far?", [r"\boxed{1.5e3 m}", r"\boxed{1500 m}", r"\boxed{1400 m}"], [2, 2, 1]),
    ],
)
def test_answers_are_found_and_compared_by_their_domain(
    domain: str, question: str, solutions: list[str], sizes: list[int]
) -> None:
    assert agreement(Prompt("p0", question, domain), candidates(solutions), answer_comparison()) == sizes


def test_every_candidate_alone_without_any() -> None:
    assert agreement(prompt(), [], Modulo().comparison()) == []
    assert all(one != other for one, other in pairwise(partition(prompt(), candidates("01"), Modulo().comparison())))
