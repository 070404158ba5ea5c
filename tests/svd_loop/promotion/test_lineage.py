from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from svd_loop.errors import DataError
from svd_loop.jobs import run_job
from svd_loop.ledger import LedgerReader
from svd_loop.promotion.lineage import explain
from tests.processes import run
from tests.svd_loop.jobs_support import small


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A job of three rounds in which every update replays at most one old row for each two new ones."""
    root = tmp_path_factory.mktemp("lineage")
    train = root / "train.jsonl"
    rows = [{"prompt": f"What is {a} + {a + 7}?", "domain": "math"} for a in range(11, 35)]
    train.write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = f"data.train={{type: files, paths: [{train}]}}"
    ratio = "update.replay.ratio=0.5"
    run_job(small(root, source, ratio, "job.rounds=3", "data.prompts_per_round=8", "plateau.patience=9"))
    return root


@pytest.fixture(scope="module")
def heir(root: Path) -> Path:
    """A second job, which replays rows of the first one: what is drawn from its own rows then depends on them."""
    rows = [{"prompt": f"What is {a} + {a + 9}?", "domain": "math"} for a in range(41, 65)]
    train = root / "later.jsonl"
    train.write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = f"data.train={{type: files, paths: [{train}]}}"
    run_job(
        small(
            root,
            "job.name=heir",
            source,
            "update.replay.ratio=0.5",
            "job.rounds=3",
            "data.prompts_per_round=8",
            "plateau.patience=9",
            "schedule.replay={jobs: [scripted@3]}",
        )
    )
    return root


def test_rows_of_an_earlier_job_are_drawn_too_when_replay_is_asked_again(heir: Path) -> None:
    with LedgerReader.open_for_reading(heir / "jobs" / "heir") as reader:
        own = [(row.prompt_id, row.candidate, row.round) for row in reader.accepted_rows()]
        rows = {row["round"]: row["rows"] for row in reader.query("SELECT round, rows FROM updates")}
    trained = [
        version.round for key in own for row in explain("heir", heir, f"{key[0]}:{key[1]}") for version in row.trained
    ]
    new = {round: sum(key[2] == round for key in own) for round in rows}
    assert trained.count(1) == new[1] < rows[1]  # the first update replays the earlier job's rows alone
    for round in (2, 3):
        assert new[round] <= trained.count(round) < rows[round]  # a few of its own, a few of the earlier job's


def accepted(root: Path) -> list[tuple[str, int, int]]:
    with LedgerReader.open_for_reading(root / "jobs" / "scripted") as reader:
        return [(row.prompt_id, row.candidate, row.round) for row in reader.accepted_rows()]


def test_a_row_is_explained_from_its_prompt_to_the_versions_that_learned_it(root: Path) -> None:
    prompt_id, candidate, round = accepted(root)[0]
    (row,) = explain("scripted", root, f"{prompt_id}:{candidate}")
    assert (row.round, row.prompt_id, row.candidate) == (round, prompt_id, candidate)
    assert row.source.startswith(f"{root}/train.jsonl:")
    assert row.text.startswith("What is ") and row.domain == "math"
    assert "boxed" in row.solution
    assert row.written_by["name"] == f"round-{round - 1:03d}" and len(row.written_by["fingerprint"]) == 64
    assert len(row.votes) == 3 * 2
    assert {vote["value"] for vote in row.votes} == {"yes"}
    assert all("[[Y]]" in vote["words"] for vote in row.votes)
    assert row.trained[0].name == f"round-{round:03d}"


def test_the_versions_named_are_those_whose_training_data_held_the_row(root: Path) -> None:
    """The updates' own row counts are the check: the ledger does not keep which rows were replayed."""
    explained = {key: explain("scripted", root, f"{key[0]}:{key[1]}") for key in accepted(root)}
    with LedgerReader.open_for_reading(root / "jobs" / "scripted") as reader:
        rows = {row["round"]: row["rows"] for row in reader.query("SELECT round, rows FROM updates")}
    told = [version.round for found in explained.values() for row in found for version in row.trained]
    assert {round: told.count(round) for round in rows} == rows
    for found in explained.values():
        for row in found:
            both = [version.round for version in (*row.trained, *row.inherited)]
            assert sorted(both) == list(range(row.round, 4))  # each update starts from the previous version
    assert any(row.inherited for found in explained.values() for row in found)


def test_the_beginning_of_an_id_is_enough(root: Path) -> None:
    prompt_id = accepted(root)[0][0]
    assert explain("scripted", root, prompt_id[:12]) == explain("scripted", root, prompt_id)


@pytest.mark.parametrize(
    ("example", "message"),
    [("", "PROMPT_ID"), ("x:y", "PROMPT_ID"), ("nobody", "has no prompt"), ("REJECTED", "never became a training row")],
)
def test_what_cannot_be_explained_says_why(root: Path, example: str, message: str) -> None:
    if example == "REJECTED":
        with LedgerReader.open_for_reading(root / "jobs" / "scripted") as reader:
            (row,) = reader.query("SELECT prompt_id, candidate FROM candidates WHERE NOT selected LIMIT 1")
        example = f"{row['prompt_id']}:{row['candidate']}"
    with pytest.raises(DataError, match=message):
        explain("scripted", root, example)


def test_the_command_prints_the_judges_words(root: Path) -> None:
    prompt_id, candidate, _ = accepted(root)[0]
    base = [sys.executable, "-m", "svd_loop.cli", "explain", "scripted", f"{prompt_id}:{candidate}"]
    done = run([*base, "--root", str(root)])
    assert done.returncode == 0, done.stderr
    assert "I recomputed it and find no error." in done.stderr and "trained on it: round-001" in done.stderr
    done = run([*base, "--root", str(root), "--json"])
    assert json.loads(done.stdout)["rows"][0]["prompt_id"] == prompt_id
