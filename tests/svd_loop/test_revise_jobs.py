"""A job that revises: what it trains on, what it tells about it, and that a kill changes nothing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

import envs.cascade.template_sets as template_sets
from svd_loop.cli.app import app
from svd_loop.errors import ConfigError
from svd_loop.jobs import run_job
from svd_loop.ledger import LedgerReader
from tests.kill import run_until_it_kills_itself
from tests.svd_loop.job_outcome import asked_again, outcome_of
from tests.svd_loop.jobs_support import small
from tests.svd_loop.test_job_kills import CHUNK, ROOT, command, finish

SETTINGS = ("sampling.revise=true", "sampling.n=2", "engine.skill=0.3")


def test_a_revised_row_is_the_plain_prompt_with_what_was_sampled_and_says_so(tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    whole.mkdir()
    killed.mkdir()
    result = run_job(small(whole, f"engine.chunk_size={CHUNK}", *SETTINGS), record=whole / "replies.jsonl")
    assert result.history[1].metrics["revise.tried"] >= result.history[1].metrics["revise.accepted"] > 0
    assert result.history[1].metrics["reviser.calls"] == result.history[1].metrics["revise.tried"]
    with LedgerReader.open_for_reading(whole / "jobs" / "scripted") as ledger:
        query = """SELECT r.prompt_id, r.candidate, r.revised_from, replies.token_ids AS said, plain.prompt_ids AS asked
                   FROM revisions AS r
                   JOIN replies USING (round, prompt_id, candidate)
                   JOIN candidates AS plain ON plain.round = r.round AND plain.prompt_id = r.prompt_id
                       AND plain.candidate = r.revised_from
                   WHERE replies.role = 'reviser' AND r.round = 1"""
        revised = {(row["prompt_id"], row["candidate"]): row for row in ledger.query(query)}
        rows = [row for row in ledger.accepted_rows() if row.round == 1 and (row.prompt_id, row.candidate) in revised]
        assert len(rows) == result.history[1].metrics["revise.accepted"]
        for row in rows:
            source = revised[row.prompt_id, row.candidate]
            assert row.input_ids[: row.supervised_from] == ledger.ids(source["asked"])
            assert row.input_ids[row.supervised_from :] == ledger.ids(source["said"])
    example = f"{rows[0].prompt_id}:{rows[0].candidate}"
    told = CliRunner().invoke(app, ["explain", "scripted", example, "--root", str(whole), "--json"])
    assert json.loads(told.stdout)["rows"][0]["revised_from"] in (0, 1)

    run_until_it_kills_itself(command(killed, "1/sample/recorded*6", *SETTINGS), cwd=ROOT)
    finish(killed, *SETTINGS)
    assert outcome_of(killed / "jobs" / "scripted") == outcome_of(whole / "jobs" / "scripted")
    assert asked_again(killed / "replies.jsonl") <= CHUNK


def test_a_set_without_the_template_is_refused_and_nano_is_warned_about(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sets = Path(template_sets.__file__).parents[1] / "templates"
    mine = shutil.copytree(sets / "chat", tmp_path / "mine", ignore=shutil.ignore_patterns("reviser*"))
    with pytest.raises(ConfigError, match=r"sampling\.revise: the template set mine has no reviser\.txt"):
        run_job(small(tmp_path, *SETTINGS, f"model.templates={mine}"))
    from svd_loop.assembly.job import template_set

    template_set(small(tmp_path, f"model.templates={mine}"))
    template_set(small(tmp_path, *SETTINGS, "model.templates=nano"))
    assert "nano was never trained to revise" in caplog.text
