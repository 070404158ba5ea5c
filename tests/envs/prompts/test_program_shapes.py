"""Tests as published sets give them, and everything that is not one of these."""

from __future__ import annotations

import base64
import json
import pickle
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envs.prompts.program_shapes import tests_in as found_in
from envs.prompts.program_tests import CallTest, ScriptTest

STDIN = [{"input": "1\n", "output": "2\n", "testtype": "stdin"}]
CALLS = [{"input": "[1, 2]\n3", "output": "true", "testtype": "functional"}]


def packed(value: object) -> str:
    return base64.b64encode(zlib.compress(pickle.dumps(value))).decode()


class Harmful:
    def __reduce__(self) -> tuple[Any, ...]:
        return (pytest.fail, ("a pickle was trusted",))


@pytest.mark.parametrize(
    ("row", "tests"),
    [
        ({"tests": ["assert f(1)"]}, ["assert f(1)"]),
        ({"tests": '["assert f(1)"]'}, ["assert f(1)"]),
        ({"test_list": ["assert f(1)"], "test_setup_code": "x = 1"}, ["x = 1", "assert f(1)"]),
        ({"test_list": ["assert f(1)"], "test_setup_code": ""}, ["assert f(1)"]),
        (
            {"test": "def check(c):\n    assert c(1)\n", "entry_point": "f"},
            ["def check(c):\n    assert c(1)\n\ncheck(f)"],
        ),
        (
            {"public_test_cases": json.dumps(STDIN), "private_test_cases": packed(json.dumps(STDIN))},
            [ScriptTest("1\n", "2\n")] * 2,
        ),
        ({"public_test_cases": json.dumps(STDIN), "private_test_cases": ""}, [ScriptTest("1\n", "2\n")]),
        ({"public_test_cases": STDIN, "private_test_cases": json.dumps(STDIN)}, [ScriptTest("1\n", "2\n")] * 2),
        (
            {"public_test_cases": json.dumps(CALLS), "metadata": '{"func_name": "f"}'},
            [CallTest("f", [[1, 2], 3], [True])],
        ),
        (
            {"public_test_cases": CALLS, "starter_code": "class Solution:\n    def f(self, a):\n        "},
            [CallTest("f", [[1, 2], 3], [True])],
        ),
        ({"input_output": '{"inputs": ["1\\n"], "outputs": ["2\\n"]}'}, [ScriptTest("1\n", "2\n")]),
        ({"input_output": {"inputs": [["1", "2"]], "outputs": [["3"]]}}, [ScriptTest("1\n2\n", "3\n")]),
        (
            {"input_output": {"fn_name": "f", "inputs": [[1], [2]], "outputs": [3, [4]]}},
            [CallTest("f", [1], [3]), CallTest("f", [2], [[4]])],
        ),
        ({"input_output": {"fn_name": "f", "inputs": [[1]], "outputs": [[3]]}}, [CallTest("f", [1], [[3], 3])]),
        (
            {"input_output": {"fn_name": "f", "inputs": [[{"1": 2}]], "outputs": [{"a": 1}]}},
            [CallTest("f", [{"dict": [[1, 2]]}], [{"dict": [["a", 1]]}])],
        ),
        (
            {"public_tests": {"input": ["1"], "output": ["2"]}, "private_tests": {"input": [], "output": []}},
            [ScriptTest("1", "2")],
        ),
        ({"tests": [{"input": "1", "output": "2"}]}, [ScriptTest("1", "2")]),
        ({"tests": None, "test_list": ["assert f(1)"]}, ["assert f(1)"]),
    ],
)
def test_published_shapes_are_read_as_they_are(row: dict[str, Any], tests: list[Any]) -> None:
    assert found_in(row, "tests") == tests


def test_a_mapped_column_goes_first_and_a_tolerance_reaches_every_test() -> None:
    row = {"mine": STDIN, "input_output": "{}"}
    assert found_in(row, "mine", 0.5) == [ScriptTest("1\n", "2\n", 0.5)]
    calls = {"fn_name": "f", "inputs": [[1]], "outputs": [2]}
    assert found_in({"input_output": calls}, "tests", 0.5) == [CallTest("f", [1], [2], 0.5)]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({}, "nothing.*public_test_cases"),
        ({"tests": []}, "list of tests"),
        ({"tests": "assert True"}, "list of tests, or one as a JSON string"),
        ({"tests": [1]}, "list of tests"),
        ({"tests": 5}, "list of tests.*found 5"),
        ({"tests": ["assert True", {"input": "", "output": ""}]}, "list of tests"),
        ({"tests": [{"input": "1"}]}, "known form.*output"),
        ({"tests": [{"input": 1, "output": "2"}]}, "as text, found 1"),
        ({"public_test_cases": CALLS}, "metadata, fn_name nor starter_code"),
        ({"public_test_cases": CALLS, "metadata": '{"func_name": "f()"}'}, "name a function"),
        ({"public_test_cases": [*CALLS, *STDIN], "fn_name": "f"}, "several kinds"),
        ({"input_output": {"inputs": ["1"], "outputs": []}}, "as many outputs as inputs"),
        ({"input_output": {"inputs": "1", "outputs": "2"}}, "two lists"),
        ({"input_output": {"fn_name": "f", "inputs": [1], "outputs": [2]}}, "arguments of f as lists"),
        ({"input_output": {"inputs": []}}, "known form"),
        ({"private_test_cases": packed(Harmful())}, "asks for"),
        ({"private_test_cases": packed([1])}, "pickle of a list"),
        ({"private_test_cases": packed("no JSON")}, "known form"),
        ({"private_test_cases": packed(json.dumps(STDIN))[:-9]}, "tests"),
        ({"private_test_cases": "AAAA"}, "JSON string"),
        ({"private_test_cases": "é"}, "JSON string"),
    ],
)
def test_anything_else_is_refused_with_its_column(row: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=rf"(?s)^field '\w+' .*{message}"):
        found_in(row, "tests")


def test_a_packed_bomb_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("envs.prompts.program_shapes._MOST_BYTES", 1000)
    with pytest.raises(ValueError, match="at most 1000 bytes"):
        found_in({"private_test_cases": packed("x" * 100_000)}, "tests")


ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=8)
    | st.binary(max_size=20).map(lambda b: base64.b64encode(b).decode()),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["inputs", "outputs", "input", "output", "fn_name", "testtype"]), inner, max_size=4
        )
    ),
    max_leaves=8,
)


@given(
    ANYTHING, st.sampled_from(["tests", "input_output", "private_test_cases", "test", "public_tests"]), st.booleans()
)
def test_whatever_the_column_holds_the_answer_is_tests_or_one_clear_error(
    value: Any, column: str, as_text: bool
) -> None:
    try:
        tests = found_in({column: json.dumps(value) if as_text else value, "entry_point": "f"}, "tests")
    except ValueError as error:
        assert str(error).startswith("field '")
    else:
        assert tests
