"""A package of somebody else adds a domain, a stage, an engine, an update algorithm and a tracker, and plays a job."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from svd_loop.config import load_config
from svd_loop.errors import ConfigError
from svd_loop.ledger import LedgerReader
from tests.processes import run as forked

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PROGRAM = """
import sys
from unittest import mock
from tests.svd_loop.drawing import SAVEFIG, draw_nothing
sys.path.insert(0, sys.argv.pop(1))
from svd_loop.cli import main
with mock.patch(SAVEFIG, draw_nothing):
    main()
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package, built and installed by pip."""
    source, target = tmp_path_factory.mktemp("source") / "package", tmp_path_factory.mktemp("site")
    shutil.copytree(HERE / "package", source)
    options = ["--quiet", "--no-index", "--no-deps", "--no-build-isolation", "--no-warn-script-location"]
    command = [sys.executable, "-m", "pip", "install", *options, "--target", str(target), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return target


def run(site: Path, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """The command line in a fork that looks for packages in the folder first; it draws no figures."""
    return forked([sys.executable, "-c", PROGRAM, str(site), *arguments], cwd=cwd)


@pytest.fixture(scope="module")
def played(site: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The folder of a played job, and what it printed."""
    folder = tmp_path_factory.mktemp("job")
    shutil.copyfile(HERE / "job.yaml", folder / "job.yaml")
    numbers = [(a, b, a * b % 17) for a in range(11, 31) for b in range(2, 5)]
    rows = [{"prompt": f"Add up: {a} {b} {c}", "answer": a + b + c} for a, b, c in numbers]
    (folder / "train.jsonl").write_text("".join(json.dumps({"prompt": row["prompt"]}) + "\n" for row in rows[::2]))
    (folder / "held-out.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows[1::2]))
    done = run(site, "run", "job.yaml", "-o", "job.root=runs", "--json", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder, json.loads(done.stdout)


@pytest.mark.slow
def test_the_job_runs_and_gets_better(played: tuple[Path, dict[str, Any]]) -> None:
    folder, result = played
    told = (folder / "rounds.txt").read_text().splitlines()
    assert [line.split()[:2] for line in told[:3]] == [["abacus", "0"], ["abacus", "1"], ["abacus", "2"]]
    scores = [float(line.split()[2]) for line in told[:3]]
    assert scores[0] < 0.5 < scores[1] < scores[2]
    assert told[3] == "abacus stopped: round_limit"
    assert (result["stop_reason"], result["best_round"]) == ("round_limit", 2)


@pytest.mark.slow
def test_every_part_is_the_packages_own(played: tuple[Path, dict[str, Any]]) -> None:
    folder, _ = played
    with LedgerReader.open_for_reading(folder / "runs" / "jobs" / "abacus") as reader:
        config = reader.config()
        last = reader.state().last
        stages = {row["stage"] for row in reader.query("SELECT DISTINCT stage FROM votes")}
        roles = {row["role"] for row in reader.query("SELECT DISTINCT role FROM replies")}
        domains = {row["domain"] for row in reader.query("SELECT DISTINCT domain FROM prompts")}
        assert {prompt.domain for prompt in reader.prompts()} == {"sums"}
    assert (stages, domains) == ({"correctness", "nines"}, {"sums"})
    assert roles == {"solver", "grader", "abacist"}
    assert set(last.scores.estimates) == {"overall", "sums"}
    assert config["engine"]["skill"] == 0.3 and config["update"]["algorithm"] == {"type": "practice", "gain": 0.5}
    assert config["cascade"]["stages"] == ["correctness", "nines"]
    assert config["tracking"]["trackers"] == [{"type": "lines", "path": "rounds.txt"}]
    skill = json.loads((folder / "runs" / "jobs" / "abacus" / "versions" / "round-002" / "skill.json").read_text())
    assert skill == {"skill": 0.3 + 0.35 + 0.175}


@pytest.mark.slow
def test_its_settings_are_part_of_the_job(played: tuple[Path, dict[str, Any]], site: Path) -> None:
    folder, _ = played
    done = run(site, "run", "job.yaml", "-o", "job.root=runs", "-o", "engine.skill=0.4", cwd=folder)
    assert done.returncode != 0 and "engine.skill: 0.3 -> 0.4" in done.stderr


def test_the_packages_own_check_comes_before_any_work(site: Path, tmp_path: Path) -> None:
    """A new interpreter finds the package, too."""
    shutil.copyfile(HERE / "job.yaml", tmp_path / "job.yaml")
    (tmp_path / "train.jsonl").write_text('{"prompt": "Add up: 4 5"}\n')
    (tmp_path / "held-out.jsonl").write_text('{"prompt": "Add up: 1 2", "answer": 3}\n')
    command = [sys.executable, "-m", "svd_loop.cli", "run", "job.yaml", "-o", "job.root=runs", "-o", "engine.skill=0"]
    paths = os.pathsep.join([str(site), str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": paths}
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, env=environment)
    assert done.returncode == 2 and "engine.skill: 0.0 never gives a right total" in done.stderr


def test_without_the_package_the_known_names_are_listed() -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(HERE / "job.yaml")
    told = str(caught.value)
    assert "engine.type: no engine is called 'abacus'; known: ray, scripted, server, transformers, vllm" in told
    assert "no domain is called 'sums'; known: coding, math, science" in told
    assert "no stage is called 'nines'; known: agreement, correctness, cycle_consistency, factuality" in told
    assert "no update algorithm is called 'practice'; known: dpo, grpo, kto, sft" in told
    assert "no tracker is called 'lines'; known: mlflow, tensorboard" in told
