"""`svd-loop init`: the starter is complete and valid, and its domain scores; its job is played by hand (a minute)."""

from __future__ import annotations

import json
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
from typer.testing import CliRunner

from envs.domains import domain_of
from svd_loop.assembly.data import held_out, prompts_of
from svd_loop.cli.app import app
from svd_loop.config import load_config
from svd_loop.config.domains import DOMAINS
from svd_loop.contracts import Outcome, Problem


@pytest.fixture(scope="module")
def starter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("init") / "mine"
    done = CliRunner().invoke(app, ["init", str(folder)])
    assert done.exit_code == 0 and f"  cd {folder}\n" in done.stderr and "  svd-loop run config.yaml" in done.stderr
    return folder


def test_the_configuration_reads_its_data(starter: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(starter)
    config = load_config(Path("config.yaml"), [])
    assert config.job.name == "mine"
    prompts = {prompt.text for prompt in prompts_of(config.data.train)}
    problems = {split: {problem.text for problem in found} for split, found in held_out(config).items()}
    assert len(prompts) == 80 and {split: len(texts) for split, texts in problems.items()} == {
        "development": 60,
        "test": 60,
    }
    assert prompts.isdisjoint(problems["development"]) and problems["development"].isdisjoint(problems["test"])


@pytest.mark.parametrize(("folder", "name"), [("my stuff", "my-stuff"), ("2026", "2026"), ("数学", "starter")])
def test_any_folder_gives_a_job_a_name(folder: str, name: str, tmp_path: Path) -> None:
    assert CliRunner().invoke(app, ["init", str(tmp_path / folder)]).exit_code == 0
    assert load_config(tmp_path / folder / "config.yaml", []).job.name == name


def test_its_domain_scores(starter: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(starter / "domain"))
    row = EntryPoint("rounded", "rounded_domain:ROW", DOMAINS.group).load()
    monkeypatch.setitem(DOMAINS._loaded, "rounded", row)
    score = domain_of("rounded").score
    problem = Problem("p", "How many?", "rounded", answer="1000")
    assert score("It is\n1,005 or so: 1005", problem) is Outcome.RIGHT
    assert score("1100", problem) is Outcome.WRONG and score("many", problem) is Outcome.WRONG
    sys.modules.pop("rounded_domain", None)


def test_nothing_is_overwritten(starter: Path) -> None:
    done = CliRunner().invoke(app, ["init", str(starter)])
    assert "nothing is overwritten" in str(done.exception)
    assert json.loads((starter / "data" / "prompts.jsonl").read_text().splitlines()[0]).keys() == {"prompt"}
