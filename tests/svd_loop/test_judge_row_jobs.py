"""Jobs that train on judge rows: what is stored and shown of them, and kills in between."""

from __future__ import annotations

import shutil
import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest
from typer.testing import CliRunner

from svd_loop.cli.app import app
from svd_loop.contracts import UsagePurpose, VoteValue
from svd_loop.errors import ConfigError, LedgerError
from svd_loop.jobs import run_job
from svd_loop.ledger import LedgerReader
from svd_loop.promotion.lineage import learned_judgements
from svd_loop.viewer.links import ServerLinks
from svd_loop.viewer.pages import Pages
from svd_loop.viewer.source import JobSource
from tests.kill import run_until_it_kills_itself
from tests.svd_loop.job_outcome import asked_again, outcome_of
from tests.svd_loop.jobs_support import small
from tests.svd_loop.test_job_kills import CHOOSING, CHUNK, ROOT, command, finish

SETTINGS = ("update.judge_rows.share=1.0", "engine.skill=0.4")
PLACES = ("1/judge_rows/asked*2", "2/judge_rows/recorded")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("judge-rows")
    run_job(small(root, *CHOOSING, f"engine.chunk_size={CHUNK}", *SETTINGS))
    return root / "jobs" / "scripted"


def test_judge_rows_are_stored_with_their_origin_and_counted(whole: Path) -> None:
    with LedgerReader.open_for_reading(whole) as reader:
        rows, history = reader.judge_rows(), reader.state().history
    values = Counter((one.row.round, one.stage, one.value) for one in rows)
    assert {one.row.round for one in rows} == {1, 2}
    assert all(values[round, stage, VoteValue.YES] == values[round, stage, VoteValue.NO] for round, stage, _ in values)
    for record in history[1:]:
        reasons = Counter(one.reason for one in rows if one.row.round == record.round)
        assert {f"judge_rows.{reason}": count for reason, count in reasons.items()} == {
            name: count for name, count in record.metrics.items() if name.startswith("judge_rows.")
        }
        verdicts = sum(one.value is not None for one in rows if one.row.round == record.round)
        assert 0 < verdicts <= record.accepted_prompts + 6  # rounded up: one verdict of each kind and stage
        assert sum(usage.calls for usage in record.usage[UsagePurpose.JUDGE_ROWS].values()) > 0


def test_a_changed_judge_row_is_noticed(whole: Path, tmp_path: Path) -> None:
    job = Path(shutil.copytree(whole, tmp_path / "job"))
    with closing(sqlite3.connect(job / "ledger.sqlite", isolation_level=None)) as ledger:
        assert ledger.execute("UPDATE judge_rows SET value = 'yes' WHERE value = 'no'").rowcount
    with LedgerReader.open_for_reading(job) as reader, pytest.raises(LedgerError, match="table judge_rows"):
        reader.judge_rows()


def test_explain_lineage_and_viewer_show_them(whole: Path) -> None:
    root = whole.parents[1]
    with LedgerReader.open_for_reading(whole) as reader:
        counts = Counter(one.row.prompt_id for one in reader.judge_rows() if one.row.round == 1)
    prompt, count = counts.most_common(1)[0]
    shown = [one for one in learned_judgements("scripted", root, prompt) if one.round == 1]
    assert len(shown) == count
    assert all(one.trained[0].name == "round-001" for one in shown)
    result = CliRunner().invoke(app, ["explain", "scripted", prompt, "--root", str(root)])
    assert f"round 1, {shown[0].stage}, " in result.stderr and f"({shown[0].reason})" in result.stderr
    with closing(JobSource(whole)) as source:
        assert source.judgements(prompt, 1) == shown
        page = Pages(source, ServerLinks(), live=True).prompt(1, prompt, {})
    assert "Judge rows" in page and page.count("learned by") == count


def test_a_job_killed_while_it_makes_judge_rows_ends_the_same(whole: Path, tmp_path: Path) -> None:
    for place in PLACES:
        run_until_it_kills_itself(command(tmp_path, place, *SETTINGS), cwd=ROOT)
    finish(tmp_path, *SETTINGS)
    assert outcome_of(tmp_path / "jobs" / "scripted") == outcome_of(whole)
    assert asked_again(tmp_path / "replies.jsonl") <= len(PLACES) * CHUNK


@pytest.mark.parametrize("setting", ["cascade.frozen_judge=true", "cascade.stages=[agreement]"])
def test_judge_rows_that_could_change_no_judge_are_refused(setting: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"update\.judge_rows\.share: 1\.0"):
        small(tmp_path, *SETTINGS, setting, "data.domain=math", "sampling.block=null")
