"""Whole sweeps on the scripted policy: played, resumed, interrupted, shown.

The workers of sweeps that are played here are forks of a process with the imports behind it; the commands, which are
interrupted and killed, start theirs as new interpreters.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from multiprocessing import get_context
from multiprocessing.context import BaseContext
from pathlib import Path

import pytest
from sweeps import sweep_data, write_sweep
from typer.testing import CliRunner

from svd_loop.cli.app import app
from svd_loop.errors import ConfigError, SvdError
from svd_loop.experiments.plan import Plan
from svd_loop.experiments.play import play
from svd_loop.experiments.results import ArmResult, by_arm, read_collection
from svd_loop.experiments.runner import COLLECTION, run_sweep
from svd_loop.ledger import LedgerReader
from tests.processes import FOR_COMMANDS, Process

ROUNDS = 8
"""Of jobs that are stopped on the way."""


@pytest.fixture(scope="module", autouse=True)
def forked_workers() -> Iterator[None]:
    def forking(method: str) -> BaseContext:
        assert method == "spawn"
        return get_context("forkserver")

    with pytest.MonkeyPatch.context() as patch, FOR_COMMANDS.forking():
        patch.setattr("svd_loop.experiments.runner.get_context", forking)
        yield


@pytest.fixture(scope="module")
def played(forked_workers: None, tmp_path_factory: pytest.TempPathFactory) -> tuple[Plan, list[ArmResult]]:
    """One sweep of all arms, two processes."""
    plan = Plan.load(write_sweep(tmp_path_factory.mktemp("sweep")))
    return plan, run_sweep(plan, jobs=2)


def test_every_play_has_its_result_and_the_collection_holds_them_all(played: tuple[Plan, list[ArmResult]]) -> None:
    plan, results = played
    assert [(r.arm, r.seed) for r in results] == [(item.arm, item.seed) for item in plan.plays]
    assert read_collection(plan.folder / COLLECTION) == results


def test_arms_of_a_seed_start_from_the_same_base_and_share_what_was_paid_for(
    played: tuple[Plan, list[ArmResult]],
) -> None:
    arms = by_arm(played[1])
    for seed in (1, 2):
        assert len({arms[arm][seed].base["test"] for arm in arms}) == 1
        assert arms["svd"][seed].taken == 0 < arms["gold"][seed].taken
        assert arms["test-time"][seed].taken > 0


def test_the_unverified_control_accepts_about_as_many_as_the_arm_it_copies(
    played: tuple[Plan, list[ArmResult]],
) -> None:
    arms = by_arm(played[1])
    own = sum(figures.accepted for figures in arms["svd"][1].rounds)
    copied = sum(figures.accepted for figures in arms["unverified"][1].rounds)
    assert 0.5 * own < copied <= 1.3 * own
    assert arms["unverified"][1].calls.keys() == {"solver"}


def test_gold_accepts_what_is_right_and_the_cascade_nearly_so(played: tuple[Plan, list[ArmResult]]) -> None:
    arms = by_arm(played[1])
    assert all(figures.right == 1.0 for figures in arms["gold"][1].rounds[1:])
    assert all(figures.right and figures.right > 0.7 for figures in arms["svd"][1].rounds[1:])
    assert arms["svd"][1].stages["precision.complete"] <= arms["svd"][1].stages["precision.correctness"]


def test_judging_at_test_time_costs_calls_and_trains_nothing(played: tuple[Plan, list[ArmResult]]) -> None:
    result = by_arm(played[1])["test-time"][1]
    assert result.calls["solver"] == 4 * len(result.base["test"].correct)
    assert result.last["test"].samples == 1 and result.rounds == ()
    assert sum(result.last["test"].correct) > sum(result.base["test"].correct) / result.base["test"].samples


def test_playing_again_plays_nothing(played: tuple[Plan, list[ArmResult]]) -> None:
    plan, results = played
    ledgers = sorted((plan.folder / "jobs").glob("*/ledger.sqlite"))
    before = [path.stat().st_mtime_ns for path in ledgers]
    assert [play(item) for item in plan.plays] == results
    assert [path.stat().st_mtime_ns for path in ledgers] == before


def test_a_result_of_another_configuration_is_refused(tmp_path: Path) -> None:
    path = write_sweep(tmp_path)
    play(Plan.load(path, arms=["gold"], seeds=[1]).plays[0])
    changed = sweep_data(tmp_path / "runs")
    changed["set"]["sampling.n"] = 4
    path = write_sweep(tmp_path, set=changed["set"])
    with pytest.raises(ConfigError, match="another configuration"):
        play(Plan.load(path, arms=["gold"], seeds=[1]).plays[0])


def test_a_failed_arm_is_reported_and_the_others_are_kept(tmp_path: Path) -> None:
    missing = {"says": "no file", "set": {"data.train": {"type": "files", "paths": [str(tmp_path / "none.jsonl")]}}}
    own = sweep_data(tmp_path)["arms"]["svd"]
    arms = {"svd": own, "broken": missing, "copy": {"says": "c", "accepts_as": "broken"}}
    path = write_sweep(tmp_path, arms=arms, control=None, ceiling=None, claims=[], quick=None, seeds=[1])
    with pytest.raises(SvdError, match=r"(?s)2 of 3 plays failed.*broken-s1: .*none.jsonl.*copy-s1: depends on broken"):
        run_sweep(Plan.load(path))
    assert (tmp_path / "runs" / "sweeps" / "small" / "results" / "svd-s1.json").exists()


def test_the_command_shows_a_table_writes_a_page_and_prints_json(
    played: tuple[Plan, list[ArmResult]], tmp_path: Path
) -> None:
    plan, _ = played
    page = tmp_path / "page.md"
    page.write_text("# Mine\n")
    stored = plan.folder / COLLECTION
    run = CliRunner().invoke(app, ["sweep", str(plan.path), "--results", str(stored), "--report", str(page), "--json"])
    assert run.exit_code == 0, run.output
    data = json.loads(run.stdout)
    assert data["arms"]["svd"]["gain"]["overall"]["value"] > 0
    assert {claim["verdict"] for claim in data["claims"]} <= {"holds", "cannot tell", "does not hold"}
    text = page.read_text()
    assert text.startswith("# Mine") and "| it learns | overall |" in text
    assert (tmp_path / "images" / "small-gains.svg").exists()
    again = CliRunner().invoke(app, ["sweep", str(plan.path), "--results", str(stored), "--report", str(page)])
    assert again.exit_code == 0 and page.read_text() == text


def test_ctrl_c_stops_with_everything_kept_and_the_same_command_continues(tmp_path: Path) -> None:
    changed = sweep_data(tmp_path / "runs")
    path = write_sweep(tmp_path, set=changed["set"] | {"job.rounds": ROUNDS}, seeds=[1])
    command = [sys.executable, "-m", "svd_loop.cli", "sweep", str(path), "--arm", "svd"]
    process = Process(command, stderr=subprocess.PIPE)
    job = tmp_path / "runs" / "sweeps" / "small" / "jobs" / "svd-s1"
    wait_until(lambda: has_begun(job) or process.returncode is not None)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.read()
    assert process.wait(120) == 130, errors
    assert "the same command continues" in errors
    result = run_sweep(Plan.load(path, arms=["svd"], seeds=[1]))[0]
    assert len(result.rounds) == ROUNDS + 1


def test_when_the_command_is_killed_its_workers_end_too_and_the_same_command_continues(tmp_path: Path) -> None:
    changed = sweep_data(tmp_path / "runs")
    path = write_sweep(tmp_path, set=changed["set"] | {"job.rounds": ROUNDS}, seeds=[1])
    command = [sys.executable, "-m", "svd_loop.cli", "sweep", str(path), "--arm", "svd"]
    process = Process(command)
    ledger = tmp_path / "runs" / "sweeps" / "small" / "jobs" / "svd-s1" / "ledger.sqlite"
    wait_until(lambda: ledger.exists() or process.returncode is not None)
    process.send_signal(signal.SIGKILL)
    process.wait()
    wait_until(lambda: not living_in(process.pid))
    assert not living_in(process.pid)
    assert len(run_sweep(Plan.load(path, arms=["svd"], seeds=[1]))[0].rounds) == ROUNDS + 1


def has_begun(job: Path) -> bool:
    """Whether the job's baseline is committed."""
    with suppress(SvdError), LedgerReader.open_for_reading(job) as reader:
        return bool(reader.state().history)
    return False


def wait_until(done: Callable[[], bool]) -> None:
    """Up to two minutes."""
    deadline = time.monotonic() + 120
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def living_in(session: int) -> list[int]:
    """Processes of a session that are not yet dead."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            state, _, _, of = entry.read_text().rpartition(")")[2].split()[:4]
            if int(of) == session and state != "Z":
                found.append(int(entry.parent.name))
    return found
