from __future__ import annotations

import pytest

from envs.domains.library import Library
from envs.domains.math import same
from envs.domains.prose import said_number, sentence_words, words_of
from envs.domains.spelling import spelled


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Jane started growing Sphere 3 hours ago", "3 hours ago"),
        ("Tom has -3 dollars", "-3 dollars"),
        ("She paid $3.50", "$3.50"),
        ("Tom does not have 3", None),
        ("Tom doesn't have 3", None),
        ("Tom has half of 3", None),
        ("Tom has 3 or 4", None),
        ("Tom has 3 and Ann has 4", None),
        ("it takes 3 more", None),
        ("3 hours", None),
        ("cost 3", None),
    ],
)
def test_a_sentence_says_its_only_number_unless_a_word_changes_it(text: str, said: str | None) -> None:
    assert said_number(text) == said


def test_what_holds_words() -> None:
    assert words_of(r"\text{ the north }") == "the north" and words_of("3 m") == "" and words_of("i") == ""
    assert sentence_words("not 9.75€") == ["not"]
    assert sentence_words(r"\text{the number} 5") == ["the", "number"]
    assert sentence_words(r"\sin x + ab") == [] and sentence_words(r"\begin{pmatrix}1\end{pmatrix}") == []


@pytest.mark.parametrize(
    "words", ["not", "at least", "less than", "either 3 or", "I doubt", "doubt", "is it not", "his"]
)
def test_a_number_behind_words_that_change_it_does_not_equal_it(words: str) -> None:
    """Such text must not reach `math-verify`, which would search it for a number: the library is not started."""
    with Library() as library:
        assert not same("9.75", spelled(f"{words} 9.75€"), library)
        assert library._child is None
