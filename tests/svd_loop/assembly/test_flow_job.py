"""A job whose rounds play without waves: its rounds are those of the waves, and it resumes in the middle of one."""

from __future__ import annotations

from pathlib import Path

import pytest

from svd_loop.assembly.job import build_job
from svd_loop.config import Config
from svd_loop.config.controls import GoldAndCascadeControl
from svd_loop.contracts import JobResult
from svd_loop.errors import JobInterrupted
from svd_loop.experiments.controls import control_of
from svd_loop.ledger import Interrupt
from tests.svd_loop.jobs_support import small


class StopAt(Interrupt):
    """Asks to stop when the engine is about to be asked for the n-th time."""

    def __init__(self, last: int = -1) -> None:
        super().__init__()
        self.count = 0
        self._last = last

    def check(self) -> None:
        self.count += 1
        self.requested |= self.count == self._last
        super().check()


def play(config: Config, interrupt: Interrupt) -> JobResult:
    with build_job(config, interrupt=interrupt) as job:
        return job.controller.run()


def outcome(result: JobResult) -> list[object]:
    return [
        (one.scores.correct, one.accepted_prompts, one.prompts, one.rows, one.usage, one.votes, one.funnel, one.health)
        for one in result.history
    ]


@pytest.fixture(scope="module")
def in_waves(tmp_path_factory: pytest.TempPathFactory) -> list[object]:
    return outcome(play(small(tmp_path_factory.mktemp("waves")), Interrupt()))


def test_a_job_in_the_flow_is_the_job_in_waves(in_waves: list[object], tmp_path: Path) -> None:
    result = play(small(tmp_path, "cascade.flow=true"), Interrupt())
    assert outcome(result) == in_waves
    assert "play" in result.history[1].seconds
    assert not {"sample", "judge"} & set(result.history[1].seconds)


def test_a_job_that_is_stopped_in_the_flow_continues_where_it_was(in_waves: list[object], tmp_path: Path) -> None:
    config, stops = small(tmp_path, "cascade.flow=true"), 0
    while True:  # every process gets further, since it asks only what is not stored
        try:
            result = play(config, StopAt(12))
            break
        except JobInterrupted:
            stops += 1
    assert 1 < stops < 30
    assert outcome(result) == in_waves


def test_a_frozen_judge_votes_in_the_flow_what_it_votes_in_waves(tmp_path: Path) -> None:
    frozen, config = "cascade.frozen_judge=true", "cascade.flow=true"
    result = play(small(tmp_path / "flow", frozen, config), Interrupt())
    assert "play" in result.history[1].seconds  # the policy of round 0 judges itself
    assert {"sample", "judge"} <= set(result.history[2].seconds)
    assert outcome(result) == outcome(play(small(tmp_path / "waves", frozen), Interrupt()))


def test_a_control_accepts_in_the_flow_what_it_accepts_in_waves(tmp_path: Path) -> None:
    results = []
    for name, flow in {"flow": "true", "waves": "false"}.items():
        config = small(tmp_path / name, f"cascade.flow={flow}", "job.rounds=1")
        control = control_of(GoldAndCascadeControl(), config)
        with build_job(config, interrupt=Interrupt(), control=control) as job:
            results.append(outcome(job.controller.run()))
    assert results[0] == results[1]
