from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envs.problems.arithmetic import Split, generate, split_of
from svd_loop.contracts import BUILT_IN_DOMAINS, Domain
from svd_loop.errors import DataError

SPLITS: tuple[Split, ...] = ("train", "development", "test")


def test_the_same_seed_gives_the_same_problems_and_another_seed_others() -> None:
    assert generate("train", 20, seed=1) == generate("train", 20, seed=1)
    assert generate("train", 20, seed=1) != generate("train", 20, seed=2)


@pytest.mark.parametrize("split", SPLITS)
def test_every_split_holds_thousands_of_different_problems_per_domain(split: Split) -> None:
    problems = generate(split, 4000, seed=0)
    assert len({problem.text for problem in problems}) == len({problem.id for problem in problems}) == 12_000
    assert Counter(problem.domain for problem in problems) == dict.fromkeys(BUILT_IN_DOMAINS, 4000)


@settings(max_examples=20, deadline=None)
@given(seeds=st.tuples(st.integers(0, 99), st.integers(0, 99)))
def test_splits_never_share_a_problem_whatever_the_seeds(seeds: tuple[int, int]) -> None:
    train, held_out = generate("train", 50, seeds[0]), generate("test", 50, seeds[1])
    assert {split_of(problem.text) for problem in train} == {"train"}
    assert not {problem.text for problem in train} & {problem.text for problem in held_out}


def test_gold_is_right_in_every_domain() -> None:
    for problem in generate("development", 100, seed=3):
        if problem.domain == Domain.MATH:
            assert eval(problem.text.removeprefix("What is ").removesuffix("?")) == int(problem.answer)
        elif problem.domain == Domain.SCIENCE:
            words = problem.text.split()  # A rope of 12 m is tied to one of 30 m. ...
            assert f"{int(words[3]) + int(words[10])} m" == problem.answer
        else:
            body = problem.text.removeprefix("Write a Python function f(x) that returns ").removesuffix(".")
            for line in problem.tests:
                exec(line, {"f": eval(f"lambda x: {body}")})


def test_asking_for_more_than_there_is_says_so() -> None:
    with pytest.raises(DataError, match=r"coding/test holds about \d+ problems, 30000 asked for"):
        generate("test", 30_000, seed=0)
