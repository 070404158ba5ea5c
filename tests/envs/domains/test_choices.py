"""Multiple choice: D1 is how questions list options, D2 how answers mean one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envs.domains import domain_of
from envs.domains.choices import options_of
from svd_loop.contracts import Domain, Outcome, Problem

TEXTS = ("carbon monoxide", "Carbon dioxide", "water", "neon")


def listed(form: str, separator: str = "\n", labels: str = "ABCD") -> str:
    return separator.join(form.format(label) + " " + text for label, text in zip(labels, TEXTS, strict=True))


D1_QUESTIONS = {
    "stray vitamin": "Scurvy follows from a lack of vitamin C. What is seen?\n" + listed("{}."),
    "stray compound": "Compound A: it is heated at 25 C. Which gas?\n" + listed("{})"),
    "stray plan": "Plan A. fails. Plan B. works. Which?\n" + listed("{}."),
    "bold": "Which?\n" + listed("**{}.**"),
    "brackets": "Which? " + listed("[{}]", " "),
    "small": "Which?\n" + listed("{})", labels="abcd"),
    "dash": "Which?\n" + listed("{} -"),
    "colon": "Which?\n" + listed("{}:"),
    "inline": "Which? " + listed("({})", ", "),
    "LaTeX": "Which? " + listed(r"$\textbf{{({})}}\ $", r" $\qquad"),
    "text": "Which?\n" + listed(r"\text{{({})}}"),
    "list": "Which?\n" + listed("- {})"),
    "and an instruction": "Which?\n" + listed("{}.") + "\n\nAnswer with the letter.",
}
D2_ANSWERS = (
    *("B", "(B)", "B.", "b", "B)", "[B]", "**B**", "`B`", r"\(B\)", r"\text{B}", r"\textbf{(B)}", "Option (B)"),
    *("B, since it burns", "B - Carbon dioxide", "B (Carbon dioxide)", "B: Carbon dioxide", "B. Carbon dioxide"),
    *("B because of it", "The correct answer is B", "Carbon dioxide", "carbon dioxide"),
)
OTHERS = (
    "A",
    "C) Carbon dioxide",
    "B) water",
    "water",
    "A or B",
    "B or C",
    "E",
    "Boron",
    "B and C",
    "(B) or (C)",
    "A dog",
)


def score(solution: str, question: str, gold: str = "B") -> Outcome:
    return domain_of(Domain.SCIENCE).score(solution, Problem("p", question, Domain.SCIENCE, gold))


@pytest.mark.parametrize("question", D1_QUESTIONS.values(), ids=D1_QUESTIONS)
def test_options_are_found_in_every_form_and_answers_in_theirs(question: str) -> None:
    assert list(options_of(question).values()) == list(TEXTS)
    for gold in ("B", "(B)", "Carbon dioxide"):
        assert [a for a in D2_ANSWERS if score(rf"\boxed{{{a}}}", question, gold) is not Outcome.RIGHT] == []
    assert [a for a in OTHERS if score(rf"\boxed{{{a}}}", question) is not Outcome.WRONG] == []


@pytest.mark.parametrize(
    "solution",
    [
        "The answer is B, because it burns.",
        "Answer: B (Carbon dioxide)",
        "The answer is B. Since the others are gases,",
        "**Answer:** B) Carbon dioxide",
        "The correct option is **B**.",
    ],
)
def test_sentences_mean_an_option(solution: str) -> None:
    assert score(solution, "Which?\n" + listed("{}.")) is Outcome.RIGHT


def test_options_by_number_and_beyond_j() -> None:
    assert options_of("Which?\n1) red\n2) blue\n3) green") == {"1": "red", "2": "blue", "3": "green"}
    many = "Which?\n" + "\n".join(f"{chr(65 + place)}. shade {place}" for place in range(14))
    assert options_of(many)["N"] == "shade 13"
    assert score(r"\boxed{N}", many, "N") is Outcome.RIGHT


def test_what_lists_no_options() -> None:
    for question in ("Vitamin C. Plan B: no", "A) only one", "At 25 C. What is it?", "Step 1. heat. Step 2. cool."):
        assert options_of(question) == {}


def test_options_of_one_text_name_none() -> None:
    question = "Which? A) red B) red C) blue"
    assert score(r"\boxed{red}", question, "A") is Outcome.WRONG and score(r"\boxed{A}", question, "A") is Outcome.RIGHT


@given(st.text(alphabet="ABCab12).:([] \n-*$\\", max_size=80))
def test_any_question_is_survived(question: str) -> None:
    assert len(options_of(question)) != 1
