from __future__ import annotations

import pytest

from envs.prompts.program_tests import CallTest, ProgramTest, ScriptTest, from_text, to_text


@pytest.mark.parametrize(
    "test",
    [ScriptTest("1\n", "2\n"), ScriptTest("", "", 0.1), CallTest("f", [1, {"dict": [[1, 2]]}], [3]), "assert f(1)"],
)
def test_a_test_survives_as_text(test: ProgramTest) -> None:
    assert from_text(to_text(test)) == test


@pytest.mark.parametrize(
    ("expected", "given", "tolerance", "same"),
    [
        ("1 2\n3\n", "1 2\n3\n", None, True),
        ("1 2\n3\n", "1 2  \n3", None, True),
        ("1 2\n3\n", "1   2\r\n3\n\n\n", None, True),
        ("1 2\n3\n", "1 2 3\n", None, False),
        ("1 2\n3\n", "1 2\n\n3\n", None, False),
        ("1 2", "1 3", None, False),
        ("YES", "Yes", None, False),
        ("0011", "11", None, False),
        ("1.0", "1", None, False),
        ("1.0", "1", 0.0, True),
        ("0.333333", "0.3333331", 1e-6, True),
        ("0.333333", "0.3334", 1e-6, False),
        ("1e9", "1000000001", 1e-6, True),
        ("x 0.5", "x 0.5000001", 1e-6, True),
        ("x 0.5", "y 0.5", 1e-6, False),
        ("0.5", "nan", 1e-6, False),
        ("0.5", "inf", 1e-6, False),
        ("inf", "inf", 1e-6, True),
        ("691356", "\u0666\u0669\u0661\u0663\u0665\u0666", 1e-6, False),  # the same digits in another script
        ("691356", "691_356", 1e-6, False),
        ("691356", "+6.91356e5", 1e-6, True),
        ("inf", "0", 1e-6, False),
        ("1 2", "1", 1e-6, False),
        ("", "", None, True),
        ("", "\n", None, True),
        ("", "1", None, False),
    ],
)
def test_outputs_are_compared_by_lines_of_words(expected: str, given: str, tolerance: float | None, same: bool) -> None:
    assert ScriptTest("", expected, tolerance).passed_by(given) is same
