"""A job that never got as far as a round takes other settings: whoever mends a mistake is not sent to another name."""

from __future__ import annotations

from pathlib import Path

import pytest

from svd_loop.config import Config, load_config
from svd_loop.contracts import JobPaths
from svd_loop.errors import JobConflictError, SvdError
from svd_loop.jobs import run_job
from svd_loop.ledger import Interrupt, Ledger
from tests.svd_loop.job_outcome import outcome_of
from tests.svd_loop.jobs_support import small

NANO = Path(__file__).parents[2] / "configs" / "nano.yaml"


def rows(path: Path, column: str = "prompt") -> Path:
    path.write_text("".join(f'{{"{column}": "What is {n} + {n}?", "answer": "{2 * n}"}}\n' for n in range(8)))
    return path


@pytest.mark.parametrize("mistake", ["no such file", "another column"])
def test_data_that_cannot_be_read_is_mended_under_the_same_name(root: Path, mistake: str) -> None:
    path = root / "given.jsonl" if mistake == "no such file" else rows(root / "given.jsonl", "wrong")
    with pytest.raises(SvdError):
        run_job(small(root, f"data.train={{type: files, paths: [{path}]}}", "data.domain=math"))
    run_job(small(root))
    run_job(small(root / "other"))
    assert outcome_of(root / "jobs" / "scripted") == outcome_of(root / "other" / "jobs" / "scripted")


def test_another_model_is_taken_by_a_job_without_a_round(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    def nano(*overrides: str) -> Config:
        few = ["data.train.count=2", "data.development.count=1", "data.test=null", "tracking.enabled=false"]
        return load_config(NANO, [*few, f"job.root={root}", *overrides])

    from svd_loop.assembly.job import build_job

    copy = root / "copy"
    copy.mkdir()
    for file in (NANO.parents[1] / "policies" / "nano").iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    (copy / "generation_config.json").write_text("{}")  # other contents, so another fingerprint
    for overrides in ((), (f"model.path={copy}", "job.seed=5"), ()):
        with build_job(nano(*overrides), interrupt=Interrupt()) as job:
            assert job.config.job.seed == (5 if overrides else 0)
    assert "no round was finished, so the job starts with the changed settings: job.seed: 0 -> 5" in caplog.text


def test_a_job_with_a_measured_start_refuses(root: Path) -> None:
    Ledger.open(JobPaths(root / "jobs" / "scripted").folder, small(root)).close()
    run_job(small(root, "job.seed=3", "job.rounds=1"))
    with pytest.raises(JobConflictError, match=r"job\.seed: 3 -> 4"):
        run_job(small(root, "job.seed=4"))
