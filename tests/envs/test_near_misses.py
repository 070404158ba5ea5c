from __future__ import annotations

import re
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envs.canaries import CanaryKind, plant
from envs.near_misses import near_miss
from svd_loop.contracts import Candidate
from tests.envs.judges import prompt

EQUATION = re.compile(r"(\d+(?:\.\d+)?)([-+*/])(\d+(?:\.\d+)?)=(\d+(?:\.\d+)?)")
WORKED = "Rest: 89-33=56. So x: 56/7=8. Twice that: 8*2=16.\n#### 16"


def wrong_equations(text: str) -> int:
    operations = {"+": float.__add__, "-": float.__sub__, "*": float.__mul__, "/": float.__truediv__}
    found = EQUATION.findall(text)
    return sum(abs(operations[op](float(a), float(b)) - float(c)) > 0.005 for a, op, b, c in found)


def final(text: str) -> str:
    return text.rpartition("#### ")[2]


@given(st.integers(0, 10_000))
def test_one_step_is_changed_and_the_rest_follows_from_it(seed: int) -> None:
    text = near_miss(WORKED, Random(seed))
    assert text is not None
    assert final(text) != "16" and final(text) == EQUATION.findall(text)[-1][3]
    assert wrong_equations(text) <= 1  # none where a value or an operator was changed, one for a slip
    assert re.sub(r"[\d.+*/-]", "", text) == re.sub(r"[\d.+*/-]", "", WORKED)


def test_the_same_draw_gives_the_same_text() -> None:
    assert near_miss(WORKED, Random(3)) == near_miss(WORKED, Random(3))
    assert len({near_miss(WORKED, Random(seed)) for seed in range(20)}) > 5


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("def f(xs):\n    return [n for n in xs if n<2]", "def f(xs):\n    return [n for n in xs if n>2]"),
        ("The band is small.", None),
        ("So all metals expand, for all metals are alike.", "So some metals expand, for some metals are alike."),
        ("", None),
    ],
)
def test_without_arithmetic_a_word_is_changed_throughout(text: str, expected: str | None) -> None:
    assert near_miss(text, Random(0)) == expected


def test_another_option_is_chosen() -> None:
    text = near_miss("Charge: 5*3=15.\n#### D", Random(0))
    assert text is not None and final(text) in "ABC"


def test_a_value_that_does_not_come_out_even_is_left() -> None:
    texts = {near_miss("All: 7*9=63. Each: 63/7=9.\n#### 9", Random(seed)) for seed in range(50)}
    assert all(text and final(text) != "9" for text in texts)


@pytest.mark.parametrize("text", ["x" * 20_000, "1 " * 20_000, "1+1=2. " * 3_000, "-" * 20_000])
def test_long_texts_are_no_problem(text: str) -> None:
    near_miss(text, Random(0))


def test_they_are_planted_on_request_only() -> None:
    solved = [(prompt(0), Candidate("p0", 0, f"<think>1+1=2</think>{WORKED}"))]
    assert CanaryKind.NEAR_MISS not in {one.kind for one in plant(solved, per_kind=2, seed=0, round=1)}
    [one] = plant(solved, per_kind=1, seed=0, round=1, kinds=[CanaryKind.NEAR_MISS])
    assert one.kind is CanaryKind.NEAR_MISS and "think" not in one.candidate.text
