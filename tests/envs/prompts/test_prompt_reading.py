"""The door: every format in, every fault named with file and line."""

from __future__ import annotations

import csv
import gzip
import importlib.util
import json
import logging
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import zstandard

from envs.prompts import content_id, files_digest, read_problems, read_prompts
from envs.prompts.files import MAX_LINE_BYTES
from envs.prompts.program_tests import CallTest, ScriptTest, from_text
from svd_loop.config.data import FieldMap, FilesSource
from svd_loop.contracts import Domain, Problem, Prompt
from svd_loop.errors import DataError

SAMPLE = Path(__file__).parents[2] / "data" / "gsm8k_sample.jsonl"
ROWS = [{"prompt": "What is 1 + 1?", "domain": "math"}, {"prompt": "Name H\u2082O.\r\n", "domain": "science"}]


def source(path: Path | str, **settings: Any) -> FilesSource:
    return FilesSource(paths=(str(path),), **settings)


def prompts_in(path: Path | str, **settings: Any) -> list[Prompt]:
    return list(read_prompts(source(path, **settings)))


def json_lines(rows: list[Any]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def write_csv(path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, ["prompt", "domain"])
        writer.writeheader()
        writer.writerows(ROWS)


def write_parquet(path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), path)


def write_datasets_folder(path: Path) -> None:
    import datasets

    datasets.Dataset.from_list(ROWS).save_to_disk(str(path))


WRITERS: dict[str, Callable[[Path], object]] = {
    "a.jsonl": lambda path: path.write_bytes(json_lines(ROWS)),
    "a.jsonl.gz": lambda path: path.write_bytes(gzip.compress(json_lines(ROWS))),
    "a.jsonl.zst": lambda path: path.write_bytes(zstandard.compress(json_lines(ROWS))),
    "a.csv": write_csv,
    "a.parquet": write_parquet,
    "a": write_datasets_folder,
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_format_gives_the_same_prompts(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    WRITERS[name](path)
    prompts = prompts_in(path)
    assert [(prompt.text, prompt.domain) for prompt in prompts] == [
        ("What is 1 + 1?", Domain.MATH),
        ("Name H\u2082O.", Domain.SCIENCE),
    ]
    assert [prompt.id for prompt in prompts] == [content_id(prompt.text, prompt.domain) for prompt in prompts]
    first_line = 2 if name == "a.csv" else 1
    assert [prompt.source for prompt in prompts] == [f"{path}:{first_line}", f"{path}:{first_line + 1}"]


def test_glob_patterns_are_sorted_and_files_counted_once(tmp_path: Path) -> None:
    for name in "ba":
        (tmp_path / f"{name}.jsonl").write_bytes(json_lines([{"prompt": name}]))
    both = FilesSource(paths=(str(tmp_path / "*.jsonl"), str(tmp_path / "b.jsonl")), domain=Domain.MATH)
    assert [prompt.text for prompt in read_prompts(both)] == ["a", "b"]


def test_zstd_frames_one_after_another(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.zst"
    path.write_bytes(b"".join(zstandard.compress(json_lines([row])) for row in ROWS))
    assert len(prompts_in(path)) == 2


def test_fields_are_mapped_limited_and_blank_lines_skipped(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('\ufeff\n{"q": "one", "key": 7}\n\n{"q": "two"}\n{"q": 3}\n', encoding="utf-8")
    prompts = prompts_in(path, domain=Domain.MATH, limit=2, fields=FieldMap(prompt="q", id="key"))
    assert [(prompt.text, prompt.source) for prompt in prompts] == [("one", f"{path}:2 id=7"), ("two", f"{path}:4")]


def test_dropped_gold_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(
        json_lines([{"prompt": "a", "Answer": "1", "mine": "2", "note": "x"}, {"prompt": "b", "Answer": "1"}])
    )
    with caplog.at_level(logging.WARNING):
        stream = read_prompts(source(path, domain=Domain.MATH, fields=FieldMap(answer="mine")))
        prompts = list(stream)
    assert stream.gold_fields == {"Answer": 2, "mine": 1}
    assert sum("gold" in record.message for record in caplog.records) == 2
    assert not any("1" in prompt.text for prompt in prompts)


def test_a_prompt_column_named_like_gold_is_not_gold(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(json_lines([{"reference": "What?"}]))
    stream = read_prompts(source(path, domain=Domain.MATH, fields=FieldMap(prompt="reference")))
    assert [prompt.text for prompt in stream] == ["What?"]
    assert not stream.gold_fields


BAD_ROWS: dict[str, tuple[bytes, str]] = {
    "malformed JSON": (b'{"prompt": ', "not valid JSON"),
    "deep JSON": (b"[" * 100_000, "not usable JSON"),
    "huge number": (b'{"prompt": ' + b"1" * 5000 + b"}", "not usable JSON"),
    "not an object": (b"[1]", "must be a JSON object, found list"),
    "missing prompt": (b'{"text": "x"}', r"no field 'prompt' \(found: text\); set fields.prompt"),
    "null prompt": (b'{"prompt": null}', "must be text or a list of messages, found nothing"),
    "wrong type": (b'{"prompt": 3}', "must be text or a list of messages, found int"),
    "empty": (b'{"prompt": " \\u200b"}', "is empty"),
    "NUL": (b'{"prompt": "a\\u0000"}', "NUL"),
    "half a surrogate pair": (b'{"prompt": "a\\ud800"}', "surrogate pair at character 2"),
    "unknown domain": (b'{"prompt": "a", "domain": "art"}', "no domain is called 'art'; known: coding, math, science"),
    "no domain": (b'{"prompt": "a", "domain": null}', "names no domain"),
    "id of a wrong type": (b'{"prompt": "a", "domain": "math", "id": []}', "field 'id'"),
    "invalid UTF-8": (b'{"prompt": "\xff"}', "not valid UTF-8: byte 0xff at column 13"),
}


@pytest.mark.parametrize(("line", "message"), BAD_ROWS.values(), ids=BAD_ROWS)
def test_bad_rows_name_file_and_line(line: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(json_lines(ROWS) + line + b"\n")
    with pytest.raises(DataError, match=re.escape(f"{path}:3: ") + f".*{message}"):
        prompts_in(path)


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.jsonl.zst"])
def test_a_file_cut_short_is_noticed(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    WRITERS[name](path)
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(DataError, match=rf"{re.escape(str(path))}:\d+: the compressed file is damaged or cut short"):
        prompts_in(path)


def test_a_line_without_end_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(b" " * (MAX_LINE_BYTES + 1), 1))
    with pytest.raises(DataError, match=":1: a line is longer than 16 MiB"):
        prompts_in(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("prompt,domain\na,math\nb\n", ":3: 1 cells under a header of 2 columns"),
        ('prompt,domain\n"two\nlines",math\nb,art\n', ":4: field 'domain'"),
        ('prompt,domain\n"open,math\n', ":2: not valid CSV"),
        ("prompt,prompt\na,b\n", ":1: the header"),
        ("prompt,domain\na\0,math\n", ":2: .*NUL"),
        ("prompt,domain\n", ": holds no rows"),
    ],
)
def test_bad_csv(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(text.encode())
    with pytest.raises(DataError, match=re.escape(str(path)) + message):
        prompts_in(path)


def test_bad_files(tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").touch()
    (tmp_path / "notes.txt").touch()
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 no PAR1")
    (tmp_path / "folder").mkdir()
    for name, message in {
        "none.jsonl": "no such file",
        "*.csv": "the pattern matches no file",
        "empty.jsonl": "holds no rows",
        "notes.txt": "unknown format; known are .jsonl",
        "broken.parquet": "the Parquet file is damaged",
        "folder": "without state.json",
        "x" * 5000: "no such file",
        "a\0b": "NUL",
    }.items():
        with pytest.raises(DataError, match=message):
            prompts_in(tmp_path / name, domain=Domain.MATH)


def test_a_datasets_folder_with_splits_or_damage(tmp_path: Path) -> None:
    (tmp_path / "splits" / "train").mkdir(parents=True)
    (tmp_path / "splits" / "dataset_dict.json").write_text("{}")
    with pytest.raises(DataError, match=r"several splits \(train\); name one"):
        prompts_in(tmp_path / "splits")
    write_datasets_folder(tmp_path / "damaged")
    (arrow,) = (tmp_path / "damaged").glob("*.arrow")
    arrow.write_bytes(b"damaged")
    with pytest.raises(DataError, match="damaged"):
        prompts_in(tmp_path / "damaged")


@pytest.mark.parametrize("name", ["a.parquet", "a"])
def test_columnar_files_without_the_prompt_column_name_those_they_have(name: str, tmp_path: Path) -> None:
    WRITERS[name](tmp_path / name)
    with pytest.raises(DataError, match=r":1: no field 'q' \(found: prompt, domain\)"):
        prompts_in(tmp_path / name, fields=FieldMap(prompt="q", domain=None, id=None))


# ------------------------------------------------------------------------------------------- held out


def test_gsm8k_answers_by_pattern() -> None:
    problems = read_problems(
        source(SAMPLE, domain=Domain.MATH, fields=FieldMap(prompt="question"), answer_pattern="#### (.+)$")
    )
    assert problems[0].answer == "18"
    assert problems[0].source == f"{SAMPLE}:1"
    assert problems[0].id == content_id(problems[0].text, Domain.MATH)


def held_out(tmp_path: Path, *rows: dict[str, Any], **settings: Any) -> list[Problem]:
    path = tmp_path / "held.jsonl"
    path.write_bytes(json_lines(list(rows)))
    return read_problems(source(path, domain=Domain.MATH, **settings))


def test_tests_as_list_or_json_text(tmp_path: Path) -> None:
    tests = ["assert f(1) == 1", "assert f(2) == 2"]
    problems = held_out(
        tmp_path,
        {"prompt": "a", "domain": "coding", "tests": tests},
        {"prompt": "b", "domain": "coding", "tests": json.dumps(tests)},
        {"prompt": "c", "answer": 5},
    )
    assert [problem.tests for problem in problems] == [tuple(tests), tuple(tests), ()]
    assert problems[2].answer == "5"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"prompt": "b"}, "must be the gold answer, text or a number, found nothing"),
        ({"prompt": "b", "answer": float("nan")}, "must be a finite number, found nan"),
        ({"prompt": "b", "answer": float("-inf")}, "must be a finite number, found -inf"),
        ({"prompt": "b", "answer": True}, "found True"),
        ({"prompt": "b", "answer": " "}, "is empty"),
        ({"prompt": "b", "domain": "coding", "tests": "assert True"}, "a list of tests, or one as a JSON string"),
        ({"prompt": "b", "domain": "coding", "tests": []}, "must be a list of tests"),
        ({"prompt": "b", "domain": "coding", "tests": [1]}, "must be a list of tests"),
        ({"prompt": " a ", "answer": "2"}, "the same problem as .*:1"),
        ({"prompt": "b", "answer": "2", "id": "k"}, "the same id as .*:1"),
    ],
)
def test_bad_held_out_rows(row: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=rf"held\.jsonl:2: .*{message}"):
        held_out(tmp_path, {"prompt": "a", "answer": "1", "id": "k"}, row)


@pytest.mark.parametrize(
    ("pattern", "message"), [("(", "not a regular"), ("#", "no group"), ("# (.)", "held.jsonl:1: .*finds nothing")]
)
def test_answer_patterns_that_do_not_work(pattern: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        held_out(tmp_path, {"prompt": "a", "answer": "1"}, answer_pattern=pattern)


def test_a_prompt_column_mapped_as_gold_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="must not show its answer"):
        held_out(tmp_path, {"prompt": "a"}, fields=FieldMap(answer="prompt"))


# ------------------------------------------------------------------------------------ digest and fuzz


def test_digest_follows_contents(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"1")
    first = files_digest([str(path)])
    assert files_digest([str(path)]) == first
    path.write_bytes(b"2")
    assert files_digest([str(path)]) != first


def fuzz() -> ModuleType:
    file = Path(__file__).parents[3] / "benchmarks" / "fuzz_door.py"
    spec = importlib.util.spec_from_file_location("fuzz_door", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_broken_files_never_raise_anything_else(tmp_path: Path) -> None:
    outcomes, failures = fuzz().run(300, 7, tmp_path)
    assert failures == []
    assert len([name for name in outcomes if name.endswith("refused")]) == 5, "every format was refused at least once"


@pytest.mark.parametrize("name", ["openai/gsm8k", "squad"])
def test_a_hub_name_is_refused_with_the_way_to_save_it(name: str, tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=rf"{name}: no such file; .*svd-loop data fetch {name} .*paths names that folder"
    ):
        read_prompts(source(name))
    with pytest.raises(DataError, match=r"no such file$"):
        read_prompts(source("data/train.jsonl"))
    with pytest.raises(DataError, match=r"no such file$"):
        read_prompts(source(tmp_path / "none"))


LIVECODEBENCH = {
    "question_content": "Double n.",
    "starter_code": "",
    "metadata": "{}",
    "public_test_cases": '[{"input": "2\\n", "output": "4\\n", "testtype": "stdin"}]',
    "private_test_cases": "",
}
FUNCTION = {
    **LIVECODEBENCH,
    "question_content": "Double x.",
    "starter_code": "class Solution:\n    def f(self, x: int) -> int:\n        ",
    "metadata": '{"func_name": "f"}',
    "public_test_cases": '[{"input": "2", "output": "4", "testtype": "functional"}]',
}


def test_livecodebench_rows_are_read_as_they_are_and_say_what_they_want(tmp_path: Path) -> None:
    path = tmp_path / "lcb.jsonl"
    path.write_bytes(json_lines([LIVECODEBENCH, FUNCTION]))
    settings: dict[str, Any] = {"domain": Domain.CODING, "fields": FieldMap(prompt="question_content")}
    problems = read_problems(source(path, number_tolerance=0.1, **settings))
    assert [from_text(test) for problem in problems for test in problem.tests] == [
        ScriptTest("2\n", "4\n", 0.1),
        CallTest("f", [2], [4], 0.1),
    ]
    assert problems[0].text.startswith("Double n.") and "standard input" in problems[0].text
    assert problems[1].text.endswith("```python\nclass Solution:\n    def f(self, x: int) -> int:\n```")
    assert [prompt.text for prompt in prompts_in(path, **settings)] == [problem.text for problem in problems]


def test_rows_without_starter_code_and_of_other_domains_stay_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    rows = [
        {"prompt": "a", "domain": "coding"},
        {"prompt": "b", "domain": "coding", "starter_code": None},
        {"prompt": "c", "domain": "math", "starter_code": ""},
    ]
    path.write_bytes(json_lines(rows))
    assert [prompt.text for prompt in prompts_in(path)] == ["a", "b", "c"]
    path.write_bytes(json_lines([{"prompt": "a", "domain": "coding", "starter_code": 3}]))
    with pytest.raises(DataError, match="field 'starter_code' must be starter code as text, found int"):
        prompts_in(path)
