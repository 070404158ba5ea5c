"""Updates through a real `accelerate launch` with two gloo processes on the CPU.

Launchers and their processes are forks; on one node of a Ray cluster (`tests.policies.cluster.test_on_a_cluster`) they
are new interpreters.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import launch_command_parser

from policies.training import launching
from policies.training import process as training_process
from policies.training.run import Trained
from policies.training.sft import SftUpdater
from policies.versions import precision
from policies.versions.checkpoints import load_model
from policies.versions.stored import stored_version
from policies.versions.weights import WeightStore
from svd_loop.config.update import LaunchSection
from svd_loop.errors import ConfigError, TrainingError
from tests.policies.training.forked_job import LAUNCHES
from tests.policies.updates import parent, rows, settings, updater
from tests.processes import FOR_ENGINES, Process


@pytest.fixture
def forked_launches(monkeypatch: pytest.MonkeyPatch) -> None:
    """What this process launches is forked from one that has the training libraries behind it."""
    monkeypatch.setattr(launching, "subprocess", LAUNCHES)


def trained_weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_model(WeightStore(folder / "versions").load(1), device="cpu").state_dict()


def wait_until(condition: Callable[[], bool], seconds: float = 240.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came to be"
        time.sleep(0.01)


def processes_of(work: Path) -> set[str]:
    """`launcher` and the ranks of everything that trains in `work`."""
    found = set()
    for path in work.glob("pid-*"):
        with suppress(OSError):  # it ended while we looked
            state = Path("/proc", path.read_text(), "stat").read_text().rpartition(")")[2].split()[0]
            if state != "Z":
                found.add(path.name.removeprefix("pid-"))
    return found


def step_of(folder: Path) -> int:
    return max(map(launching.finished_steps, (folder / "versions").glob("training-001-*")), default=0)


@pytest.mark.slow
@pytest.mark.usefixtures("forked_launches")
def test_a_killed_job_takes_its_processes_along_and_shards_go_on_to_the_weights_of_one_process(
    tmp_path: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = {"steps": 24, "micro_batch_size": 1, "gradient_checkpointing": True}  # 13 rows: passes end within a batch
    updater(tmp_path / "one", checkpoint, **run).fit(rows(13), round=1, parent=parent(tmp_path / "one"))
    apart = {**run, "checkpoint_steps": 2, "choose_from": 12, "launch": {"processes": 2, "strategy": "fsdp2"}}
    two = tmp_path / "two"
    program = [sys.executable, "-m", "tests.policies.training.forked_job"]
    job = Process([*program, str(two), str(checkpoint), json.dumps(apart)], server=FOR_ENGINES)
    wait_until(lambda: step_of(two) >= 4 or job.poll() is not None)
    work = next((two / "versions").glob("training-001-*")).resolve()
    assert processes_of(work) == {"launcher", "0", "1"}
    job.send_signal(signal.SIGKILL)
    job.wait()
    wait_until(lambda: not processes_of(work))
    assert WeightStore(two / "versions").rounds() == [0]

    printed = ""
    save = SftUpdater._save

    def read_first(self: SftUpdater, trained: Trained, folder: Path) -> None:
        nonlocal printed
        printed = (work / launching.LOG).read_text()
        save(self, trained, folder)

    monkeypatch.setattr(SftUpdater, "_save", read_first)
    result = updater(two, checkpoint, **apart).fit(rows(13), round=1, parent=parent(two))
    assert "continuing from training checkpoint" in printed
    assert (result.steps, result.metrics["steps"]) == (24, 24)
    assert sorted(path.name for path in (two / "versions").iterdir()) == ["round-000", "round-001", "steps-001"]
    assert result.candidates == tuple(range(2, 25, 2))  # those before the kill, too
    early = load_model(stored_version(WeightStore(two / "versions").step_path(1, 2)), device="cpu").state_dict()
    one, base = trained_weights(tmp_path / "one"), load_model(WeightStore(two / "versions").load(0), device="cpu")
    for name, weight in trained_weights(two).items():
        assert torch.allclose(weight, one[name], atol=1e-5), name
        assert not torch.allclose(weight, base.state_dict()[name], atol=1e-3), name
        assert not torch.allclose(early[name], weight, atol=1e-3), name


@pytest.mark.slow
@pytest.mark.usefixtures("forked_launches")
def test_an_adapter_of_shards_is_that_of_one_process(tmp_path: Path, checkpoint: Path) -> None:
    """The weights compared are base and adapter merged."""
    run = {"steps": 6, "method": "lora", "learning_rate": 1e-2}
    for name, launch in {"one": {}, "two": {"launch": {"processes": 2, "strategy": "fsdp2"}}}.items():
        updater(tmp_path / name, checkpoint, **run, **launch).fit(rows(13), round=1, parent=parent(tmp_path / name))
    assert WeightStore(tmp_path / "two" / "versions").load(1).kind == "lora"
    one, two = trained_weights(tmp_path / "one"), trained_weights(tmp_path / "two")
    base = load_model(WeightStore(tmp_path / "two" / "versions").load(0), device="cpu").state_dict()
    assert all(torch.allclose(one[name], two[name], atol=1e-5) for name in one)
    assert any(not torch.allclose(two[name], base[name], atol=1e-3) for name in two)


@pytest.mark.slow
@pytest.mark.usefixtures("forked_launches")
def test_a_process_that_is_killed_is_named_and_nothing_is_stored(tmp_path: Path, checkpoint: Path) -> None:
    launched = updater(tmp_path, checkpoint, steps=2000, method="lora", launch={"processes": 2})

    def kill_rank_1() -> None:
        wait_until(lambda: step_of(tmp_path) >= 1)
        work = next((tmp_path / "versions").glob("training-001-*")).resolve()
        os.kill(int((work / "pid-1").read_text()), signal.SIGKILL)

    killer = threading.Thread(target=kill_rank_1)
    killer.start()
    with pytest.raises(TrainingError, match=r"training process \d was ended by SIGKILL \(out of memory\?\)"):
        launched.fit(rows(13), round=1, parent=parent(tmp_path))
    killer.join()
    assert WeightStore(tmp_path / "versions").rounds() == [0]


def test_the_words_of_a_process_reach_the_user(tmp_path: Path) -> None:
    (tmp_path / launching.LOG).write_text("a long story")

    def failed(*errors: BaseException) -> BaseException:
        for rank, error in enumerate(errors):
            file = training_process.failure_file(tmp_path, rank)
            file.write_text(json.dumps(training_process._failure(error)))
        return launching._failure(tmp_path, 1)

    said = failed(RuntimeError("connection closed by peer"), TrainingError("step 3: the loss is nan"))
    assert isinstance(said, TrainingError) and str(said) == "step 3: the loss is nan"
    assert isinstance(failed(RuntimeError("peer"), torch.OutOfMemoryError("CUDA")), torch.OutOfMemoryError)
    unknown = failed(RuntimeError("no kernel image"), RuntimeError("peer"))
    assert isinstance(unknown, TrainingError) and "RuntimeError: no kernel image" in str(unknown)
    assert str(tmp_path / launching.LOG) in str(unknown)


@pytest.mark.parametrize(
    ("strategy", "kind"), [("ddp", "MULTI_GPU"), ("fsdp2", "FSDP"), ("zero2", "DEEPSPEED"), ("zero3", "DEEPSPEED")]
)
def test_accelerate_reads_every_shipped_strategy(strategy: str, kind: str, tmp_path: Path) -> None:
    path = launching.strategy_file(LaunchSection(processes=2, strategy=strategy))
    read = load_config_from_file(str(path))
    assert read.distributed_type.value == kind and read.num_machines == 1
    if kind == "DEEPSPEED":
        assert read.deepspeed_config["zero_stage"] == int(strategy[-1])
    if kind == "FSDP":
        assert read.fsdp_config["fsdp_version"] == 2
    line = launching.command(tmp_path, LaunchSection(processes=2, strategy=strategy))
    assert line[:3] == [sys.executable, "-m", "accelerate.commands.launch"]
    assert line[-3:] == ["-m", "policies.training.process", str(tmp_path)]
    assert line[line.index("--config_file") + 1] == str(tmp_path / launching.CONFIG)


def test_what_cannot_be_launched_is_refused_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def config(device: str = "cpu", **launch: object) -> dict[str, object]:
        return launching.accelerate_config(settings(launch={"processes": 2, **launch}, bf16=True), device)

    monkeypatch.setattr(precision, "has_bfloat16", lambda on_gpu: False)
    assert config()["use_cpu"] is True and config()["mixed_precision"] == "no"
    monkeypatch.setattr(precision, "has_bfloat16", lambda on_gpu: True)
    assert config()["use_cpu"] is True and config()["mixed_precision"] == "bf16"
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert config("cuda")["use_cpu"] is False and config("cuda")["mixed_precision"] == "bf16"
    with pytest.raises(ConfigError, match=r"processes: 4, but torch sees 2 GPUs"):
        config("cuda", processes=4)
    with pytest.raises(ConfigError, match=r"accelerate_config: .*missing\.yaml"):
        config(accelerate_config=tmp_path / "missing.yaml")
    (tmp_path / "other.yaml").write_text("- a list")
    with pytest.raises(ConfigError, match=r"other\.yaml is not a configuration of accelerate"):
        config(accelerate_config=tmp_path / "other.yaml")
    (tmp_path / "cluster.yaml").write_text(yaml.safe_dump({"distributed_type": "MULTI_GPU", "num_machines": 2}))
    with pytest.raises(ConfigError, match="num_machines is 2"):
        config(accelerate_config=tmp_path / "cluster.yaml")
    monkeypatch.setattr(launching.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="pip install deepspeed"):
        config(strategy="zero3")
    with pytest.raises(ValueError, match=r"batch_size: 4 rows cannot be shared equally by .*processes: 3"):
        settings(launch={"processes": 3})
    with pytest.raises(ValueError, match=r"fsdp2 needs update\.launch\.processes above 1"):
        settings(launch={"strategy": "fsdp2"})
    with pytest.raises(ConfigError, match=r"update\.launch\.type: ray needs Ray, which is not installed"):
        config(type="ray")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match=r"update\.launch\.type: slurm, but there is no srun here"):
        config(type="slurm")


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"launch": {"processes": 4, "nodes": 2}}, r"nodes: 2 needs update\.launch\.type: ray or slurm"),
        ({"launch": {"type": "ray", "processes": 4, "nodes": 3}}, r"processes: 4 cannot be divided .*nodes: 3"),
        ({"launch": {"type": "ray", "processes": 4, "strategy": "zero3"}}, r"strategy: zero3 .* use fsdp2"),
        (
            {"launch": {"type": "ray", "processes": 4}, "checkpoint_steps": 5},
            r"checkpoint_steps: 5 cannot be",
        ),
    ],
)
def test_nodes_that_cannot_work_together_are_refused(keys: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        settings(**keys)


def test_slurm_starts_the_launcher_once_on_every_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stand-ins print what srun and Python would be asked; accelerate reads it."""
    (tmp_path / "srun").write_text(
        f"#!{sys.executable}\n"
        "import os, subprocess, sys\n"
        "rest = sys.argv[1:]\n"
        "assert rest[:6] == ['--nodes', '2', '--ntasks', '2', '--ntasks-per-node', '1'], rest\n"
        "for rank in ('0', '1'):\n"
        "    subprocess.run(rest[7:], env={**os.environ, 'SLURM_PROCID': rank}, check=True)\n"
    )
    (tmp_path / "python").write_text(f"#!{sys.executable}\nimport json, sys\nprint(json.dumps(sys.argv[1:]))\n")
    for name in ("srun", "python"):
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(launching.sys, "executable", str(tmp_path / "python"))
    asked = settings(launch={"type": "slurm", "processes": 4, "nodes": 2})
    written = launching.accelerate_config(asked, "cpu")
    assert (written["num_machines"], written["num_processes"]) == (2, 4)
    line = launching.command(tmp_path, asked.launch)
    done = subprocess.run(line, capture_output=True, text=True, check=True)
    first, second = map(json.loads, done.stdout.splitlines())
    place = first.index("--machine_rank") + 1
    assert (first[place], second[place]) == ("0", "1")
    assert first[:place] == second[:place] and first[place + 1 :] == second[place + 1 :]
    parsed = launch_command_parser().parse_args(first[2:])
    assert (parsed.machine_rank, parsed.main_process_ip) == (0, socket.gethostname())
    assert parsed.main_process_port > 0
    assert (parsed.training_script, parsed.training_script_args) == ("policies.training.process", [str(tmp_path)])
