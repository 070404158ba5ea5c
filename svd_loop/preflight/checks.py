"""Checks before a job starts: data, model, machine and tracking store.

Each check is a function that returns a sentence or raises the error that the job itself would raise, so `svd-loop
check` and `svd-loop run` cannot disagree. No job folder is created. Only the probe samples from the model; it comes
last, and runs only if all checks it depends on have passed.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from svd_loop.assembly.backends import refuse_missing_device
from svd_loop.assembly.data import held_out
from svd_loop.assembly.job import labelled_answers
from svd_loop.assembly.lengths import room_for_question
from svd_loop.assembly.step_choice import refuse_few_problems
from svd_loop.config import Config
from svd_loop.config.engines import ServerEngineSection
from svd_loop.config.tracking import TRACKERS
from svd_loop.contracts import Domain, Problem, Role, VerifierReport
from svd_loop.errors import SvdError
from svd_loop.preflight.cautions import Caution, precision, preference_rate, smallest_effect
from svd_loop.preflight.panel_estimate import describe_panel
from svd_loop.preflight.resources import device_of, disk_needed, memory_needed
from svd_loop.preflight.trial import Resources, Trial, run_trial
from svd_loop.preflight.work import Forecast

_REQUIRED_BY_PROBE = ("held-out problems", "prompt templates", "model and lengths", "training prompts")


@dataclass(frozen=True, slots=True)
class Check:
    """Result of one check.

    Attributes:
        name: name of the check.
        ok: whether the job can start.
        detail: what was found, or what has to be changed.
        warning: the job can start, but `detail` says what should be looked at first.
    """

    name: str
    ok: bool
    detail: str
    warning: bool = False

    def as_dict(self) -> dict[str, object]:
        """Return JSON data."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Preflight:
    """Results of all checks, and the forecast and the verifiers if a probe was requested and possible."""

    checks: list[Check]
    forecast: Forecast | None = None
    verifiers: VerifierReport | None = None

    @property
    def ok(self) -> bool:
        """Whether the job can start."""
        return all(check.ok for check in self.checks)


def preflight(config: Config, *, probe: int | None = 0, gpu_memory: float | None = None) -> Preflight:
    """Run every check, in the order in which a job would fail, and the forecast.

    Args:
        config: the job.
        probe: candidates to sample and judge for the forecast, and again to test the verifiers; 0 samples nothing.
            None takes a few for the forecast, and for the verifiers as many as a fixed number of tokens pays for.
        gpu_memory: memory in GiB of a GPU that is not in this machine; None uses the devices that are.
    """
    with (
        tempfile.TemporaryDirectory(prefix="svd-loop-check-") as scratch,
        Resources(config, Path(scratch)) as resources,
    ):
        held, engine = resources.held, config.engine

        def problems() -> str:
            held.update(held_out(config))
            refuse_few_problems(config, len(held["development"]))
            return ", ".join(f"{len(items)} {split}" for split, items in held.items())

        named: list[tuple[str, Callable[[], str]]] = [
            ("held-out problems", problems),
            ("smallest effect", lambda: smallest_effect(config, {split: len(items) for split, items in held.items()})),
            ("prompt templates", lambda: _templates(resources)),
            *([("labelled answers", lambda: _labelled(config))] if config.health.labelled else []),
            ("model and lengths", lambda: _model(resources, here=gpu_memory is None)),
            *([("endpoints", lambda: _endpoints(config, engine))] if isinstance(engine, ServerEngineSection) else []),
            ("training prompts", lambda: "; ".join(resources.pool.report.lines())),
            ("coding sandbox", lambda: _sandbox(held)),
            ("tracking store", lambda: _tracking(config)),
            ("memory", lambda: memory_needed(config, gpu_memory)),
            ("precision", lambda: precision(config, on_gpu=device_of(config, gpu_memory).is_gpu)),
            *(
                [("update rate", lambda: preference_rate(config))]
                if config.update.algorithm.learns_from_refused
                else []
            ),
            ("disk", lambda: disk_needed(config)),
            ("work per round", lambda: _work(config)),
        ]
        checks = [_checked(name, look) for name, look in named]
        blocking = [check for check in checks if not check.ok and check.name in _REQUIRED_BY_PROBE]
        if probe == 0 or blocking:
            return Preflight(_without_repeats(checks))
        return _with_trial(resources, checks, probe)


def _with_trial(resources: Resources, checks: list[Check], probe: int | None) -> Preflight:
    """Add the checks that use the model."""
    trials: list[Trial] = []
    found: list[Forecast] = []
    tested: list[VerifierReport] = []

    def probed() -> str:
        trials.append(run_trial(resources, probe))
        found.append(trials[0].forecast())
        return _probe_summary(found[0])

    def verified() -> str:
        tested.append(trials[0].verifiers())
        return tested[0].recommended

    checks = [*checks, _checked("probe", probed)]
    if found:
        checks.append(Check("judge panel", True, describe_panel(found[0].panel)))
    if trials:  # else the model did not open, which the probe has reported
        checks.append(_checked("verifiers", verified))
    return Preflight(_without_repeats(checks), found[0] if found else None, tested[0] if tested else None)


def _without_repeats(checks: list[Check]) -> list[Check]:
    """Replace a repeated error (such as a missing model) by a reference to the first check that reported it."""
    reported_by: dict[str, str] = {}
    return [
        check
        if check.ok or reported_by.setdefault(check.detail, check.name) == check.name
        else replace(check, detail=f"see {reported_by[check.detail]}")
        for check in checks
    ]


def _checked(name: str, look: Callable[[], str]) -> Check:
    try:
        detail = look()
        return Check(name, True, str(detail), isinstance(detail, Caution))
    except SvdError as error:
        return Check(name, False, str(error))


def _labelled(config: Config) -> str:
    answers = labelled_answers(config).answers
    return f"{sum(bool(answer.correct) for answer in answers)} right, {sum(not a.correct for a in answers)} wrong"


def _templates(resources: Resources) -> str:
    templates = resources.templates
    return ", ".join(templates.version(role, Domain.MATH) for role in templates.roles)


def _model(resources: Resources, *, here: bool) -> str:
    config = resources.config
    if here:
        refuse_missing_device(config)
    room = room_for_question(config, resources.backend, resources.templates)
    return f"{config.model.path}: " + ("no limit" if room is None else f"questions may have {room:,} tokens")


def _endpoints(config: Config, engine: ServerEngineSection) -> str:
    from policies.engines.served.inspection import inspect_endpoints

    adapters = config.update.method == "lora" and config.job.rounds > 0
    return inspect_endpoints(engine, max_context=config.model.max_context, adapters=adapters)


def _probe_summary(found: Forecast) -> str:
    measured = found.measured
    words = f"{measured.candidates} candidates, {measured.complete} of them complete; "
    if measured.output_rate is None or measured.prompt_rate is None:
        return f"{words}a scripted policy, whose speed is not measured; tokens are bytes"
    return (
        f"{words}{measured.prompt_rate:,.0f} tokens/s read and {measured.output_rate:,.0f} written with "
        f"{measured.rows} rows at once"
    )


def _sandbox(held: dict[str, list[Problem]]) -> str:
    coding = [problem for items in held.values() for problem in items if problem.domain == Domain.CODING]
    if not coding:
        return "not needed: there are no held-out coding problems"
    from svd_loop.evaluation.evaluation import score_pairs

    score_pairs([("```python\ndef f(x):\n    return x\n```", coding[0])], test_seconds=5.0)
    return "programs can be run in a sandbox on this machine"


def _tracking(config: Config) -> str:
    if not config.tracking.enabled:
        return "switched off (tracking.enabled: false)"
    from svd_loop.mlflow_store.connection import open_store

    for tracker in config.tracking.trackers:
        TRACKERS.builder(tracker.type)  # raises if a plug-in is broken
    return open_store(config.tracking.uri, config.job.root, config.tracking.experiment).uri


def _work(config: Config) -> str:
    """Return upper bounds of the work; with early exit and `first_valid` it is usually far less."""
    prompts = config.data.prompts_per_round
    if prompts is None:
        return "every prompt, every round (data.prompts_per_round is null)"
    called = [
        (role == Role.REFERENCE_SOLVER, config.cascade.votes_of(stage.type))
        for stage in config.cascade.stages
        for role in stage.roles_for(config.cascade.asking)
    ]
    candidates = prompts * config.sampling.n
    calls = sum(votes * (prompts if once_a_prompt else candidates) for once_a_prompt, votes in called)
    return f"at most {candidates:,} candidates and {calls:,} judge calls"
