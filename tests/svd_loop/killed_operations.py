"""Operations beside a job's own rounds that are killed at any change they make on disk, and then started again.

Each begins in a root that is prepared once, at one path, since stored versions and the registry name absolute paths.
"""

from __future__ import annotations

import json
import shutil
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from policies.versions.weights import Origin, WeightStore
from svd_loop.config import Config
from svd_loop.jobs import run_job
from svd_loop.schedule import StateDb, schedule_folder
from tests.processes import run
from tests.svd_loop.jobs_support import small
from tests.svd_loop.root_state import differences, state_of
from tests.svd_loop.schedule import intake
from tests.svd_loop.schedule.schedule_support import drop, schedule_config, texts

TINY = (
    "data.train.count=4",
    "data.development.count=3",
    "data.prompts_per_round=6",
    "sampling.n=2",
    "sampling.block=1",
    "cascade.votes=1",
    "evaluation.samples=1",
    "evaluation.pass_at=[1]",
    "job.rounds=1",
)
CLI = "svd_loop.cli"


@dataclass(frozen=True)
class Operation:
    """A command that is killed, and one that follows it undisturbed.

    Attributes:
        prepare: makes the root in which it starts.
        command: module and arguments, from the root.
        after: likewise, what a user does next; its end state shows what the command has left.
    """

    prepare: Callable[[Path], None]
    command: Callable[[Path], Sequence[str]]
    after: Callable[[Path], Sequence[str]] | None = None


class Victim:
    """An operation in a folder of its own, with the state that it leaves undisturbed.

    Attributes:
        places: how many changes it makes on disk: it can be killed before each.
    """

    def __init__(self, operation: Operation, folder: Path) -> None:
        self._operation = operation
        self._root, self._prepared = folder / "root", folder / "prepared"
        self._counted = folder / "counted"
        operation.prepare(self._root)
        shutil.copytree(self._root, self._prepared, symlinks=True)
        self._end()
        self.places = int(self._counted.read_text())
        self._expected = self._state()

    def kill(self, place: int) -> list[str]:
        """Kill it at a place (1 to `places`) and start it again; what differs at the end, or why that failed."""
        shutil.rmtree(self._root)
        shutil.copytree(self._prepared, self._root, symlinks=True)
        assert self._play(place, self._operation.command) != 0, f"place {place}: it ended before it was killed"
        try:
            self._end()
            return differences(self._expected, self._state())
        except AssertionError as failure:
            return [str(failure)]

    def _end(self) -> None:
        self._play(0, self._operation.command)

    def _state(self) -> dict[str, object]:
        if self._operation.after is not None:
            counted = self._counted.read_text()
            self._play(0, self._operation.after)
            self._counted.write_text(counted)
        return state_of(self._root)

    def _play(self, place: int, command: Callable[[Path], Sequence[str]]) -> int:
        module, *arguments = command(self._root)
        killing = [str(place), str(self._counted), str(self._root), module, *arguments]
        outcome = run([sys.executable, "-m", "tests.kill_at", *killing], timeout=300)
        assert outcome.returncode == 0 or (place and outcome.returncode == -signal.SIGKILL), (
            f"{module} {' '.join(arguments)}: exit code {outcome.returncode}\n{outcome.stderr[-3000:]}"
        )
        return outcome.returncode


# ------------------------------------------------------------------------------------------------- fork


def _job(root: Path, *overrides: str) -> Config:
    return small(root, *TINY, *overrides)


def _saved(root: Path, config: Config) -> None:
    (root / "config.yaml").write_text(json.dumps(config.model_dump(mode="json")))


def _prepare_fork(root: Path) -> None:
    run_job(_job(root))
    _saved(root, _job(root, "job.name=child", "sampling.n=3"))


FORK = Operation(_prepare_fork, lambda root: (CLI, "run", str(root / "config.yaml"), "--fork", "scripted@1"))


# -------------------------------------------------------------------------------------------- promotion

_TRACKED = (
    "tracking.enabled=true",
    "tracking.register_as=model",
    "data.test={type: arithmetic, count: 30}",
    "job.rounds=1",
)


def _prepare_promotion(root: Path) -> None:
    for name, skill in (("weak", 0.3), ("good", 0.9)):
        run_job(small(root, *_TRACKED, f"job.name={name}", f"engine.skill={skill}"))
    _saved(root, small(root, *_TRACKED, "job.name=gate"))


PROMOTION = Operation(_prepare_promotion, lambda root: (CLI, "models", "promote", str(root / "config.yaml")))


# ----------------------------------------------------------------------------------------------- export


def _prepare_export(root: Path) -> None:
    """A job whose round 1 is made to be an adapter."""
    config = _job(root)
    run_job(config)
    store = WeightStore(config.job.paths.versions)
    base = root / "base"
    base.mkdir()
    (base / "model.safetensors").write_bytes(b"base")

    def fill(folder: Path) -> None:
        for name in ("adapter_model.safetensors", "adapter_config.json", "tokenizer.json"):
            (folder / name).write_text(json.dumps({"name": name}))

    store.write(1, "lora", fill, Origin(0, base=base))


EXPORT = Operation(
    _prepare_export,
    lambda root: (
        CLI,
        "export",
        "scripted",
        "--root",
        str(root),
        "--to",
        str(root / "out"),
        "--adapter",
        "--version",
        "1",
    ),
)


def _prepare_merging(root: Path) -> None:
    """A job whose round 1 is a real adapter of the embedded model."""
    from peft import LoraConfig, get_peft_model

    from policies.versions.checkpoints import load_checkpoint
    from svd_loop.nano import NANO_CHECKPOINT

    config = _job(root)
    run_job(config)
    adapted = get_peft_model(load_checkpoint(NANO_CHECKPOINT, "float32"), LoraConfig(r=1, target_modules=["q_proj"]))
    WeightStore(config.job.paths.versions).write(
        1, "lora", lambda folder: adapted.save_pretrained(folder), Origin(0, base=NANO_CHECKPOINT)
    )


MERGING = Operation(
    _prepare_merging,
    lambda root: (CLI, "export", "scripted", "--root", str(root), "--to", str(root / "out"), "--version", "1"),
)
PARQUET = Operation(
    lambda root: run_job(_job(root)) and None,
    lambda root: ("svd_loop.ledger", "export", str(root / "jobs/scripted"), str(root / "parquet")),
)


# -------------------------------------------------------------------------------------- schedule, forget


def _tick(root: Path) -> Sequence[str]:
    return CLI, "schedule", str(root / "config.yaml"), "--inbox", str(root / "inbox"), "--once"


def _prepare_tick(root: Path) -> None:
    """A champion, and prompts for a second job."""
    config = schedule_config(
        root, "tracking.enabled=true", "tracking.register_as=model", "schedule.min_prompts=6", "engine.gain=0.9"
    )
    _saved(root, config)
    drop(root / "inbox", "a.jsonl", texts(6, 1))
    _, *arguments = _tick(root)
    outcome = run([sys.executable, "-m", CLI, *arguments])
    assert outcome.returncode == 0, outcome.stderr
    drop(root / "inbox", "b.jsonl", texts(6, 2))


def _prepare_intake(root: Path) -> None:
    """A schedule that waits for more prompts, with a sound file and an unusable one in its inbox."""
    _saved(root, schedule_config(root))
    drop(root / "inbox", "a.jsonl", texts(3, 1))
    intake.tick(root)
    drop(root / "inbox", "b.jsonl", texts(3, 2), age=7200.0)
    drop(root / "inbox", "c.jsonl", ["", *texts(1, 3)])


def _forgotten(root: Path) -> str:
    config = schedule_config(root)
    with StateDb(schedule_folder(config)) as db:
        return str(db.connection.execute("SELECT id FROM prompts ORDER BY number LIMIT 1").fetchone()[0])


def _forget(root: Path) -> Sequence[str]:
    return CLI, "forget", str(root / "config.yaml"), "--prompt", _forgotten(root)


TICK = Operation(_prepare_tick, _tick)
INTAKE = Operation(_prepare_intake, lambda root: ("tests.svd_loop.schedule.intake", str(root)))
FORGET_WAITING = Operation(_prepare_intake, _forget)
FORGET = Operation(
    _prepare_tick,
    _forget,
    after=_tick,
)

OPERATIONS = {
    "fork": FORK,
    "promotion": PROMOTION,
    "export": EXPORT,
    "merging export": MERGING,
    "parquet": PARQUET,
    "forget": FORGET,
    "intake": INTAKE,
    "tick": TICK,
}
