from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from svd_loop.errors import DataError
from svd_loop.jobs import run_job
from svd_loop.ledger import LedgerReader
from svd_loop.promotion.lineage import explain
from svd_loop.promotion.verdicts_of_prompts import judged_candidates, list_prompts
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
    [("", "PROMPT_ID"), ("x:y", "PROMPT_ID"), ("nobody", "has no prompt 'nobody'; it has [0-9a-f]{16}, ")],
)
def test_what_cannot_be_explained_says_why(root: Path, example: str, message: str) -> None:
    for tell in (explain, judged_candidates):
        with pytest.raises(DataError, match=message):
            tell("scripted", root, example)


def test_a_rejected_candidate_has_the_deciding_vote(root: Path) -> None:
    with LedgerReader.open_for_reading(root / "jobs" / "scripted") as reader:
        rows = list(reader.query("SELECT * FROM verdicts WHERE rejection = 'vote'"))
    for row in rows[:5]:
        example = f"{row['prompt_id']}:{row['candidate']}"
        (one,) = judged_candidates("scripted", root, example)
        deciding = [vote for vote in one.votes if (vote["stage"], vote["vote"]) == (row["stage"], row["vote"])]
        assert not one.accepted and explain("scripted", root, example) == []
        assert one.decided == f"rejected: vote {row['vote']} of stage {row['stage']} is {deciding[0]['value']}"
        assert deciding[0]["words"] and one.text.startswith("What is ") and one.solution
    assert rows


def test_every_judged_candidate_of_every_prompt_is_listed_and_explained(root: Path) -> None:
    total, prompts = list_prompts("scripted", root)
    assert total == len(prompts) == 24
    assert [
        one for start in (0, 10, 20) for one in list_prompts("scripted", root, offset=start, limit=10)[1]
    ] == prompts
    selected = set(accepted(root))
    for prompt in prompts:
        found = [one for one in judged_candidates("scripted", root, prompt.id) if one.round == prompt.round]
        assert (len(found), sum(one.accepted for one in found)) == (prompt.candidates, prompt.accepted)
        assert found[0].text.startswith(prompt.words) and prompt.words.startswith("What is ")
        told = {(one.prompt_id, one.candidate, one.round) for one in found if one.selected}
        assert told == {key for key in selected if key[0] == prompt.id}
    with pytest.raises(DataError, match="no such candidate; it has 0, 1"):
        judged_candidates("scripted", root, f"{prompts[0].id}:99")


def test_the_command_prints_the_judges_words(root: Path) -> None:
    prompt_id, candidate, _ = accepted(root)[0]
    base = [sys.executable, "-m", "svd_loop.cli", "explain", "scripted", f"{prompt_id}:{candidate}"]
    done = run([*base, "--root", str(root)])
    assert done.returncode == 0, done.stderr
    assert "I recomputed it and find no error." in done.stderr and "trained on it: round-001" in done.stderr
    listed = json.loads(run([*base[:-1], "--root", str(root), "--limit", "3", "--json"]).stdout)
    assert (listed["total"], len(listed["prompts"])) == (24, 3)
    assert "24 prompts played; --offset 3" in run([*base[:-1], "--root", str(root), "--limit", "3"]).stderr
    done = run([*base, "--root", str(root), "--json"])
    assert json.loads(done.stdout)["rows"][0]["prompt_id"] == prompt_id
