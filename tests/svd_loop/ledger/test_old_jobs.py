"""Jobs of version 0.1.0, kept as that version wrote them: reports, explanations and resumes still work.

`data/jobs-0.1.0.tar.xz` holds two finished jobs of `configs/scripted.yaml` with `SETTINGS`: `plain`, and `revising`,
which has `sampling.revise: true`, an option that was removed.
"""

from __future__ import annotations

import json
import sqlite3
import tarfile
from contextlib import closing
from pathlib import Path

import pytest

from svd_loop.config import Config, load_config
from svd_loop.contracts import JobPaths, UsagePurpose
from svd_loop.errors import ConfigError
from svd_loop.jobs import report_job, run_job
from svd_loop.ledger import LedgerReader, schema
from svd_loop.ledger.export import export_parquet
from svd_loop.promotion.lineage import explain
from svd_loop.report.round_metrics import metrics_of
from tests.svd_loop.jobs_support import SCRIPTED

KEPT = Path(__file__).parent / "data" / "jobs-0.1.0.tar.xz"
SETTINGS = (
    "data.train.count=3",
    "data.development.count=2",
    "data.test=null",
    "data.prompts_per_round=5",
    "sampling.n=2",
    "cascade.votes=1",
    "evaluation.samples=1",
    "evaluation.pass_at=[1]",
    "job.rounds=2",
    "tracking.enabled=false",
    "health.canaries=1",
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    with tarfile.open(KEPT) as archive:
        archive.extractall(tmp_path / "jobs", filter="data")
    return tmp_path


def config(root: Path, job: str, *overrides: str) -> Config:
    return load_config(SCRIPTED, [*SETTINGS, f"job.root={root}", *overrides], name=job)


def answers(root: Path, job: str) -> int:
    with LedgerReader.open_for_reading(root / "jobs" / job) as reader:
        [row] = reader.query("SELECT count(*) AS answers FROM answers")
        return int(row["answers"])


def version(root: Path, job: str, suffix: str = "") -> int:
    path = JobPaths(root / "jobs" / job).ledger
    with closing(sqlite3.connect(path.with_name(f"{path.name}{suffix}"))) as connection:
        return schema.version_of(connection)


def test_an_old_job_is_reported_and_explained_as_it_lies(root: Path) -> None:
    state, page = report_job("plain", root)
    assert [record.scores.pass_at_1.value for record in state.history] == pytest.approx([1 / 3, 2 / 3, 1.0])
    assert "plain" in page.read_text()
    with LedgerReader.open_for_reading(root / "jobs" / "plain") as reader:
        row = reader.accepted_rows()[0]
    [found, *_] = explain("plain", root, row.prompt_id)
    assert [vote["value"] for vote in found.votes] == ["yes"] * 3 and found.trained
    assert version(root, "plain") == 3


def test_an_old_jobs_figures_have_types_and_the_names_they_had(root: Path) -> None:
    with LedgerReader.open_for_reading(root / "jobs" / "plain") as reader:
        history = reader.state().history
        written = [json.loads(row["metrics"]) for row in reader.query("SELECT metrics FROM rounds ORDER BY round")]
    assert [metrics_of(record) for record in history] == written
    assert history[1].usage[UsagePurpose.CANARY]["grader"].calls > 0 and history[1].update and not history[1].metrics
    assert history[1].health is not None and history[1].health.shares


def test_an_old_job_continues_without_generating_anything_again(root: Path) -> None:
    before, _ = report_job("plain", root)
    paid = answers(root, "plain")
    assert run_job(config(root, "plain")).history == before.history
    assert answers(root, "plain") == paid
    assert (version(root, "plain"), version(root, "plain", ".v3")) == (len(schema.MIGRATIONS), 3)
    further = run_job(config(root, "plain", "job.rounds=3"))
    assert further.history[:3] == before.history and len(further.history) == 4


def test_an_old_job_is_exported_before_and_after_its_migration(root: Path, tmp_path: Path) -> None:
    written = []
    for name in ("before", "after"):
        with LedgerReader.open_for_reading(root / "jobs" / "plain") as reader:
            written.append(export_parquet(reader, tmp_path / name))
        run_job(config(root, "plain"))
    assert written[0] == written[1] and written[0]["rounds"] == 3


def test_a_job_that_used_a_removed_option_can_be_read_but_not_go_on(root: Path) -> None:
    state, _ = report_job("revising", root)
    assert len(state.history) == 3
    with pytest.raises(ConfigError, match=r"revising .*\n  sampling\.revise: True: version 0\.1\.0 was the last"):
        run_job(config(root, "revising", "engine.skill=0.3"))
