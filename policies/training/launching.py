"""Run an update in several processes, one per GPU, through `accelerate launch`, on one machine or several.

With `update.launch.type: slurm` the launcher is started once on every node of the allocation, by `srun`; the run's
folder is then on a file system that all of them share. `policies.training.on_ray` does it on a Ray cluster.

The job's process trains nothing then: it writes the run down, gives its memory back, starts the processes and waits.
Their result becomes a version only when all of it is there; a killed run leaves its folder, and continues from
its newest checkpoint when the job is run again.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml

import svd_loop.errors as errors  # not `from svd_loop`: the package's face leads to scoring too
from policies.cluster.connection import require_ray
from policies.training import process as program
from policies.training.run import Trained, TrainingTask
from policies.versions.precision import trains_in_bfloat16
from svd_loop.config.update import LaunchSection, UpdateSection
from svd_loop.contracts import TrainingRow
from svd_loop.errors import ConfigError, SvdError, TrainingError
from svd_loop.support.environment import without_secrets
from svd_loop.support.progress import progress
from svd_loop.support.torch_memory import release_memory

CONFIG, LOG = "accelerate.yaml", "output.log"
"""Files in the run's folder, beside those of the processes."""
_POLL_SECONDS = 0.1
_GRACE_SECONDS = 30.0
"""Seconds that the launcher has to end its processes before it is killed; they then end by themselves."""
_TAIL_BYTES = 3000


def launch(task: TrainingTask, rows: Sequence[TrainingRow]) -> Trained:
    """Train in `task.settings.launch.processes` processes.

    Args:
        task: the run; its folder is created if absent and kept for a later attempt.
        rows: what to train on, checked.

    Raises:
        ConfigError: the strategy cannot be used here.
        TrainingError: a process failed; says which and why, as it did itself or in its last words.
        torch.OutOfMemoryError: a process ran out of memory.
    """
    work, settings = task.work, task.settings
    config = accelerate_config(settings, task.device)
    work.mkdir(parents=True, exist_ok=True)
    for old in [*work.glob("failure-*.json"), work / program.STEP, work / program.RESULT]:
        old.unlink(missing_ok=True)
    shutil.rmtree(work / program.WEIGHTS, ignore_errors=True)
    (work / CONFIG).write_text(yaml.safe_dump(config), encoding="utf-8")
    (work / program.TASK).write_text(task.dump(), encoding="utf-8")
    with (work / program.ROWS).open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(program.plain_row(row)) + "\n" for row in rows)
    release_memory()
    steps, launch = task.steps(len(rows)), settings.launch
    where = f" on {launch.nodes} nodes" if launch.nodes > 1 else ""
    with progress(f"{task.label} trains in {launch.processes} processes{where}", steps, "steps") as bar:
        done = 0

        def notice(step: int) -> None:
            nonlocal done
            bar.advance(step - done)
            done = step

        code = (
            _on_ray(task, notice) if launch.type == "ray" else run_here(work, command(work.resolve(), launch), notice)
        )
    if code != 0 or not (work / program.RESULT).exists():
        raise _failure(work, code)
    result = json.loads((work / program.RESULT).read_text(encoding="utf-8"))

    def save(folder: Path) -> None:
        for path in (work / program.WEIGHTS).iterdir():
            shutil.move(path, folder / path.name)

    return Trained(save, result["metrics"], result["steps"])


def accelerate_config(settings: UpdateSection, device: str) -> dict[str, Any]:
    """The configuration for `accelerate launch`: the strategy's or the user's file, with the settings of `update`.

    Args:
        settings: the `update` section.
        device: `cpu` or `cuda`.

    Raises:
        ConfigError: the file cannot be used, DeepSpeed or a GPU is missing, or several machines are asked for.
    """
    section = settings.launch
    path = section.accelerate_config or strategy_file(section)
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
        kind = str(config["distributed_type"])
    except (OSError, yaml.YAMLError, KeyError, TypeError) as error:
        raise ConfigError(
            f"update.launch.accelerate_config: {path} is not a configuration of accelerate: "
            f"{error if isinstance(error, OSError) else repr(error)}"
        ) from None
    if config.get("num_machines", 1) != 1:
        raise ConfigError(f"{path}: num_machines is {config['num_machines']}; set update.launch.nodes instead")
    if kind == "DEEPSPEED" and importlib.util.find_spec("deepspeed") is None:
        raise ConfigError(
            f"{path}: needs DeepSpeed, which is not installed here; pip install deepspeed, or set "
            "update.launch.strategy: fsdp2"
        )
    if section.type == "local":
        _require_gpus(section.processes, device)
    elif section.type == "ray":
        require_ray(key="update.launch.type: ray")
    elif shutil.which("srun") is None:
        raise ConfigError("update.launch.type: slurm, but there is no srun here: start the job by sbatch")
    # If accelerate is configured for the CPU, it leaves DeepSpeed out; the trainer's `use_cpu` is enough.
    on_cpu = device == "cpu" and kind != "DEEPSPEED"
    precision = "bf16" if trains_in_bfloat16(settings.bf16, on_gpu=device != "cpu") else "no"
    shared = {"num_machines": section.nodes, "num_processes": section.processes}
    return {**config, **shared, "mixed_precision": precision, "use_cpu": on_cpu}


def strategy_file(section: LaunchSection) -> Path:
    """The shipped file of a strategy: in a checkout's `configs/accelerate`, or in `svd_loop` once installed."""
    root = Path(__file__).parents[2]
    files = [
        folder / "accelerate" / f"{section.strategy}.yaml" for folder in (root / "configs", root / "svd_loop/configs")
    ]
    return next((file for file in files if file.is_file()), files[0])


def command(work: Path, section: LaunchSection) -> list[str]:
    """The command line of a run in folder `work`, with a free port, because jobs may share the machine."""
    if section.type == "local":
        return accelerate_command(work, "--main_process_port", "0")
    # This process runs on the allocation's first node, where srun starts task 0.
    nodes = str(section.nodes)
    srun = ["srun", "--nodes", nodes, "--ntasks", nodes, "--ntasks-per-node", "1", "--kill-on-bad-exit=1"]
    rank = ["sh", "-c", 'exec "$0" "$@" --machine_rank "$SLURM_PROCID" ' + shlex.join(program_of(work))]
    where = ["--main_process_ip", socket.gethostname(), "--main_process_port", str(free_port())]
    return [*srun, *rank, *accelerate_command(work, *where)[: -len(program_of(work))]]


def accelerate_command(work: Path, *options: str) -> list[str]:
    """`accelerate launch` of the run in folder `work`."""
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(work / CONFIG)]
    return [*launcher, *options, *program_of(work)]


def program_of(work: Path) -> list[str]:
    """The last words of the launcher's command line."""
    return ["-m", program.__name__, str(work)]


def free_port() -> int:
    """A port that nobody listens at now."""
    with socket.socket() as listener:
        listener.bind(("", 0))
        return int(listener.getsockname()[1])


def _require_gpus(processes: int, device: str) -> None:
    if device == "cpu":
        return
    import torch

    if processes > (found := torch.cuda.device_count()):
        raise ConfigError(f"update.launch.processes: {processes}, but torch sees {found} GPUs; each process needs one")


def _on_ray(task: TrainingTask, notice: Callable[[int], None]) -> int:
    from policies.training.on_ray import run_on_nodes

    return run_on_nodes(task, notice)


def run_here(work: Path, command: Sequence[str], notice: Callable[[int], None] = lambda step: None) -> int:
    """Start the processes and wait until all have ended; they end with this one.

    Args:
        work: the run's folder.
        command: the launcher's command line.
        notice: called with the number of finished steps.

    Returns:
        The launcher's exit code.
    """
    root = str(Path(__file__).parents[2])
    paths = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    environment = {**without_secrets(os.environ), "PYTHONPATH": paths}
    with (work / LOG).open("wb") as log:
        launcher = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            start_new_session=True,
            env=environment,
        )
    try:
        while (code := launcher.poll()) is None:
            time.sleep(_POLL_SECONDS)
            notice(finished_steps(work))
    finally:
        _end(launcher)
    return code


def finished_steps(work: Path) -> int:
    """Optimizer steps that process 0 has reported."""
    try:
        return int((work / program.STEP).read_text(encoding="utf-8") or 0)
    except (OSError, ValueError):  # not started, or being written
        return 0


def _end(launcher: subprocess.Popen[bytes]) -> None:
    """End the processes: they watch their stdin, and the launcher ends them when it is asked to."""
    if launcher.stdin is not None:
        launcher.stdin.close()
    if launcher.poll() is None:
        launcher.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            launcher.wait(_GRACE_SECONDS)
        launcher.kill()
    launcher.wait()


def _failure(work: Path, code: int) -> BaseException:
    """Why a run failed, from the process that stated a cause, rather than from one that lost its peers."""
    said = [json.loads(path.read_text(encoding="utf-8")) for path in _by_time(work.glob("failure-*.json"))]
    for failure in said:
        kind = getattr(errors, failure["kind"], None) if failure["kind"] else None
        if isinstance(kind, type) and issubclass(kind, SvdError):
            return kind(failure["message"])
    if any(failure["kind"] == program.OUT_OF_MEMORY for failure in said):
        import torch

        return torch.OutOfMemoryError(next(f["message"] for f in said if f["kind"] == program.OUT_OF_MEMORY))
    output = (work / LOG).read_text(encoding="utf-8", errors="replace")
    where = f"all that the processes printed is in {work / LOG}"
    # The launcher's entry of the process that ended first.
    if killed := re.search(r"rank\s*:\s*(\d+).*?exitcode\s*:\s*-(\d+)", output, re.DOTALL):
        name = signal.Signals(int(killed[2])).name
        hint = " (out of memory?)" if name == "SIGKILL" else ""
        return TrainingError(
            f"training process {killed[1]} was ended by {name}{hint}; run the same command again to continue. {where}"
        )
    if said:
        return TrainingError(f"a training process failed: {said[0]['message']}; {where}")
    return TrainingError(
        f"accelerate launch ended with exit code {code}; its last words:\n{output[-_TAIL_BYTES:].strip()}"
    )


def _by_time(paths: Any) -> list[Path]:
    return sorted(paths, key=lambda path: path.stat().st_mtime)
