"""The command line as a user meets it: real processes, real files, real exit codes."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from typer.testing import CliRunner

from svd_loop.cli.app import app
from svd_loop.cli.output import stderr
from tests.processes import run
from tests.svd_loop.jobs_support import SCRIPTED, SMALL


def svd(*arguments: str, root: Path | None = None) -> CompletedProcess[str]:
    overrides = [part for item in (*SMALL, f"job.root={root}") for part in ("-o", item)] if root else []
    # The test's own overrides come last and win.
    command = [sys.executable, "-m", "svd_loop.cli", *arguments[:2], *overrides, *arguments[2:]]
    return run(command)


def write(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_run_prints_a_table_and_what_to_type_next(tmp_path: Path) -> None:
    done = svd("run", str(SCRIPTED), root=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    for wanted in ("round 1: pass@1", "round_limit", "Best version: round-002", "Next:", "svd-loop report scripted"):
        assert wanted in done.stderr


def test_run_as_json_prints_one_object(tmp_path: Path) -> None:
    done = svd("run", str(SCRIPTED), "--json", root=tmp_path)
    result = json.loads(done.stdout)
    assert (result["job"], result["stop_reason"], len(result["rounds"])) == ("scripted", "round_limit", 3)


def test_record_and_replay_end_in_the_same_verdicts(tmp_path: Path) -> None:
    replies = tmp_path / "replies.jsonl"
    first = json.loads(svd("run", str(SCRIPTED), "--json", "--record", str(replies), root=tmp_path / "a").stdout)
    override = ("-o", f"engine.replies={replies}")
    again = json.loads(svd("run", str(SCRIPTED), "--json", *override, root=tmp_path / "b").stdout)
    accepted = [[entry["accepted_prompts"] for entry in result["rounds"]] for result in (first, again)]
    assert accepted[0] == accepted[1]


def test_check_reports_every_item(tmp_path: Path) -> None:
    done = svd("check", str(SCRIPTED), "--json", root=tmp_path)
    found = json.loads(done.stdout)
    assert done.returncode == 0, found
    assert found["ok"]
    names = {"held-out problems", "training prompts", "coding sandbox", "memory", "disk", "probe"}
    assert names <= {c["name"] for c in found["checks"]}
    calls = found["estimate"]["round"]["judge_calls"]
    assert 0 < calls["low"] <= calls["value"] <= calls["high"] and found["estimate"]["measured"]["candidates"] == 4
    assert {"verifiers", "forecast"} <= found.keys()
    here = ["check", str(SCRIPTED), "-o", f"job.root={tmp_path}"]
    assert json.loads(CliRunner().invoke(app, [*here, "--no-probe", "--json"]).stdout)["estimate"] is None
    assert "judge calls" in CliRunner().invoke(app, [*here, "--probe", "2"]).stderr


def test_check_of_a_bad_job_says_what_to_change_and_exits_2(tmp_path: Path) -> None:
    missing = f"data.train={{type: files, domain: math, paths: [{tmp_path}/none.jsonl]}}"
    done = svd("check", str(SCRIPTED), "-o", missing, "--json", root=tmp_path)
    assert done.returncode == 2
    (bad,) = [item for item in json.loads(done.stdout)["checks"] if not item["ok"]]
    assert "none.jsonl" in bad["detail"]


def test_eval_scores_a_version_of_a_job(tmp_path: Path) -> None:
    svd("run", str(SCRIPTED), root=tmp_path)
    done = svd("eval", str(SCRIPTED), "--model", "scripted@2", "--json", root=tmp_path)
    scores = json.loads(done.stdout)
    result = json.loads(svd("report", "scripted", "--root", str(tmp_path), "--json").stdout)
    assert scores["estimates"]["overall"]["pass@1"] == result["rounds"][2]["scores"]["estimates"]["overall"]["pass@1"]
    own = json.loads(svd("eval", str(SCRIPTED), "--json", root=tmp_path).stdout)
    assert own["estimates"]["overall"]["pass@1"] == result["rounds"][0]["scores"]["estimates"]["overall"]["pass@1"]


def test_eval_scores_solutions_without_a_model(tmp_path: Path) -> None:
    held_out = write(
        tmp_path / "held.jsonl",
        {"id": "a", "prompt": "What is 1 + 1?", "answer": "2", "domain": "math"},
        {"id": "b", "prompt": "What is 2 + 2?", "answer": "4", "domain": "math"},
    )
    development = f"data.development={{type: files, paths: [{held_out}]}}"
    report = svd("eval", str(SCRIPTED), "--solutions", str(tmp_path / "x"), "-o", development, root=tmp_path)
    assert report.returncode == 2
    hashes = problem_ids(held_out, development, tmp_path)
    for names in (hashes, ["a", "b"]):  # by content hash, and as the file calls them
        solutions = write(tmp_path / "solutions.jsonl", *({"id": name, "solution": r"\boxed{2}"} for name in names))
        done = svd("eval", str(SCRIPTED), "--solutions", str(solutions), "-o", development, "--json", root=tmp_path)
        found = json.loads(done.stdout)
        assert found["estimates"]["overall"]["pass@1"]["value"] == 0.5
        same = {"domain": "math", "undecided": 0}
        assert found["outcomes"] == [
            {"id": "a", "problem": hashes[0], "source": f"{held_out}:1", "right": 1, "wrong": 0} | same,
            {"id": "b", "problem": hashes[1], "source": f"{held_out}:2", "right": 0, "wrong": 1} | same,
        ]


def problem_ids(held_out: Path, development: str, root: Path) -> list[str]:
    from svd_loop.assembly.data import problems_of
    from tests.svd_loop.jobs_support import small

    return [problem.id for problem in problems_of(small(root, development).data.development, "development")]


def test_judge_writes_a_verdict_a_line(tmp_path: Path) -> None:
    answers = write(
        tmp_path / "answers.jsonl",
        {"prompt": "What is 12 + 30?", "solution": r"12 + 30 = 42. \boxed{42}"},
        {"prompt": "What is 12 + 30?", "solution": r"\boxed{41}"},
        {"prompt": "What is 12 + 31?", "solution": "[[Y]] [[Y]] [[Y]]"},
    )
    output = tmp_path / "verdicts.jsonl"
    # The scripted inferrer knows the words of its own solver alone, so cycle consistency is left out.
    stages = ("-o", "cascade.stages=[factuality, correctness]")
    sure = ("-o", "engine.true_positive=1.0", "-o", "engine.false_positive=0.0", *stages)
    done = svd("judge", str(SCRIPTED), "--input", str(answers), "--output", str(output), "--json", *sure, root=tmp_path)
    assert done.returncode == 0, done.stderr
    verdicts = [json.loads(line) for line in output.read_text().splitlines()]
    assert [verdict["accepted"] for verdict in verdicts] == [True, False, False]
    assert json.loads(done.stdout)["accepted"] == 1
    assert verdicts[0]["votes"][0]["text"]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"prompt": "?"}], "answers.jsonl:1: needs `solution`"),
        ([{"prompt": "?", "solution": "x", "domain": "art"}], "answers.jsonl:1: domain: no domain is called"),
        ([], "answers.jsonl: holds no rows"),
        ([{"prompt": "?", "solution": 2}], "answers.jsonl:1: needs `solution` as text, found int '2'"),
        ([{"prompt": " ", "solution": "x"}], "answers.jsonl:1: `prompt` is empty"),
        ([{"prompt": "?", "solution": "x"}, {"prompt": "\ud800", "solution": "x"}], "answers.jsonl:2: `prompt` holds"),
        ([{"prompt": "?", "solution": "x", "id": [1]}], "answers.jsonl:1: `id` is text or a whole number"),
        ([json.loads("[" * 500 + "]" * 500)], "answers.jsonl:1: must be a JSON object, found list"),
    ],
)
def test_judge_names_the_bad_line(tmp_path: Path, rows: list[object], message: str) -> None:
    answers = write(tmp_path / "answers.jsonl", *rows)
    done = svd("judge", str(SCRIPTED), "--input", str(answers), "--output", str(tmp_path / "out"), root=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["absent/out", "", "answers.jsonl"])
def test_judge_refuses_an_output_it_could_not_write_before_it_judges(tmp_path: Path, name: str) -> None:
    answers = write(tmp_path / "answers.jsonl", {"prompt": "?", "solution": "x"})
    before = answers.read_bytes()
    done = svd("judge", str(SCRIPTED), "--input", str(answers), "--output", str(tmp_path / name), root=tmp_path)
    assert done.returncode == 2 and "--output" in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "jobs").exists() and answers.read_bytes() == before


BAD_TRAINING_FILES = {
    "empty": ([], "holds no rows"),
    "no prompt": ([{"question": "x"}], "train.jsonl:1"),
    "held out": ([{"prompt": "How far is it from Mandal to Bergen by sea?"}], "held-out"),
}


@pytest.mark.parametrize("case", BAD_TRAINING_FILES)
def test_bad_training_files_stop_before_any_work(tmp_path: Path, case: str) -> None:
    rows, message = BAD_TRAINING_FILES[case]
    train = write(tmp_path / "train.jsonl", *rows)
    held = write(tmp_path / "held.jsonl", {"prompt": "How far is it from Mandal to Bergen by sea?", "answer": "1"})
    overrides = [
        *("-o", f"data.train={{type: files, domain: math, paths: [{train}]}}"),
        *("-o", f"data.development={{type: files, domain: math, paths: [{held}]}}"),
    ]
    done = svd("run", str(SCRIPTED), *overrides, root=tmp_path)
    assert done.returncode == (3 if case == "held out" else 2), done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "jobs" / "scripted" / "prompts.sqlite").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("run", "absent.yaml"), "no such configuration file"),
        (("run", str(SCRIPTED), "-o", "cascade.vots=1"), "did you mean votes?"),
        (("eval", str(SCRIPTED), "--model", "x", "--solutions", "y"), "not both"),
        (("eval", str(SCRIPTED), "--model", "nobody@1"), "nobody"),
        (("report", "nobody"), "nobody"),
        (("run", str(SCRIPTED), "--fork", "x"), "JOB@ROUND"),
    ],
)
def test_usage_errors_are_readable(arguments: tuple[str, ...], message: str) -> None:
    done = svd(*arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_help_names_the_commands() -> None:
    text = svd("--help").stdout
    for command in ("run", "check", "eval", "judge", "report", "nano"):
        assert command in text


def test_what_users_typed_is_repeated_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    stderr.cache_clear()
    stderr().print("prompt:x: no such [row]", markup=False, highlight=False)
    assert capsys.readouterr().err == "prompt:x: no such [row]\n"
    stderr.cache_clear()
