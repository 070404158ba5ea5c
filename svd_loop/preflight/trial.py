"""The part of a check that uses the model: the probe for the forecast, and the verifier test.

Both need the model, the prompts and the templates, which are opened once, on first use. If the number of candidates is
given, both are asked together, in the same batches. Otherwise the test's size depends on what the probe measured, so
it comes after the probe.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Self

from envs.cascade.template_sets import TemplateSet
from envs.prompts import PromptPool
from envs.solving import SolverAgent
from svd_loop.assembly.backends import Backend, make_backend
from svd_loop.assembly.job import make_cascade, open_prompts, samples_compared, template_set, verifier_test
from svd_loop.config import Config
from svd_loop.contracts import JobPaths, Policy, Problem, Role, VerifierReport
from svd_loop.judge_health.verifier_check import size_of
from svd_loop.preflight.probe import Probed, probe, with_speed
from svd_loop.preflight.work import Forecast, Measured, forecast
from svd_loop.support.together import together

_PROBED, _MOST_TESTED, _TEST_TOKENS = 4, 64, 100_000
"""Candidates of the probe; at most so many in the verifier test, and tokens for it, where no number is asked for."""


class Resources:
    """The templates, backend, prompts and base model of a check, each opened on first use and closed with the block.

    An error is raised again at every use, so each check reports it.
    """

    def __init__(self, config: Config, scratch: Path) -> None:
        self.config = config
        self._scratch = scratch
        self._open = ExitStack()
        self.held: dict[str, list[Problem]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    @cached_property
    def templates(self) -> TemplateSet:
        """The configured templates."""
        return template_set(self.config)

    @cached_property
    def backend(self) -> Backend:
        """The configured backend, with a folder for its weights that goes with the check."""
        return make_backend(self.config, self._scratch / "job")

    @cached_property
    def pool(self) -> PromptPool:
        """The training prompts, checked against `held`."""
        path = JobPaths(self._scratch).prompts
        pool = open_prompts(self.config, self.held, path, self.templates, self.backend)
        return self._open.enter_context(closing(pool))

    @cached_property
    def policy(self) -> Policy:
        """The base model."""
        return self._open.enter_context(closing(self.backend.open(0)))


@dataclass(frozen=True, slots=True)
class Trial:
    """Results of the probe and of the test; each is a function that returns the result or raises its error."""

    forecast: Callable[[], Forecast]
    verifiers: Callable[[], VerifierReport]


def run_trial(resources: Resources, candidates: int | None) -> Trial:
    """Probe the base model and test the verifiers.

    Args:
        resources: of the check; `held` is complete.
        candidates: to sample and judge for the forecast, and again to test the verifiers; None takes a few for the
            forecast, and for the verifiers as many as a fixed number of tokens pays for.

    Raises:
        ModelError, EngineError: the model cannot be opened.
    """
    policy = resources.policy
    probing = _probing(resources, candidates or _PROBED)
    if candidates is not None:
        probed, tested = together(policy, [probing, _testing(resources, candidates)])
        return Trial(lambda: _forecast(resources, probed.result()), tested.result)
    (probed,) = together(policy, [probing])

    def tested_for_its_price() -> VerifierReport:
        failed = probed.exception() is not None
        count = _PROBED if failed else affordable_candidates(resources.config, probed.result().measured)
        return _testing(resources, count)(policy)

    return Trial(lambda: _forecast(resources, probed.result()), tested_for_its_price)


def _probing(resources: Resources, candidates: int) -> Callable[[Policy], Probed]:
    """The probe on prompts of round 1; they are read here, because a pool is for one thread."""
    config = resources.config
    prompts = resources.pool.for_round(1, candidates, config.job.seed)
    return lambda policy: probe(config, policy, prompts, candidates)


def _testing(resources: Resources, candidates: int) -> Callable[[Policy], VerifierReport]:
    """The verifier test on so many development problems; its prompts are read here as well."""
    config, templates, pool = resources.config, resources.templates, resources.pool
    cascade, development = make_cascade(config, templates), resources.held["development"]
    test = verifier_test(config, cascade, SolverAgent(templates), development, pool)
    size = size_of(candidates)
    prompts = test.prompts(size.unlabelled) if size.unlabelled else ()
    ready = replace(test, prompts=lambda count: prompts[:count])
    return lambda policy: ready(policy, size)


def _forecast(resources: Resources, probed: Probed) -> Forecast:
    """The forecast, after the speed was measured."""
    measured = with_speed(resources.config, resources.policy, probed)
    problems = {split: len(items) for split, items in resources.held.items()}
    return forecast(resources.config, measured, prompts=len(resources.pool), held_out=problems)


def affordable_candidates(config: Config, measured: Measured) -> int:
    """Return how many candidates the verifier test can judge with every vote for `_TEST_TOKENS`, read and written.

    The number depends on the model's answers and not on the machine, so that a check gives the same figures everywhere.
    """
    solver = measured.roles.get(Role.SOLVER)
    # All samples of a development problem, and those of the training prompts, a quarter as many: they are compared.
    samples = config.evaluation.samples + samples_compared(config) / 4
    each = samples * (solver.prompt_tokens + solver.output_tokens) if solver else 0.0
    for role, means in measured.roles.items():
        if role != Role.SOLVER:
            each += config.cascade.votes * means.calls * (means.prompt_tokens + means.output_tokens)
    return min(max(int(_TEST_TOKENS / max(each, 1.0)), _PROBED), _MOST_TESTED)
