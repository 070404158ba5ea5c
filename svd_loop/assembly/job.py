"""Assemble the parts of a job."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import gymnasium

import envs  # registers the environment
from envs.acceptors import Acceptor
from envs.cascade.cascade import Cascade
from envs.cascade.ordering import Unit
from envs.cascade.template_sets import TemplateSet
from envs.prompts import PromptPool
from envs.solving import SolverAgent
from policies.policy_cache import PolicyCache
from svd_loop.assembly.anchors import OwnJudgements, make_judge_rows, no_judge_rows, posttrain_rows
from svd_loop.assembly.backends import Backend, make_backend, refuse_missing_device
from svd_loop.assembly.data import build_prompts, held_out, held_out_sources, source_label
from svd_loop.assembly.inherited import inherited_rows
from svd_loop.assembly.lengths import refuse_long, room_for_question, too_long
from svd_loop.assembly.step_choice import Checkpoints, PolicyOpener, make_step_chooser, refuse_few_problems
from svd_loop.config import Config, config_digest
from svd_loop.config.stages import roles_before_the_verdict
from svd_loop.contracts import (
    Domain,
    HealthReport,
    JobState,
    Policy,
    Problem,
    RoundEnvironment,
    Tracker,
    TrainingRow,
)
from svd_loop.evaluation.audit import JudgeAudit, LabelledSamples, audit_sample
from svd_loop.evaluation.evaluation import Evaluator, answer_comparison, same_answers
from svd_loop.evaluation.leak_firewall import CompletionFirewall
from svd_loop.judge_health.judge_watch import JudgeWatch, no_watch
from svd_loop.judge_health.labelled import LabelledAnswers, read_labelled
from svd_loop.judge_health.verifier_check import BudgetedTest, VerifierTest, no_test
from svd_loop.ledger import DurablePolicy, Interrupt, Ledger, LedgerReader, SharedAnswers
from svd_loop.ledger.recorded_solutions import recorded_solutions
from svd_loop.ledger.vote_measurements import MeasuredOrder
from svd_loop.loop.controller import Controller
from svd_loop.loop.health_rule import HealthRule
from svd_loop.loop.limits import Limits
from svd_loop.loop.parts import Parts, Plan, PlayedRound
from svd_loop.loop.plateau import PlateauRule
from svd_loop.loop.replay import AnchorSource, Replay, no_anchors
from svd_loop.mlflow_store.datasets import summarise
from svd_loop.mlflow_store.packaging import make_loadable
from svd_loop.mlflow_store.registrar import Registrar
from svd_loop.mlflow_store.retention import Retention
from svd_loop.mlflow_store.trackers import TrackedJob, make_trackers
from svd_loop.support.usage import MeteredPolicy

log = logging.getLogger(__name__)

ENVIRONMENT = "SelfVerification-v0"
assert envs.__name__


@dataclass(frozen=True, slots=True)
class Job:
    """An open job: holds the ledger's lock until the block of `build_job` ends."""

    config: Config
    ledger: Ledger
    prompts: PromptPool
    controller: Controller
    tracker: Tracker


@dataclass(frozen=True, slots=True)
class Control:
    """The acceptor of an experiment, used in place of the cascade or behind it (`svd_loop.experiments.controls`).

    Attributes:
        identity: plain data that identifies the control; a job resumes only under the same one.
        acceptor: the acceptor.
        judged: whether the cascade judges before it, and both have to accept.
    """

    identity: Mapping[str, Any]
    acceptor: Acceptor
    judged: bool = False


@contextmanager
def build_job(
    config: Config,
    *,
    interrupt: Interrupt,
    control: Control | None = None,
    record: Path | None = None,
    shared: SharedAnswers | None = None,
    on_round: Callable[[JobState], None] = lambda state: None,
) -> Iterator[Job]:
    """Open a job from its configuration, ready to run or to resume.

    All errors that can be detected early are raised here, before the first sample: bad data, leaks, an unusable
    checkpoint, a changed configuration, a job that is already running.

    Args:
        config: the job.
        interrupt: checked between chunks; stops the job if requested.
        control: acceptor in place of the cascade; None is the cascade.
        record: append every reply to this JSON Lines file.
        shared: answers shared with other jobs.
        on_round: called after each committed round.
    """
    refuse_missing_device(config)
    problems, templates = held_out(config), template_set(config)
    refuse_few_problems(config, len(problems["development"]))
    paths = config.job.paths
    with Ledger.open(paths.folder, config, control.identity if control else None) as ledger:
        backend = make_backend(config, paths.versions, config_digest(config))
        prompts = open_prompts(config, problems, paths.prompts, templates, backend)
        ledger.record_prompts(prompts)
        with PolicyCache(backend.open) as cache:
            opener = partial(policy_opener, config, ledger=ledger, interrupt=interrupt, record=record, shared=shared)
            resources = _Resources(config, problems, templates, ledger, backend, prompts, cache, opener)
            parts = _make_parts(resources, control)
            controller = Controller(parts, make_plan(config, control), _after_round(config, parts.plateau, on_round))
            yield Job(config, ledger, prompts, controller, parts.tracker)


@dataclass(frozen=True, slots=True)
class _Resources:
    """The open resources from which a job's parts are built."""

    config: Config
    problems: Mapping[str, Sequence[Problem]]
    templates: TemplateSet
    ledger: Ledger
    backend: Backend
    prompts: PromptPool
    cache: PolicyCache
    opener: PolicyOpener


def _make_parts(resources: _Resources, control: Control | None) -> Parts:
    """Build the parts of a job; `control` replaces the cascade as acceptor, and then no judge is watched."""
    config, problems, templates = resources.config, resources.problems, resources.templates
    tracked = tracked_job(config, resources.prompts, problems)
    tracker = make_trackers(tracked)
    solver, cascade = SolverAgent(templates), make_cascade(config, templates)
    evaluator = Evaluator(problems, solver, config.evaluation, seed=config.job.seed)
    checkpoints = Checkpoints(config.job.paths.versions)
    checkpoints.drop(resources.ledger.state())
    return Parts(
        ledger=resources.ledger,
        prompts=resources.prompts,
        environment=make_environment(config, templates, resources.ledger, control),
        firewall=CompletionFirewall(chain(*problems.values()), config.data.leak, config.job.paths.leaks),
        solver=solver,
        open_policy=resources.opener(resources.cache.open),
        usable=resources.backend.usable,
        update=resources.cache.before(resources.backend.update),
        replay=make_replay(config, resources.backend, resources.ledger),
        evaluator=evaluator,
        judge_watch=no_watch if control else make_judge_watch(config, cascade, resources.ledger),
        health=HealthRule(config.health),
        judge_rows=no_judge_rows if control else make_judge_rows(config, cascade),
        verify=no_test
        if control
        else make_verifier_test(config, cascade, solver, problems["development"], resources.prompts),
        audit=make_audit(config, problems["development"], solver, cascade),
        plateau=PlateauRule(config.plateau),
        tracker=tracker,
        register=make_registrar(config, tracked).register_best,
        choose_step=make_step_chooser(config, evaluator, resources.backend, resources.opener),
        keep_step=checkpoints.keep,
    )


def make_audit(config: Config, problems: Sequence[Problem], solver: SolverAgent, cascade: Cascade) -> JudgeAudit:
    """Build the audit, which measures the judge on a sample of the development problems."""
    settings = config.evaluation
    sample = audit_sample(problems, settings.audit)
    return JudgeAudit(sample, solver, cascade, settings.test_seconds, settings.domains, settings.samples)


def _after_round(
    config: Config, plateau: PlateauRule, on_round: Callable[[JobState], None]
) -> Callable[[JobState], None]:
    """Return the function called after each committed round: `on_round`, then the deletion of old versions."""
    retention, checkpoints = Retention(config, plateau), Checkpoints(config.job.paths.versions)

    def after_round(state: JobState) -> None:
        on_round(state)
        checkpoints.drop(state)
        retention.apply(state)

    return after_round


def make_judge_watch(
    config: Config, cascade: Cascade, ledger: LedgerReader
) -> Callable[[Policy, PlayedRound], HealthReport | None]:
    """Build the judge's health measurement: canaries, the panel, and the user's labelled answers."""
    health, recorded = config.health, partial(recorded_solutions, ledger)
    return JudgeWatch(cascade, health.canaries, config.job.seed, recorded, health.panel, labelled_answers(config))


def make_verifier_test(
    config: Config, cascade: Cascade, solver: SolverAgent, development: Sequence[Problem], pool: PromptPool
) -> BudgetedTest:
    """Build the verifier test of round 0."""
    each = config.data.prompts_per_round
    prompts = len(pool) if each is None else min(each, len(pool))
    test = verifier_test(config, cascade, solver, development, pool)
    return BudgetedTest(test, config.health.verify, config.job.rounds, prompts)


def verifier_test(
    config: Config, cascade: Cascade, solver: SolverAgent, development: Sequence[Problem], pool: PromptPool
) -> VerifierTest:
    """Build the verifier test; its labelled samples are those of the audit, as far as it has any."""
    evaluation = config.evaluation
    audited = audit_sample(development, evaluation.audit or len(development))
    return VerifierTest(
        cascade=cascade,
        solver=solver,
        labelled=LabelledSamples(
            audited, solver, cascade, evaluation.samples, evaluation.test_seconds, evaluation.domains
        ),
        prompts=lambda count: pool.for_round(1, config.data.prompts_per_round, config.job.seed)[:count],
        comparison=answer_comparison(evaluation.domains),
        samples=samples_compared(config),
        candidates=config.sampling.n,
        problems=len(development),
        seed=config.job.seed,
    )


def samples_compared(config: Config) -> int:
    """Candidates of a training prompt whose answers the verifier test compares."""
    return config.sampling.n if config.cascade.deciding_stages else min(config.sampling.n, 4)


def labelled_answers(config: Config) -> LabelledAnswers:
    """The user's labelled answers; empty if there is no such file.

    Raises:
        DataError: a line cannot be used, naming file and line.
    """
    path = config.health.labelled
    return LabelledAnswers() if path is None else read_labelled(path, config.data.domain or Domain.MATH)


def template_set(config: Config) -> TemplateSet:
    """The configured templates; base models without a chat template use the `chat` set as plain text."""
    name = "chat" if config.model.templates == "plain" else config.model.templates
    return TemplateSet.load(name, config.cascade.stages, config.cascade.asking)


def make_cascade(
    config: Config, templates: TemplateSet, order_of: Callable[[int], tuple[Unit, ...]] | None = None
) -> Cascade:
    """The configured cascade."""
    comparison = answer_comparison(config.evaluation.domains)
    return Cascade(templates, config.cascade, config.job.seed, order_of, comparison)


def open_prompts(
    config: Config,
    problems: Mapping[str, Sequence[Problem]],
    path: Path,
    templates: TemplateSet,
    backend: Backend,
) -> PromptPool:
    """The job's prompt pool in the file `path`, built on first use.

    Raises:
        ConfigError: no question at all fits the context, or a stage cannot judge candidates of a domain.
        DataError: a row cannot be used, none is left, or a held-out problem does not fit.
        LeakError: held-out problems were found and the configuration says to refuse.
    """
    everything = [problem for split in problems.values() for problem in split]
    room = room_for_question(config, backend, templates)
    check = too_long(room, backend, templates)
    if check is not None:
        refuse_long(everything, check)
    pool = build_prompts(config, everything, path, check, f"{backend.fit_digest}/{room}")
    audited = {problem.domain for problem in problems.get("development", ()) if config.evaluation.audit}
    for stage in config.cascade.stages:
        for domain in sorted({*pool.report.domains, *audited}):
            stage.refuse_domain(domain)
    return pool


def policy_opener(
    config: Config,
    opener: Callable[[int], Policy],
    ledger: Ledger,
    interrupt: Interrupt,
    record: Path | None = None,
    shared: SharedAnswers | None = None,
) -> Callable[[int], MeteredPolicy]:
    """A function that opens versions as policies that count, store and, if requested, record."""
    from policies.policy import RecordingPolicy

    def open_version(round: int) -> MeteredPolicy:
        policy = opener(round)
        if record is not None:
            policy = RecordingPolicy(policy, record)
        engine = config.engine
        durable = DurablePolicy(
            policy, ledger, engine.chunk_size, seconds=engine.chunk_seconds, interrupt=interrupt, shared=shared
        )
        return MeteredPolicy(durable)

    return open_version


def make_environment(
    config: Config, templates: TemplateSet, ledger: Ledger, control: Control | None
) -> RoundEnvironment:
    """Build the environment; a control's acceptor replaces the cascade, or stands behind it."""
    judged = config.cascade.with_judge_only()
    environment: Any = gymnasium.make(  # typed here, because Gymnasium types every info as a dict of Any
        ENVIRONMENT,
        disable_env_checker=True,
        cascade=make_cascade(config, templates, MeasuredOrder(ledger, judged.stage_names, judged.votes)),
        acceptor=control.acceptor if control else None,
        judged=control.judged if control else None,
        n=config.sampling.n,
        block=config.sampling.block,
        selection=config.cascade.selection,
        fill_rows=config.cascade.fill_rows,
        shelf=ledger,
    )
    typed: RoundEnvironment = environment
    return typed


def make_replay(config: Config, backend: Backend, ledger: Ledger) -> Replay:
    """Build the training mixture, with its anchor source."""
    settings = config.update.replay
    sources: dict[str, AnchorSource] = {
        "none": no_anchors,
        "own": OwnJudgements(
            ledger, partial(same_answers, domains=config.evaluation.domains), roles_before_the_verdict()
        ),
        "posttrain": lambda count, round: posttrain_rows(backend.encode_rows, count, config.job.seed + round),
    }

    def anchors(count: int, round: int) -> Sequence[TrainingRow]:
        return backend.usable(sources[settings.anchor](count, round))[0]

    anchor_ratio = 0.0 if settings.anchor == "none" else settings.anchor_ratio
    judge_share = config.update.judge_rows.share
    inherited = inherited_rows(config.schedule.replay, config.job.root)
    return Replay(settings.rounds, settings.ratio, anchor_ratio, config.job.seed, anchors, inherited, judge_share)


def tracked_job(config: Config, prompts: PromptPool, problems: Mapping[str, Sequence[Problem]]) -> TrackedJob:
    """The description of the job for trackers and the registrar."""
    sources = {"train": config.data.train, **held_out_sources(config)}
    data = [
        summarise(
            split,
            source_label(source),
            prompts if split == "train" else problems[split],
            generated=source.type != "files",
        )
        for split, source in sources.items()
    ]
    plain = config.model_dump(mode="json")
    return TrackedJob(config.tracking, config.job.root, config.job.name, plain, tuple(data))


def make_registrar(config: Config, job: TrackedJob) -> Registrar:
    """Build the registrar, which stores versions in a form that MLflow can load."""
    return Registrar(job, lambda version: make_loadable(version, config, template_set(config)))


def make_plan(config: Config, control: Control | None = None) -> Plan:
    """The settings that the loop needs."""
    return Plan(
        job=config.job.name,
        seed=config.job.seed,
        limits=Limits(config.job.rounds, config.job.hours, config.job.tokens),
        prompts_per_round=config.data.prompts_per_round,
        frozen_judge=config.cascade.frozen_judge,
        flow=config.cascade.flow and control is None,
        test_split=config.data.test is not None,
        learns_from_refused=config.update.algorithm.learns_from_refused or config.update.judge_rows.share > 0,
    )
