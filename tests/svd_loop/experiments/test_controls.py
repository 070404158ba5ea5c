from __future__ import annotations

from pathlib import Path

import pytest

from svd_loop.config import load_config
from svd_loop.config.controls import (
    AnyControl,
    GoldAndCascadeControl,
    GoldControl,
    RandomControl,
    SelfCertaintyControl,
    SelfConsistencyControl,
)
from svd_loop.contracts import JobPaths, JobResult
from svd_loop.errors import ConfigError, JobConflictError
from svd_loop.experiments.controls import control_of, refuse_conflicts
from svd_loop.jobs import report_job, run_job
from svd_loop.ledger import Ledger, LedgerReader
from tests.svd_loop.jobs_support import SCRIPTED, small

NANO = SCRIPTED.with_name("nano.yaml")
QWEN = SCRIPTED.with_name("qwen3-4b.yaml")


def played(root: Path, section: AnyControl, *overrides: str) -> JobResult:
    config = small(root, "job.rounds=1", "sampling.block=null", *overrides)
    return run_job(config, control=control_of(section, config))


@pytest.mark.parametrize(
    ("file", "override", "section", "message"),
    [
        (QWEN, "job.rounds=1", GoldControl(), r"gold needs a generator .*data\.train\.type is files"),
        (QWEN, "job.rounds=1", GoldAndCascadeControl(), r"gold_and_cascade needs a generator"),
        (NANO, "sampling.block=2", SelfConsistencyControl(), r"self_consistency compares all .*sampling\.block: 2"),
        (NANO, "sampling.block=2", SelfCertaintyControl(), r"self_certainty compares all .*sampling\.block: 2"),
        (SCRIPTED, "sampling.block=null", SelfCertaintyControl(), r"engine\.type: scripted has none"),
    ],
)
def test_a_control_that_cannot_work_with_the_job_is_refused(
    file: Path, override: str, section: AnyControl, message: str
) -> None:
    with pytest.raises(ConfigError, match=f"control: .*{message}"):
        refuse_conflicts(section, load_config(file, [override]))


def test_gold_and_cascade_accepts_what_both_accept(tmp_path: Path) -> None:
    settings = (
        "engine.true_positive=0.9",
        "engine.false_positive=0.5",
        "cascade.votes=1",
        "cascade.selection=all_valid",
    )
    method = run_job(small(tmp_path / "a", "job.rounds=1", "sampling.block=null", *settings))
    accepted = {
        name: accepted_candidates(tmp_path / name)
        for name, section in (("b", GoldControl()), ("c", GoldAndCascadeControl()))
        if played(tmp_path / name, section, *settings)
    }
    cascade = accepted_candidates(tmp_path / "a")
    assert accepted["c"] == accepted["b"] & cascade
    assert accepted["c"] < accepted["b"] and accepted["c"] < cascade
    with LedgerReader.open_for_reading(JobPaths(tmp_path / "c" / "jobs" / "scripted").folder) as reader:
        funnel = reader.state().history[1].funnel
        refused = list(reader.query("SELECT rejection FROM verdicts WHERE rejection = 'gold'"))
    stages = [*method.history[1].funnel][:-1]
    assert [funnel[step] for step in stages] == [method.history[1].funnel[step] for step in stages]
    assert funnel["accepted"] == len(accepted["c"]) == len(cascade) - len(refused)


def accepted_candidates(root: Path) -> set[tuple[str, int]]:
    with LedgerReader.open_for_reading(JobPaths(root / "jobs" / "scripted").folder) as reader:
        return {
            (row["prompt_id"], row["candidate"])
            for row in reader.query("SELECT prompt_id, candidate FROM verdicts WHERE accepted")
        }


def test_a_control_is_part_of_what_makes_a_job_the_same(tmp_path: Path) -> None:
    first = played(tmp_path, RandomControl(rates=(0.5,)))
    assert played(tmp_path, RandomControl(rates=(0.5,))).history == first.history
    for other in (RandomControl(rates=(0.4,)), GoldControl()):
        with pytest.raises(JobConflictError, match=r'another control: .*"rates": \[0\.5\]'):
            played(tmp_path, other)
    with pytest.raises(JobConflictError, match="-> none, the cascade"):
        run_job(small(tmp_path, "job.rounds=1", "sampling.block=null"))
    run_job(small(tmp_path, "job.name=plain", "job.rounds=1", "sampling.block=null"))
    with pytest.raises(JobConflictError, match="none, the cascade ->"):
        played(tmp_path, GoldControl(), "job.name=plain")


def test_a_job_without_a_round_may_begin_under_another_control(tmp_path: Path) -> None:
    config = small(tmp_path, "job.rounds=1", "sampling.block=null")
    for section in (RandomControl(), GoldControl()):
        Ledger.open(config.job.paths.folder, config, control_of(section, config).identity).close()
    with LedgerReader.open_for_reading(config.job.paths.folder) as reader:
        assert reader.control() == {"type": "gold"}
    Ledger.open(config.job.paths.folder, config).close()
    with LedgerReader.open_for_reading(config.job.paths.folder) as reader:
        assert reader.control() is None


def test_a_report_shows_the_control(tmp_path: Path) -> None:
    played(tmp_path, SelfConsistencyControl())
    assert "self_consistency" in report_job("scripted", tmp_path)[1].read_text()
    with LedgerReader.open_for_reading(JobPaths(tmp_path / "jobs" / "scripted").folder) as reader:
        assert reader.settings()["control"] == {"type": "self_consistency"} and "control" not in reader.config()


def test_a_fork_of_a_control_judges_with_the_cascade(tmp_path: Path) -> None:
    played(tmp_path, GoldControl())
    forked = run_job(small(tmp_path, "job.name=fork", "sampling.block=null"), fork_from="scripted@1")
    assert "correctness" not in forked.history[1].funnel and "correctness" in forked.history[2].funnel
