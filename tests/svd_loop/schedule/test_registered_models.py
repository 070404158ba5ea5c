"""A schedule on the real registry, and through the command line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from policies.scripted import Traits, write_traits
from svd_loop.cli.app import app
from svd_loop.config import Config
from svd_loop.errors import ConfigError
from svd_loop.mlflow_store.connection import open_store
from svd_loop.mlflow_store.registry import CHALLENGER, CHAMPION, Registry
from svd_loop.nano import NANO_CHECKPOINT
from svd_loop.schedule import RegisteredModels, Schedule
from svd_loop.schedule.models import starting_checkpoint, tokenizer_digest
from tests.svd_loop.jobs_support import SCRIPTED
from tests.svd_loop.schedule.schedule_support import Clock, Decided, drop, schedule_config, texts


def promote(config: Config, name: str) -> Decided:
    registry = Registry(open_store(None, config.job.root, config.tracking.experiment).client)
    challenger = registry.by_alias(name, CHALLENGER)
    assert challenger is not None
    registry.set_alias(name, CHAMPION, challenger.number)
    return Decided(True, ())


def test_a_tick_on_the_real_registry(root: Path) -> None:
    config = schedule_config(root, "tracking.enabled=true", "schedule.model=served", development=20, test=20)
    drop(root / "inbox", "a.jsonl", texts(12, 1))
    models = RegisteredModels(config, "served")
    assert models.champion() is None
    report = Schedule(config, root / "inbox", gate=promote, models=models, clock=Clock()).tick()
    version = root / "jobs" / "scripted-001" / "versions" / "round-001"
    assert report.action == "promoted"
    assert models.champion() == version.resolve()
    assert models.is_registered(version) and not models.is_registered(version.with_name("round-007"))
    assert starting_checkpoint(version, root / "unused") == version.resolve()


def test_without_a_registry_there_is_no_schedule(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"tracking\.enabled: false"):
        RegisteredModels(schedule_config(tmp_path), "served")


def test_tokens_are_exchanged_between_equal_vocabularies_alone(tmp_path: Path) -> None:
    def digest(folder: Path) -> str:
        data = schedule_config(tmp_path).model_dump(mode="json")
        data |= {"model": {"path": str(folder)}, "engine": {"type": "transformers"}}
        return tokenizer_digest(Config.model_validate(data))

    copy = shutil.copytree(NANO_CHECKPOINT, tmp_path / "copy")
    tokenizer = json.loads((copy / "tokenizer.json").read_text())
    tokenizer["pre_tokenizer"] = None
    (copy / "tokenizer.json").write_text(json.dumps(tokenizer, indent=1))
    assert digest(copy) == digest(NANO_CHECKPOINT)
    first, second, *_ = tokenizer["model"]["vocab"]
    vocabulary = tokenizer["model"]["vocab"]
    vocabulary[first], vocabulary[second] = vocabulary[second], vocabulary[first]
    (copy / "tokenizer.json").write_text(json.dumps(tokenizer))
    assert digest(copy) != digest(NANO_CHECKPOINT)


def test_the_command_line(root: Path) -> None:
    def svd(*arguments: str) -> tuple[int, str]:
        command = ["schedule", str(SCRIPTED), "-o", f"job.root={root}", *arguments]
        done = CliRunner().invoke(app, command)
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return done.exit_code, done.stdout

    drop(root / "inbox", "a.jsonl", texts(3, 1))
    inbox = ("--inbox", str(root / "inbox"))
    code, out = svd(*inbox, "--once", "--json")
    report = json.loads(out)
    assert (code, report["action"], report["intake"]["files"]) == (0, "waiting", ["000001-a.jsonl"])
    code, out = svd("--status", "--json")
    status = json.loads(out)
    assert (code, status["prompts"]["waiting"], len(status["files"]), status["jobs"]) == (0, 3, 1, [])
    assert svd("--status")[0] == 0
    assert svd("--once")[0] == svd(*inbox)[0] == svd(*inbox, "--once", "--status")[0] == 2
    with pytest.raises(ConfigError, match="--cron soon"):
        svd(*inbox, "--cron", "soon")


def test_a_version_of_a_script_is_its_own_checkpoint(tmp_path: Path) -> None:
    write_traits(tmp_path / "round-003", Traits(skill=0.7), round=3)
    assert starting_checkpoint(tmp_path / "round-003", tmp_path / "unused") == (tmp_path / "round-003").resolve()
