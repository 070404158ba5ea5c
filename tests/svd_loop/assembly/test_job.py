"""What a job refuses before it has read anything."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from svd_loop.assembly.job import build_job
from svd_loop.config import load_config
from svd_loop.errors import LedgerError, ModelError, NoSuchJobError
from svd_loop.jobs import report_job, run_job
from svd_loop.ledger import Interrupt
from tests.svd_loop.jobs_support import small

NANO = Path(__file__).parents[3] / "configs" / "nano.yaml"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_missing_gpu_is_told_before_prompts_are_read(tmp_path: Path) -> None:
    train = f"data.train={{type: files, domain: math, paths: ['{tmp_path}/unreadable.jsonl']}}"
    config = load_config(NANO, [f"job.root={tmp_path}/root", "model.device=cuda", train])
    with pytest.raises(ModelError, match="sees no GPU"), build_job(config, interrupt=Interrupt()):
        pass
    assert not (tmp_path / "root").exists()


def test_a_root_that_cannot_be_made_names_the_key(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(
        LedgerError, match=r"job\.root: the job's folder .* cannot be created: Not a directory"
    ) as caught:
        run_job(small(tmp_path / "file"))
    assert "committed" not in str(caught.value)


def test_an_unknown_job_lists_those_that_are_there(tmp_path: Path) -> None:
    with pytest.raises(NoSuchJobError, match=r"no such ledger.*has no job"):
        report_job("mine", tmp_path)
    run_job(small(tmp_path, "job.rounds=0"))
    with pytest.raises(NoSuchJobError, match=r"no such ledger.*jobs has scripted$"):
        report_job("mine", tmp_path)
