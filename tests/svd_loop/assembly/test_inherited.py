"""Rows of earlier jobs, as a later job replays them."""

from __future__ import annotations

from pathlib import Path

import pytest

from svd_loop.assembly.inherited import inherited_rows
from svd_loop.config.schedule import EarlierSection
from svd_loop.contracts import TrainingRow
from svd_loop.errors import LedgerError
from svd_loop.jobs import run_job
from svd_loop.ledger import LedgerReader
from tests.svd_loop.jobs_support import small


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("inherited")
    run_job(small(root, "data.prompts_per_round=30", "plateau.patience=9"))
    return root


def rows_of(root: Path, *jobs: str, without: tuple[str, ...] = ()) -> list[TrainingRow]:
    return inherited_rows(EarlierSection(jobs=jobs, without=without), root)


def test_each_prompt_has_its_newest_row_as_of_round_0(root: Path) -> None:
    with LedgerReader.open_for_reading(root / "jobs" / "scripted") as reader:
        newest = {row.prompt_id: row.input_ids for row in reader.accepted_rows()}
        count = len(reader.accepted_rows())
    rows = rows_of(root, "scripted@2")
    assert {row.prompt_id: row.input_ids for row in rows} == newest
    assert len(rows) == len(newest) < count  # some prompts were accepted in both rounds
    assert {row.round for row in rows} == {0}


def test_rows_of_later_rounds_and_of_left_out_prompts_stay_behind(root: Path) -> None:
    with LedgerReader.open_for_reading(root / "jobs" / "scripted") as reader:
        first = [row.prompt_id for row in reader.accepted_rows(range(1, 2))]
    assert [row.prompt_id for row in rows_of(root, "scripted@1")] == first
    assert [row.prompt_id for row in rows_of(root, "scripted@1", without=(first[0],))] == first[1:]
    assert rows_of(root) == []


def test_a_lost_ledger_is_told_of(root: Path) -> None:
    with pytest.raises(LedgerError, match="gone-001"):
        rows_of(root, "gone-001@1")
