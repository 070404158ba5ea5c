"""Expand a sweep's file into plays, each with its complete and validated configuration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

from svd_loop.config import Config, changed_config, config_digest, load_sweep
from svd_loop.config.controls import AnyControl, RandomControl
from svd_loop.config.data import Source
from svd_loop.config.stages import PAPER
from svd_loop.config.sweep import ArmSection, SweepSection
from svd_loop.contracts import RootPaths
from svd_loop.errors import ConfigError
from svd_loop.experiments.controls import refuse_conflicts
from svd_loop.support.listing import listing

_ALONE = {"tracking.enabled": False}
"""Arms are not logged to MLflow, because no version of a sweep is served."""

_TO_THE_END = {"plateau.patience": 10_000, "plateau.regression": 1.0, "health.action": "warn"}
"""Arms that are not `guarded` play all their rounds, whatever their scores and alarms."""


@dataclass(frozen=True, slots=True)
class Play:
    """One arm with one seed.

    Attributes:
        arm: name of the arm.
        seed: the job seed.
        section: the arm's section of the file.
        config: the job.
        control: acceptor in place of the judges; for an arm with `accepts_as` its rates are set later.
        folder: the sweep's folder.
        held_out: further held-out sets on which its versions are measured.
    """

    arm: str
    seed: int
    section: ArmSection
    config: Config
    control: AnyControl | None
    folder: Path
    held_out: Mapping[str, Source]

    @property
    def name(self) -> str:
        """Name of its job and its files."""
        return f"{self.arm}-s{self.seed}"

    @property
    def digest(self) -> str:
        """Digest of everything that determines its result."""
        sources = "\x1f".join(f"{name}={source.model_dump_json()}" for name, source in self.held_out.items())
        where = self.config.job.model_copy(update={"root": Path()})
        control = f"/{self.control.model_dump_json()}" if self.control else ""
        own = config_digest(self.config.model_copy(update={"job": where}))
        return own + control + (f"/{sources}" if sources else "")

    @property
    def shared(self) -> Path:
        """File of the answers that the arms of its seed share."""
        return self.folder / f"answers-s{self.seed}.sqlite"

    def accepting(self, rates: Sequence[float]) -> Play:
        """Return this play with random acceptance at these rates in round 1, 2, ..."""
        return replace(self, control=RandomControl(rates=tuple(rates)))


@dataclass(frozen=True)
class Plan:
    """A sweep with all of its plays.

    Attributes:
        section: the file's contents.
        path: path of the file.
        root: folder in which sweeps are written.
        chosen: seeds for every arm; empty uses each arm's seeds in the file.
        arms: the arms to play, each after the arm it depends on.
    """

    section: SweepSection
    path: Path
    root: Path
    chosen: tuple[int, ...]
    arms: tuple[str, ...]

    @classmethod
    def load(
        cls,
        path: Path,
        *,
        quick: bool = False,
        arms: Sequence[str] = (),
        seeds: Sequence[int] = (),
        root: Path | None = None,
    ) -> Plan:
        """Read a sweep's file and check the configuration of every arm that is to be played.

        Args:
            path: the file.
            quick: use the file's short form.
            arms: only these arms and those they depend on; empty means all.
            seeds: only these seeds; empty means all.
            root: folder in which sweeps are written; None uses the file's.

        Raises:
            ConfigError: the file or an arm's configuration is not valid, or an arm is unknown.
        """
        section = load_sweep(path)
        if quick and section.quick is None:
            raise ConfigError(f"{path}: --quick needs a `quick` section with seeds and arms")
        if unknown := [arm for arm in arms if arm not in section.arms]:
            raise ConfigError(f"--arm {', '.join(unknown)}: {path} has {listing(unknown[0], section.arms)}")
        short = section.quick if quick else None
        wanted = tuple(arms) or (short.arms if short else tuple(section.arms))
        chosen = tuple(seeds) or (short.seeds if short else ())
        plan = cls(section, path, root or section.root, chosen, _in_order(section, wanted, path))
        assert plan.plays, "this also checks the configuration of every arm"
        return plan

    @property
    def folder(self) -> Path:
        """Folder of all files of the sweep."""
        return RootPaths(self.root).sweep(self.section.name)

    @cached_property
    def seeds(self) -> tuple[int, ...]:
        """All seeds that at least one arm plays."""
        return tuple(dict.fromkeys(seed for arm in self.arms for seed in self._seeds_of(arm)))

    @cached_property
    def plays(self) -> tuple[Play, ...]:
        """All plays: every arm with each of its seeds, seed by seed."""
        return tuple(self._play(arm, seed) for seed in self.seeds for arm in self.arms if seed in self._seeds_of(arm))

    def _seeds_of(self, arm: str) -> tuple[int, ...]:
        return self.chosen or self.section.seeds_of(arm)

    def _play(self, arm: str, seed: int) -> Play:
        section = self.section.arms[arm]
        name = f"{arm}-s{seed}"
        rules = {} if section.guarded else _TO_THE_END
        changes = {
            **_ALONE,
            **rules,
            **self.section.set,
            **changes_of(self.section, arm),
            "job.root": str(self.folder),
            "job.name": name,
            "job.seed": seed,
        }
        if section.accepts_as is not None:
            # It asks no stage, and one candidate cannot agree with another.
            changes |= {"sampling.n": 1, "sampling.block": None, "cascade.stages": [stage.type for stage in PAPER]}
        base = self.section.config if self.section.config.is_absolute() else self.path.parent / self.section.config
        config = changed_config(base, changes, f"{self.path}: arms.{arm}")
        if config.data.test is None:
            raise ConfigError(f"{self.path}: arms.{arm}: a sweep compares on the test split, and data.test is missing")
        control = RandomControl() if section.accepts_as is not None else control_section(self.section, arm)
        if control is not None:
            try:
                refuse_conflicts(control, config)
            except ConfigError as error:
                raise ConfigError(f"{self.path}: arms.{arm}: {error}") from None
        held_out = {other: self.section.held_out[other] for other in section.also}
        return Play(arm, seed, section, config, control, self.folder, held_out)


def changes_of(section: SweepSection, arm: str) -> dict[str, Any]:
    """Return the keys an arm changes, including those of the arms it is `like`."""
    own = section.arms[arm]
    return {**(changes_of(section, own.like) if own.like else {}), **own.set}


def control_section(section: SweepSection, arm: str) -> AnyControl | None:
    """Return the control of an arm, or of the arm it is `like`."""
    own = section.arms[arm]
    return own.control or (control_section(section, own.like) if own.like else None)


def _in_order(section: SweepSection, wanted: Sequence[str], path: Path) -> tuple[str, ...]:
    """Return the wanted arms and the arms they depend on, each after those; otherwise in the order of the file."""
    graph = {name: {arm.accepts_as} if arm.accepts_as else set() for name, arm in section.arms.items()}
    _refuse_cycles({name: {arm.like} if arm.like else set() for name, arm in section.arms.items()}, "like", path)
    _refuse_cycles(graph, "accepts_as", path)
    needed: list[str] = []

    def need(name: str) -> None:
        for other in graph[name]:
            need(other)
        if name not in needed:
            needed.append(name)

    for name in section.arms:
        if name in wanted:
            need(name)
    return tuple(needed)


def _refuse_cycles(graph: Mapping[str, set[str]], key: str, path: Path) -> None:
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        cycle = " -> ".join(error.args[1])
        raise ConfigError(f"{path}: arms refer to each other in a cycle ({key}): {cycle}") from None
