from __future__ import annotations

import json
from pathlib import Path

import pytest

from envs.domains import DOMAINS
from envs.domains.math import Comparer, number
from svd_loop.contracts import Domain, Outcome, Problem

SAMPLE = Path(__file__).parents[2] / "data" / "gsm8k_sample.jsonl"
MATH = DOMAINS[Domain.MATH]


def problem(answer: str) -> Problem:
    return Problem(answer, "How many?", Domain.MATH, answer)


EQUAL = [
    ("18", "18"),
    ("18", "18.00"),
    ("18", r"\$18"),
    ("18", "$18$"),
    ("18", r"\text{18}"),
    ("70000", "70,000"),
    ("70,000", r"70{,}000"),
    ("1/2", r"\frac{1}{2}"),
    ("0.5", r"\frac12"),
    ("5", "x = 5"),
    ("x=5", "5"),
    (r"\sqrt{2}", "2^{1/2}"),
    (r"\{1, 2\}", r"\{2, 1\}"),
    ("(1,2)", "(1, 2)"),
    ("x^2+2x+1", "(x+1)^2"),
    (r"\text{north}", "north"),
    ("12", r"12\,\text{cm}"),
    ("-3", "-3"),
    ("50", r"50\%"),
    ("0.5", r"50\%"),
]
DIFFERENT = [
    ("18", "19"),
    ("18", "18 or 19"),
    ("18", "1 8"),
    ("1/2", "1/3"),
    ("(1,2)", "(2,1)"),
    ("70000", "70.000"),
    ("-3", "3"),
    ("1.41", r"\sqrt{2}"),
    ("18", ""),
    ("", "18"),
    ("1", r"\text{yes}"),
    ("18", "{" * 30),
    ("18", "0" * 2000 + "18"),
]


def test_answers_equal_as_mathematics_are_right() -> None:
    results = MATH.score_all([(rf"\boxed{{{answer}}}", problem(gold)) for gold, answer in EQUAL], seconds=5.0)
    assert [pair for pair, right in zip(EQUAL, results, strict=True) if right is not Outcome.RIGHT] == []


def test_other_answers_are_wrong() -> None:
    results = MATH.score_all([(rf"\boxed{{{answer}}}", problem(gold)) for gold, answer in DIFFERENT], seconds=5.0)
    assert [pair for pair, right in zip(DIFFERENT, results, strict=True) if right is not Outcome.WRONG] == []


def test_gsm8k_gold_is_right_in_many_dresses_and_another_problems_gold_is_not() -> None:
    rows = [json.loads(line) for line in SAMPLE.read_text(encoding="utf-8").splitlines()]
    golds = [row["answer"].rpartition("####")[2].strip() for row in rows]
    dresses = (
        "{answer}",
        r"\boxed{{{gold}}}",
        r"\boxed{{\${gold}}}",
        r"\boxed{{{bare}.00}}",
        "The answer is ${gold}.",
        r"So $\boxed{{{latex}}}$ dollars.",
        "**Answer:** {bare}",
    )
    for dress in dresses:
        pairs = [
            (
                dress.format(
                    answer=row["answer"], gold=gold, bare=gold.replace(",", ""), latex=gold.replace(",", "{,}")
                ),
                Problem(row["question"], row["question"], Domain.MATH, gold),
            )
            for row, gold in zip(rows, golds, strict=True)
        ]
        assert set(MATH.score_all(pairs, seconds=5.0)) == {Outcome.RIGHT}, dress
        shifted = [(text, other) for (text, _), (_, other) in zip(pairs, pairs[1:] + pairs[:1], strict=True)]
        assert set(MATH.score_all(shifted, seconds=5.0)) == {Outcome.WRONG}, dress


@pytest.mark.slow
def test_a_computation_without_end_is_wrong_and_harms_nobody() -> None:
    answers = (r"9^{9^{9^9}}", "1000000!", r"\frac{1}{2}")
    pairs = [(rf"\boxed{{{answer}}}", problem("0.5")) for answer in answers]
    *endless, last = MATH.score_all(pairs, seconds=5.0)
    assert Outcome.RIGHT not in endless and last is Outcome.RIGHT


def test_a_dead_child_costs_one_answer() -> None:
    with Comparer() as comparer:
        assert comparer.equal("0.5", r"\frac{1}{2}") is Outcome.RIGHT
        assert comparer._child is not None
        comparer._child._process.kill()
        assert comparer.equal("0.5", r"\frac{2}{4}") is Outcome.UNDECIDED
        assert comparer.equal("0.5", r"\frac{3}{6}") is Outcome.RIGHT


@pytest.mark.parametrize("text", ["", "-", "1,00", "1e5", "٣", "1/2", "0x1", "1 2", "."])
def test_only_plain_numbers_are_compared_without_the_library(text: str) -> None:
    assert number(text) is None
