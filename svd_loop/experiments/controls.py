"""Build the control of an arm: its acceptor, and the data that identifies the job."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from envs.acceptors import Acceptor
from svd_loop.assembly.data import problems_of
from svd_loop.assembly.job import Control
from svd_loop.config import Config
from svd_loop.config.controls import (
    AnyControl,
    GoldAndCascadeControl,
    GoldControl,
    RandomControl,
    SelfCertaintyControl,
    SelfConsistencyControl,
)
from svd_loop.contracts import Candidate
from svd_loop.errors import ConfigError
from svd_loop.evaluation.evaluation import final_answer
from svd_loop.experiments.acceptors import GoldAcceptor, RandomAcceptor, SelfCertainty, SelfConsistency


def control_of(section: AnyControl, config: Config) -> Control:
    """Build the control of a job.

    Args:
        section: configuration of the control.
        config: the job.

    Raises:
        ConfigError: the two contradict each other.
        DataError: the training problems cannot be read.
    """
    refuse_conflicts(section, config)
    judged = isinstance(section, GoldAndCascadeControl)
    return Control(section.model_dump(mode="json"), _acceptor(section, config), judged)


def refuse_conflicts(section: AnyControl, config: Config) -> None:
    """Refuse a control that cannot work with the job's configuration.

    Raises:
        ConfigError: the message gives both values.
    """
    if isinstance(section, GoldControl | GoldAndCascadeControl) and config.data.train.type == "files":
        raise ConfigError(
            f"control: {section.type} needs a generator (data.train.type: nano or arithmetic), "
            f"data.train.type is {config.data.train.type}"
        )
    at_once = isinstance(section, SelfConsistencyControl | SelfCertaintyControl)
    if at_once and config.sampling.block not in (None, config.sampling.n):
        raise ConfigError(
            f"control: {section.type} compares all candidates of a prompt, but sampling.block: "
            f"{config.sampling.block} samples them in several blocks; set sampling.block: null"
        )
    if isinstance(section, SelfCertaintyControl) and not config.engine.has_weights:
        raise ConfigError(f"control: self_certainty needs a model, but engine.type: {config.engine.type} has none")


def _acceptor(section: AnyControl, config: Config) -> Acceptor:
    match section:
        case RandomControl():
            return RandomAcceptor(section.rates, config.job.seed)
        case SelfConsistencyControl():
            return SelfConsistency(partial(final_answer, domains=config.evaluation.domains))
        case SelfCertaintyControl():
            return SelfCertainty(lambda candidates: _certainty(config, candidates))
        case GoldControl() | GoldAndCascadeControl():
            return GoldAcceptor(
                problems_of(config.data.train, "train"),
                test_seconds=config.evaluation.test_seconds,
                domains=config.evaluation.domains,
            )


def _certainty(config: Config, candidates: Sequence[Candidate]) -> list[float]:
    """Return the self-certainty of each candidate by the version that wrote it, aligned."""
    from policies.versions.stored import stored_version
    from svd_loop.experiments.certainty import self_certainty

    model = config.model
    scores: dict[Candidate, float] = {}
    for round in sorted({candidate.policy.round for candidate in candidates if candidate.policy}):
        own = [candidate for candidate in candidates if candidate.policy and candidate.policy.round == round]
        stored = stored_version(config.job.paths.version(round))
        found = self_certainty(stored, own, dtype=model.dtype, device=model.device)
        scores |= dict(zip(own, found, strict=True))
    return [scores[candidate] for candidate in candidates]
