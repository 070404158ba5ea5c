"""The firewall finds every copy of a held-out problem and leaves its siblings alone."""

from __future__ import annotations

import json
import re
import string
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from envs.problems import arithmetic
from envs.prompts import LeakIndex, LeakRule, content_id
from svd_loop.config.data import LeakSection
from svd_loop.contracts import Domain, Problem

SAMPLE = Path(__file__).parents[2] / "data" / "gsm8k_sample.jsonl"
GSM8K = Path(__file__).parents[4] / "shared" / "data" / "gsm8k"
CONTEXT = "Read the exercise 7 below - it is 100% real + checked, (a/b) = 2 - and solve it step by step in 3 minutes. "

DISGUISES: dict[str, Callable[[str], str]] = {
    "verbatim": lambda text: text,
    "upper case": str.upper,
    "wide spaces": lambda text: text.replace(" ", " \t\n\u00a0"),
    "invisible characters": lambda text: text.replace(" ", "\u200b \ufeff"),
    "no spaces": lambda text: text.replace(" ", ""),
    "spaces around punctuation": lambda text: re.sub(r"([^\w\s])", r" \1 ", text),
    "punctuation deleted": lambda text: text.translate(str.maketrans("", "", string.punctuation)),
    "punctuation as spaces": lambda text: text.translate(str.maketrans(dict.fromkeys(string.punctuation, " "))),
    "punctuation exchanged": lambda text: text.replace(".", " ;").replace(",", "...").replace("?", "!!"),
    "full width": lambda text: "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in text),
}


def questions(file: Path) -> list[str]:
    return [json.loads(line)["question"] for line in file.read_text(encoding="utf-8").splitlines()]


def problems(texts: list[str]) -> list[Problem]:
    return [
        Problem(content_id(text, Domain.MATH), text, Domain.MATH, "0", source=f"held:{n}")
        for n, text in enumerate(texts)
    ]


def index(*texts: str, **settings: object) -> LeakIndex:
    return LeakIndex(problems(list(texts)), LeakSection.model_validate(settings))


@cache
def cached_index(texts: tuple[str, ...]) -> LeakIndex:
    return index(*texts)


def missed(held_out: list[str], disguise: Callable[[str], str]) -> list[str]:
    finder = cached_index(tuple(held_out))
    return [
        planted
        for number, text in enumerate(held_out)
        for planted in (disguise(text), CONTEXT + disguise(text) + " Thanks in advance, 42 times.")
        if f"held:{number}" not in {leak.problem_source for leak in finder.find(planted)}
    ]


@pytest.mark.parametrize("disguise", DISGUISES.values(), ids=DISGUISES)
def test_planted_problems_are_all_found(disguise: Callable[[str], str]) -> None:
    assert missed(questions(SAMPLE), disguise) == []


@pytest.mark.slow
@pytest.mark.skipif(not GSM8K.exists(), reason="GSM8K does not lie beside the checkout")
@pytest.mark.parametrize("disguise", DISGUISES.values(), ids=DISGUISES)
def test_the_whole_test_set_of_gsm8k_is_found(disguise: Callable[[str], str]) -> None:
    assert missed(questions(GSM8K / "test.jsonl"), disguise) == []


@pytest.mark.slow
@pytest.mark.skipif(not GSM8K.exists(), reason="GSM8K does not lie beside the checkout")
def test_gsm8k_training_questions_are_not_accused() -> None:
    finder = cached_index(tuple(questions(GSM8K / "test.jsonl")))
    accused = [leak for text in questions(GSM8K / "train.jsonl") for leak in finder.find(text)]
    assert accused == []


def test_rules_and_scores() -> None:
    problem = questions(SAMPLE)[0]
    finder = index(problem)
    reworded = problem.replace("daily", "weekly")
    found = {leak.rule: leak.score for text in (problem, CONTEXT + problem) for leak in finder.find(text)}
    assert found == {LeakRule.EXACT: 1.0, LeakRule.CONTAINMENT: 1.0}
    (partly,) = finder.find(reworded)
    assert partly.rule is LeakRule.CONTAINMENT
    assert 0.8 <= partly.score < 1.0
    (by_words,) = index(problem, ngram=0).find(reworded)
    assert by_words.rule is LeakRule.MINHASH
    assert 0.8 <= by_words.score < 1.0


def test_each_rule_can_be_off() -> None:
    problem = questions(SAMPLE)[0]
    assert index(problem, ngram=0, minhash=0).find(CONTEXT + problem) == []
    assert index(problem, ngram=0, minhash=0).find(problem.upper()) != []


@pytest.mark.parametrize(
    ("problem", "text", "leaks"),
    [
        ("What is 3 + 4?", "what is 3+4", True),
        ("What is 3 + 4?", "What is 3 * 4?", False),
        ("What is 3 + 4?", "What is 3 + 4 + 5?", False),
        ("Solve 7x+12=75 for the integer x.", "Please solve 7x + 12 = 75 for the integer x, quickly.", True),
        ("Solve 7x+12=75 for the integer x.", "Please solve 17x + 12 = 75 for the integer x, quickly.", False),
        ("Write a function f(x) that returns x + 744.", "Write a function f(x) that returns x + 7446.", False),
        ("Ann has 12 red and 30 blue marbles in 2 bags.", "Ann has 13 red and 30 blue marbles in 2 bags.", False),
        ("???", "???", True),
        ("???", "!", False),
    ],
)
def test_short_problems(problem: str, text: str, leaks: bool) -> None:
    assert bool(index(problem).find(text)) is leaks


def test_numbers_can_be_told_not_to_matter() -> None:
    problem = questions(SAMPLE)[0]
    other = problem.replace("16", "17")
    assert index(problem).find(other) == []
    assert index(problem, numbers_matter=False).find(other) != []


def test_generated_splits_do_not_leak() -> None:
    finder = LeakIndex(arithmetic.generate("development", 100, 0), LeakSection())
    assert [leak for problem in arithmetic.generate("train", 300, 0) for leak in finder.find(problem.text)] == []


def test_completions_are_checked_by_name() -> None:
    problem = questions(SAMPLE)[1]
    finder = index(problem)
    assert finder.find("The sum is 4.", source="round 1, prompt a") == []
    (leak,) = finder.find(f"Recall: {problem}", source="round 1, prompt b")
    assert (leak.source, leak.problem_source) == ("round 1, prompt b", "held:0")
    assert str(leak) == "round 1, prompt b holds held:0 (containment, 1.00)"


def test_nothing_held_out_nothing_found() -> None:
    assert index().find("What is 3 + 4?") == []
