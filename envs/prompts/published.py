"""The held-out sets that people measure on, in their published forms, as rows of our own.

One converter a set: the columns that a published row has, and the row that `data.development` and `data.test` read
(docs/guides/data.md). A column may have several names, since copies of a set differ. Left out: few-shot examples,
which no recipe here uses, and gold solutions, which nothing reads.
"""

from __future__ import annotations

import ast
import hashlib
import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from string import ascii_uppercase
from typing import Any

Values = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class PublishedSet:
    """A published set.

    Attributes:
        title: its name as published.
        domain: of all its problems.
        licence: of the data, as its publishers state it.
        home: where it is published.
        columns: all that a row of it may have and the converter reads.
        convert: one published row as `prompt`, `id` and gold (`answer`, or columns with tests), perhaps `level`; raises
            ValueError naming what is missing.
        files: matched against a file's path, to find the set in a folder or package that holds more than it.
        beside: matched against a file's path; such files are published beside the set and hold no problem of it:
            samples, few-shot examples, the same problems in another form.
        parts: matched against a file's name; files with different matches repeat each other's problems, so one has to
            be chosen.
    """

    title: str
    domain: str
    licence: str
    home: str
    columns: tuple[str, ...]
    convert: Callable[[Values], dict[str, Any]]
    files: str = ""
    beside: str = "(?!)"
    parts: str = "(?!)"


def _first(values: Values, *names: str) -> Any:
    """The first of the columns that has a value.

    Raises:
        ValueError: none has.
    """
    for name in names:
        if values.get(name) not in (None, ""):
            return values[name]
    raise ValueError(f"no field {' or '.join(repr(name) for name in names)}")


def _text(values: Values, *names: str) -> str:
    found = _first(values, *names)
    if not isinstance(found, str):
        raise ValueError(f"field {names[0]!r} must be text, found {type(found).__name__}")
    return found


def _some_id(values: Values, *names: str) -> dict[str, Any]:
    found = [values[name] for name in names if values.get(name) is not None]
    return {"id": str(found[0])} if found else {}


# ---------------------------------------------------------------------------------------- mathematics


def _gsm8k(values: Values) -> dict[str, Any]:
    _, marker, answer = _text(values, "answer").rpartition("####")
    if not marker or not answer.strip():
        raise ValueError("field 'answer' has no '####' before the final number")
    return {"prompt": _text(values, "question"), "answer": answer.strip().replace(",", "")}


def last_box(text: str) -> str | None:
    """The content of the last box (`boxed` or `fbox`), braces matched; None if there is none."""
    start = max(text.rfind("\\boxed{"), text.rfind("\\fbox{"))
    if start < 0:
        return None
    begin = text.index("{", start) + 1
    depth = 1
    for place in range(begin, len(text)):
        depth += {"{": 1, "}": -1}.get(text[place], 0)
        if depth == 0:
            return text[begin:place].strip() or None
    return None


def _math(values: Values) -> dict[str, Any]:
    answer = values.get("answer")
    if answer in (None, ""):
        answer = last_box(str(values.get("solution") or ""))
    if answer is None:
        raise ValueError("no field 'answer', nor a \\boxed{...} in 'solution'")
    row = {"prompt": _text(values, "problem"), "answer": str(answer), **_some_id(values, "unique_id")}
    if digits := re.search(r"[1-5]", str(values.get("level") or "")):
        row["level"] = int(digits[0])
    return row


def _aime(values: Values) -> dict[str, Any]:
    # Tables store whole numbers as 73.0 where a cell is empty, and some copies keep the degrees of an angle.
    answer = re.sub(r"\.0$|\^\{?\\circ\}?$", "", str(_first(values, "answer", "Answer")).strip())
    if not re.fullmatch(r"[0-9]{1,3}", answer):
        raise ValueError(f"field 'answer' must be a whole number from 0 to 999, found {answer[:40]!r}")
    row = {"prompt": _text(values, "problem", "Problem", "question", "Question"), "answer": str(int(answer))}
    return {**row, **_some_id(values, "id", "ID", "problem_idx")}


# ------------------------------------------------------------------------------------------- choices


def _with_options(question: str, options: Sequence[str]) -> str:
    lines = [f"({letter}) {option.strip()}" for letter, option in zip(ascii_uppercase, options, strict=False)]
    return "\n".join([question.strip(), "", *lines])


def _gpqa(values: Values) -> dict[str, Any]:
    question, right = _text(values, "Question"), _text(values, "Correct Answer").strip()
    options = [right, *(_text(values, f"Incorrect Answer {number}").strip() for number in (1, 2, 3))]
    # The published rows have no order. One by hash is the same in every copy of the set, and is no clue.
    options.sort(key=lambda option: hashlib.sha256(f"{question}\0{option}".encode()).digest())
    letter = ascii_uppercase[options.index(right)]
    return {"prompt": _with_options(question, options), "answer": letter, **_some_id(values, "Record ID")}


def _arc(values: Values) -> dict[str, Any]:
    question, choices = values.get("question"), values.get("choices")
    if isinstance(question, Mapping):  # the form of the original release
        choices, question = question.get("choices"), question.get("stem")
    if isinstance(choices, Mapping):
        labels, texts = choices.get("label"), choices.get("text")
    elif isinstance(choices, list) and all(isinstance(choice, Mapping) for choice in choices):
        labels, texts = ([choice.get(key) for choice in choices] for key in ("label", "text"))
    else:
        raise ValueError("field 'choices' must hold the labels and texts of the options")
    if not isinstance(question, str) or not labels or not texts or len(labels) != len(texts):
        raise ValueError("a question and as many labels as texts are needed in 'question' and 'choices'")
    key = _text(values, "answerKey").strip()
    if key not in labels:
        raise ValueError(f"field 'answerKey' is {key!r}, and the labels are {labels}")
    # Some questions number their options; letters are what the prompt shows.
    return {
        "prompt": _with_options(question, list(map(str, texts))),
        "answer": ascii_uppercase[list(labels).index(key)],
        **_some_id(values, "id"),
    }


# -------------------------------------------------------------------------------------------- coding


def _humaneval(values: Values) -> dict[str, Any]:
    row = {name: _text(values, name) for name in ("prompt", "entry_point", "test")}
    return {**row, **_some_id(values, "task_id")}


def _mbpp(values: Values) -> dict[str, Any]:
    tests = _first(values, "test_list")
    if not isinstance(tests, list) or not all(isinstance(test, str) for test in tests):
        raise ValueError("field 'test_list' must be a list of assertions")
    setup = "\n".join([*(values.get("test_imports") or ()), str(values.get("test_setup_code") or "")]).strip()
    row = {"prompt": _text(values, "text", "prompt"), "test_list": tests, **_some_id(values, "task_id")}
    if setup:
        row["test_setup_code"] = setup
    # The question does not name the function that its tests call. The signature alone says so: without it no program
    # could be right, and a test in the prompt would be gold.
    if signature := _signature(str(values.get("code") or ""), tests):
        row["starter_code"] = signature
    return row


def _signature(code: str, tests: Sequence[str]) -> str | None:
    """The first line of the function of `code` that the tests call; None if neither can be parsed."""
    try:
        defined = {
            node.name: node for node in ast.parse(textwrap.dedent(code)).body if isinstance(node, ast.FunctionDef)
        }
        called = [
            node.func.id
            for node in ast.walk(ast.parse("\n".join(tests)))
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        ]
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    name = next((name for name in called if name in defined), None)
    return None if name is None else f"def {name}({ast.unparse(defined[name].args)}):"


def _livecodebench(values: Values) -> dict[str, Any]:
    names = ("public_test_cases", "private_test_cases", "metadata")
    tests = {name: values[name] for name in names if values.get(name)}
    if "public_test_cases" not in tests:
        raise ValueError("no field 'public_test_cases'")
    row = {"prompt": _text(values, "question_content"), "starter_code": str(values.get("starter_code") or "")}
    dated = {"date": str(values["contest_date"])} if values.get("contest_date") else {}
    level = {"level": values["difficulty"]} if values.get("difficulty") else {}
    return {**row, **tests, **level, **dated, **_some_id(values, "question_id")}


SETS: dict[str, PublishedSet] = {
    "gsm8k": PublishedSet(
        "GSM8K",
        "math",
        "MIT",
        "openai/grade-school-math",
        ("question", "answer"),
        _gsm8k,
        r"gsm8k|grade.school",
        beside=r"example_model|socratic",
    ),
    "math-500": PublishedSet(
        "MATH-500",
        "math",
        "MIT",
        "HuggingFaceH4/MATH-500",
        ("problem", "answer", "solution", "level", "unique_id"),
        _math,
        r"math.?500",
    ),
    "aime": PublishedSet(
        "AIME",
        "math",
        "not stated; problems of the MAA",
        "MathArena/aime_2026 and others by year",
        ("problem", "Problem", "question", "Question", "answer", "Answer", "id", "ID", "problem_idx"),
        _aime,
        r"aime",
    ),
    "gpqa": PublishedSet(
        "GPQA",
        "science",
        "CC BY 4.0; its authors ask not to publish the questions in plain text",
        "Idavidrein/gpqa",
        ("Question", "Correct Answer", *(f"Incorrect Answer {number}" for number in (1, 2, 3)), "Record ID"),
        _gpqa,
        r"gpqa",
        beside=r"expert",
        parts=r"diamond|main|extended",
    ),
    "arc": PublishedSet(
        "ARC",
        "science",
        "CC BY-SA 4.0",
        "allenai/ai2_arc",
        ("question", "choices", "answerKey", "id"),
        _arc,
        r"(?<![a-z])arc(?![a-z])",
        beside=r"\.csv$",
    ),
    "humaneval": PublishedSet(
        "HumanEval",
        "coding",
        "MIT",
        "openai/human-eval",
        ("prompt", "entry_point", "test", "task_id"),
        _humaneval,
        r"human.?eval",
        beside=r"example_",
    ),
    "mbpp": PublishedSet(
        "MBPP",
        "coding",
        "CC BY 4.0",
        "google-research/mbpp",
        ("text", "prompt", "code", "test_list", "test_setup_code", "test_imports", "task_id"),
        _mbpp,
        r"(?<!mt_)mbpp",
        beside=r"(^|/)prompt[-./]",
    ),
    "livecodebench": PublishedSet(
        "LiveCodeBench",
        "coding",
        "CC BY 4.0",
        "livecodebench/code_generation_lite",
        (
            "question_content",
            "starter_code",
            "public_test_cases",
            "private_test_cases",
            "metadata",
            "question_id",
            "difficulty",
            "contest_date",
        ),
        _livecodebench,
        r"lcb|live.?code.?bench|code.generation",
    ),
}
"""Known sets by the name that `svd-loop data prepare` takes."""
