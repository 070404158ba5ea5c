from __future__ import annotations

import pytest

from envs.prompts.normalise import compared
from envs.prompts.program_form import with_form, without_form


@pytest.mark.parametrize(
    ("starter", "function", "said"),
    [
        (None, "", ""),
        ("", "", "reads standard input and writes standard output."),
        ("def f(x):", "", "```python\ndef f(x):\n```"),
        ("def f(x):", "f", "```python\ndef f(x):\n```"),
        (None, "f", "a function with the name `f`."),
    ],
)
def test_a_question_says_what_it_wants_and_is_compared_without(starter: str | None, function: str, said: str) -> None:
    text = "Double x, which is at least 3."
    shown = with_form(text, starter=starter, function=function)
    assert shown.startswith(text) and shown.endswith(said)
    assert without_form(shown) == text and compared(shown) == compared(text)


def test_a_question_without_a_form_stays_as_it_is() -> None:
    for text in ("Write a function with the name f.", "```python\nx\n```", ""):
        assert without_form(text) == text
