"""Simple problems that a script can solve, for trying the loop without a model.

The scripted policy (`policies.scripted`) finds these questions in the rendered prompt of any template and
computes their answers, so held-out scores, verdicts and improvement are real numbers although there are no weights.
One form of question per domain is enough for that; `envs.problems.nano` has difficulty levels and variety.
"""

from __future__ import annotations

import hashlib
import operator
from collections.abc import Callable, Iterator
from random import Random
from typing import Literal

from svd_loop.contracts import BUILT_IN_DOMAINS, Domain, DomainName, Problem
from svd_loop.errors import DataError

Split = Literal["train", "development", "test"]

_OPERATIONS: dict[str, Callable[[int, int], int]] = {"+": operator.add, "-": operator.sub, "*": operator.mul}
_SMALLEST, _LARGEST = 2, 9_999
_TEST_INPUTS = (0, 3, 17, -8)
_MAX_REJECTIONS = 10_000


def generate(split: Split, count_per_domain: int, seed: int) -> list[Problem]:
    """Draw different problems, `count_per_domain` of each domain in turn (math, science, coding).

    The split of a problem is a hash of its text, so splits are disjoint whatever the seeds. Every split of every
    domain holds more than five thousand problems.

    Args:
        split: Which share of all problems to draw from.
        count_per_domain: Problems per domain.
        seed: The same seed gives the same problems.

    Raises:
        DataError: A split holds fewer different problems than asked for.
    """
    return [problem for domain in BUILT_IN_DOMAINS for problem in _draw_domain(domain, split, count_per_domain, seed)]


def split_of(text: str) -> Split:
    """The split a question belongs to: three fifths train, one fifth each development and test."""
    bucket = int.from_bytes(hashlib.sha256(f"split/{text}".encode()).digest()[:4], "big") % 5
    return "development" if bucket == 3 else "test" if bucket == 4 else "train"


def _draw_domain(domain: DomainName, split: Split, count: int, seed: int) -> list[Problem]:
    problems: dict[str, Problem] = {}
    rejections = 0
    for problem in _draw_forever(domain, Random(f"{domain}/{split}/{seed}")):
        if len(problems) >= count:
            break
        if problem.text not in problems and split_of(problem.text) == split:
            problems[problem.text] = problem
            rejections = 0
            continue
        rejections += 1
        if rejections > _MAX_REJECTIONS:
            held = f"{domain}/{split} holds about {len(problems)} problems"
            raise DataError(f"data source arithmetic: {held}, {count} asked for; lower its count")
    return list(problems.values())


def _draw_forever(domain: DomainName, rng: Random) -> Iterator[Problem]:
    make = {Domain.MATH: _math, Domain.SCIENCE: _science, Domain.CODING: _coding}[domain]
    while True:
        yield make(rng.randint(_SMALLEST, _LARGEST), rng.choice("+-*"), rng.randint(_SMALLEST, _LARGEST))


def _math(left: int, sign: str, right: int) -> Problem:
    text = f"What is {left} {sign} {right}?"
    return Problem(_id(text), text, Domain.MATH, answer=str(_OPERATIONS[sign](left, right)))


def _science(left: int, _sign: str, right: int) -> Problem:
    text = f"A rope of {left} m is tied to one of {right} m. How long is the whole in m?"
    return Problem(_id(text), text, Domain.SCIENCE, answer=f"{left + right} m")


def _coding(_left: int, sign: str, right: int) -> Problem:
    text = f"Write a Python function f(x) that returns x {sign} {right}."
    tests = tuple(f"assert f({x}) == {_OPERATIONS[sign](x, right)}" for x in _TEST_INPUTS)
    return Problem(_id(text), text, Domain.CODING, tests=tests)


def _id(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
