"""`svd-loop samples`, `jobs` and `explain` for every prompt of a small job, in process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from svd_loop.cli.app import app
from svd_loop.jobs import run_job
from svd_loop.ledger import LedgerReader
from tests.svd_loop.jobs_support import small


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sampled")
    run_job(small(root))
    return root


def call(root: Path, *arguments: str) -> Result:
    return CliRunner().invoke(app, [*arguments, "--root", str(root)])


def lines(root: Path, *arguments: str) -> list[dict[str, Any]]:
    done = call(root, "samples", "scripted", "--json", *arguments)
    assert done.exit_code == 0, done.output
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_conditions_hold_together_and_pages_join_up(root: Path) -> None:
    everything = lines(root, "--limit", "1000")
    assert {one["round"] for one in everything} == {1, 2} and len(everything) == 36
    mixed = lines(root, "--limit", "1000", "--where", "outcome=mixed", "--where", "round=2")
    wanted = [
        one
        for one in everything
        if one["round"] == 2 and {candidate["accepted"] for candidate in one["candidates"]} == {True, False}
    ]
    assert mixed == wanted != []
    first = lines(root, "--limit", "20")
    rest = lines(root, "--limit", "1000", "--after", f"{first[-1]['round']}:{first[-1]['id']}")
    assert first + rest == everything


def test_the_table_says_how_to_go_on(root: Path) -> None:
    done = call(root, "samples", "scripted", "--limit", "2", "--where", "stage=cycle_consistency")
    assert "cycle_consistency" in done.stderr and "2 prompts; --after 1:" in done.stderr


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ("roundd=1", "KEY one of round, "),
        ("outcome=mixd", "is one of mixed, accepted"),
        ("round=9", "has played 1, 2"),
        ("round=x", "is a whole number"),
        ("text=", "is KEY=VALUE"),
    ],
)
def test_a_wrong_condition_says_what_there_is(root: Path, condition: str, message: str) -> None:
    done = call(root, "samples", "scripted", "--where", condition)
    assert message in str(done.exception)


def test_jobs_are_listed_with_their_state(root: Path) -> None:
    done = json.loads(call(root, "jobs", "list", "--json").stdout)
    (job,) = done["jobs"]
    assert (job["name"], job["state"], job["rounds"], job["limit"]) == ("scripted", "round_limit", 2, 2)
    assert job["best"]["value"] >= job["base"]["value"]
    assert "scripted" in call(root, "jobs", "list").stderr and "2/2" in call(root, "jobs", "list").stderr
    shown = json.loads(call(root, "jobs", "show", "scripted", "--json").stdout)
    assert len(shown["rounds"]) == 3 and shown["folder"].endswith("jobs/scripted")
    assert "svd-loop samples scripted" in call(root, "jobs", "show", "scripted").stderr
    assert "has scripted" in str(call(root, "jobs", "show", "scriptd").exception)


def test_every_prompt_is_explained_by_the_beginning_of_its_id(root: Path) -> None:
    with LedgerReader.open_for_reading(root / "jobs" / "scripted") as reader:
        prompts = {row["id"] for row in reader.query("SELECT id FROM prompts")}
        played = {row["id"] for row in reader.query("SELECT DISTINCT prompt_id AS id FROM verdicts")}
        planted = {
            row["id"] for row in reader.query("SELECT DISTINCT prompt_id AS id FROM answers WHERE purpose='canary'")
        }
    assert planted
    for prompt in (min(played), min(planted), *sorted(prompts - played)[:1]):
        found = json.loads(call(root, "explain", "scripted", prompt[:12], "--json").stdout)
        assert found["prompt"]["id"] == prompt and found["prompt"]["text"]
        assert bool(found["candidates"]) == (prompt in played)
        assert bool(found["prompt"]["canaries"]) == (prompt in planted)
    text = call(root, "explain", "scripted", min(planted)).stderr
    assert "a planted wrong answer to this prompt" in text and "candidate 0 in round" in text
