"""Build the choice among the checkpoints of an update."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from policies.versions.weights import WeightStore
from svd_loop.assembly.backends import Backend
from svd_loop.config import Config
from svd_loop.contracts import Evaluator, JobState, Policy, PolicyVersion
from svd_loop.errors import ConfigError
from svd_loop.loop.step_choice import StepChooser
from svd_loop.support.usage import MeteredPolicy

PolicyOpener = Callable[[Callable[[int], Policy]], Callable[[int], MeteredPolicy]]
"""Makes an opener's policies count and store their answers."""

_FEWEST = 20
"""Fewest development problems: ten choose and ten confirm, on which only large differences are found."""


class Checkpoints:
    """The stored checkpoints of a job's updates.

    Args:
        versions: the job's folder of versions.
    """

    def __init__(self, versions: Path) -> None:
        self._versions = versions

    def keep(self, round: int, step: int) -> PolicyVersion:
        """Make the checkpoint of a step the round's version; the others stay until the round is recorded."""
        return WeightStore(self._versions).choose(round, step).version

    def drop(self, state: JobState) -> None:
        """Delete the checkpoints of all recorded rounds."""
        WeightStore(self._versions).drop_steps(state.next_round - 1)


def make_step_chooser(config: Config, evaluator: Evaluator, backend: Backend, opener: PolicyOpener) -> StepChooser:
    """Build the choice; `opener` makes the checkpoints' answers durable like those of versions."""

    def open_step(round: int, step: int) -> MeteredPolicy:
        return opener(partial(backend.open_step, round))(step)

    return StepChooser(open_step, evaluator, config.evaluation.samples, config.evaluation.confidence)


def refuse_few_problems(config: Config, problems: int) -> None:
    """Check that there are enough development problems to choose among checkpoints.

    Raises:
        ConfigError: there are too few.
    """
    if config.update.choose_from and problems < _FEWEST:
        raise ConfigError(
            f"update.choose_from: {config.update.choose_from} needs at least {_FEWEST} development problems, half of "
            f"them to choose and half to confirm, and there are {problems}; add some (data.development), or set "
            "update.choose_from: 0 to keep the last step"
        )
