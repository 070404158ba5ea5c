"""Shared definitions of the nano problems: families, plans and the problems drawn from them.

Every family is a short chain of integer steps written as *data* (a plan), not as code.  This has two benefits: the
same plan renders a worked solution and lets a checker recompute it, and a tiny model sees one kind of arithmetic
in all three domains.  Two plans belong to a family:

- ``derive`` starts from what the question gives and ends at the answer;
- ``leap`` starts from the answer and works back to one of the given numbers, a certificate for a guess.

Left out on purpose: fractions, negative numbers and free text, which a model of a million parameters cannot learn
in twenty minutes on two cores.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random
from typing import Literal, get_args

Domain = Literal["math", "science", "coding"]
Split = Literal["posttrain", "train", "development", "test"]

DOMAINS: tuple[Domain, ...] = get_args(Domain)
SPLITS: tuple[Split, ...] = get_args(Split)
LETTERS = "ABCD"

_SPLIT_SHARES: tuple[tuple[Split, int], ...] = (("posttrain", 60), ("train", 16), ("development", 12), ("test", 12))


@dataclass(frozen=True, slots=True)
class NanoProblem:
    """One problem, without the structure it was made from.

    Attributes:
        id: hash of the question, so the same question has the same id whatever drew it.
        domain: math, science or coding.
        family: name of the family that drew it.
        level: 1 (small numbers) to 4 (larger than anything trained on).
        question: what the solver reads.
        answer: gold: a number, a number with its unit, an option letter, or a reference program.
        tests: for coding, assert lines on a function ``f``; empty otherwise.
    """

    id: str
    domain: Domain
    family: str
    level: int
    question: str
    answer: str
    tests: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PlanStep:
    """One arithmetic step of a plan.

    ``left`` and ``right`` name a given, ``"ans"``, a constant such as ``"2"``, or ``"#i"`` for the result of step i.
    """

    label: str
    left: str
    op: str
    right: str


@dataclass(frozen=True, slots=True)
class Family:
    """A kind of problem: how it is drawn, asked, solved and checked.

    Attributes:
        topic: the word a comparer names first, telling this family from the others.
        phrasings: question formats over the givens and the words; the first one is canonical.
        derive: plan from the givens to the answer.
        leap: plan from the answer back to ``target``.
        target: the given at which the leap's certificate must end.
        draw: numbers for a level; must leave every step of ``derive`` a positive whole number.
        words: choices that are not numbers, by name.
        unit: unit of the answer, empty for none.
        code: for coding, the function's expression over givens, words and ``ans``.
        argument: for coding, the name of the function's argument.
    """

    name: str
    domain: Domain
    topic: str
    phrasings: tuple[str, ...]
    derive: tuple[PlanStep, ...]
    leap: tuple[PlanStep, ...]
    target: str
    draw: Callable[[Random, int], dict[str, int]]
    words: Mapping[str, tuple[str, ...]]
    unit: str = ""
    code: Mapping[str, str] | None = None
    argument: str = "x"


@dataclass(frozen=True, slots=True)
class Task:
    """A drawn problem with the structure that solutions and checks are built from."""

    family: Family
    level: int
    givens: Mapping[str, int]
    words: Mapping[str, str]
    phrasing: int
    options: tuple[int, ...]
    ans: int

    @property
    def key(self) -> str:
        """Canonical identity: paraphrases and shuffled options of one problem share it, and so share a split."""
        numbers = ",".join(f"{name}={value}" for name, value in sorted(self.givens.items()))
        words = ",".join(f"{name}={value}" for name, value in sorted(self.words.items()))
        return f"{self.family.name}|{numbers}|{words}"

    @property
    def split(self) -> Split:
        """The one split this problem can ever belong to."""
        return split_of(self.key)

    @property
    def question(self) -> str:
        """The question as asked."""
        return self.ask(self.phrasing, self.givens) + self._options_text()

    @property
    def canonical_question(self) -> str:
        """The question in the family's first phrasing, without options: what a question inferrer writes."""
        return self.ask(0, self.givens)

    def ask(self, phrasing: int, givens: Mapping[str, int]) -> str:
        """Fill one phrasing with numbers."""
        return self.family.phrasings[phrasing].format(**givens, **self.words)

    def ans_with_unit(self, ans: int) -> str:
        """A number with the family's unit, if it has one."""
        return f"{ans} {self.family.unit}" if self.family.unit else str(ans)

    def without_options(self) -> Task:
        """The same question asked for its number instead of a choice."""
        return Task(self.family, self.level, self.givens, self.words, self.phrasing, (), self.ans)

    def replace(self, givens: Mapping[str, int], words: Mapping[str, str]) -> Task:
        """A task of the same family with other numbers or words; ValueError if it has no integer answer."""
        ans = answer_of(self.family, givens)
        if self.options and ans not in self.options:
            raise ValueError(f"{ans} is not among the options {self.options}")
        return Task(self.family, self.level, givens, words, self.phrasing, self.options, ans)

    def final(self, ans: int) -> str:
        """The final answer's text if the answer were ``ans``: boxed content, or the function's expression."""
        if self.family.code is not None:
            variant = "/".join(self.words.values())
            return self.family.code[variant].format(ans=ans, **self.givens)
        if self.options:
            return LETTERS[self.options.index(ans)]
        return self.ans_with_unit(ans)

    def _options_text(self) -> str:
        if not self.options:
            return ""
        return "".join(f" {value} ({letter})" for letter, value in zip(LETTERS, self.options, strict=True))


def split_of(key: str) -> Split:
    """Map a canonical key to its split with a stable hash, so that splits cannot overlap."""
    slot = int(hashlib.sha256(key.encode()).hexdigest()[:8], 16) % 100
    for split, share in _SPLIT_SHARES:
        if slot < share:
            return split
        slot -= share
    raise AssertionError("split shares must add to 100")


def program(expression: str, argument: str) -> str:
    """A complete Python function ``f`` around one expression."""
    return f"def f({argument}):\n    return {expression}"


def compute(left: int, op: str, right: int) -> int | None:
    """The step's true result, or None where it is not a whole number or is negative."""
    if op == "+":
        return left + right
    if op == "-":
        return left - right if left >= right else None
    if op == "*":
        return left * right
    if right == 0 or left % right:
        return None
    return left // right


def resolve(ref: str, numbers: Mapping[str, int], results: list[int]) -> int:
    """The value of a plan's reference."""
    if ref.startswith("#"):
        return results[int(ref[1:])]
    return int(ref) if ref.isdigit() else numbers[ref]


def answer_of(family: Family, givens: Mapping[str, int]) -> int:
    """Follow the derive plan to the answer."""
    results: list[int] = []
    for step in family.derive:
        value = compute(resolve(step.left, givens, results), step.op, resolve(step.right, givens, results))
        if value is None:
            raise ValueError(f"{family.name} drew {dict(givens)}, which has no whole answer")
        results.append(value)
    return results[-1]


def factor(rng: Random, level: int) -> int:
    """A factor for the level: up to 8, 10, 12, and 15 beyond training."""
    return rng.randint(2, (8, 10, 12, 15)[level - 1])


def addend(rng: Random, level: int) -> int:
    """An addend for the level: up to 25, 50, 80, and 150 beyond training."""
    return rng.randint(2, (25, 50, 80, 150)[level - 1])
