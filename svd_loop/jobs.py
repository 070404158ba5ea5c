"""Functions behind the commands: run a job, evaluate a model, judge a file, write a report.

They are for use from Python as well as from the command line, so nothing here parses or prints.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from envs.cascade.cascade import Cascade
from envs.cascade.template_sets import TemplateSet
from envs.prompts import content_id
from envs.prompts.reading import prompt_text
from envs.solving import SolverAgent
from policies.versions.stored import stored_version
from svd_loop.assembly.backends import make_backend, open_stored
from svd_loop.assembly.data import held_out, held_out_sources, problems_of
from svd_loop.assembly.forking import fork_job
from svd_loop.assembly.job import (
    Control,
    build_job,
    make_cascade,
    open_prompts,
    policy_opener,
    template_set,
    verifier_test,
)
from svd_loop.config import Config, parse_config
from svd_loop.config.sections import CascadeSection
from svd_loop.contracts import (
    Candidate,
    Domain,
    DomainName,
    JobResult,
    JobState,
    Policy,
    Problem,
    Prompt,
    RootPaths,
    Scores,
    Verdict,
    VerifierReport,
)
from svd_loop.errors import ConfigError, JobInterrupted
from svd_loop.evaluation.answers_file import read_answers, refuse_unwritable, write_verdicts
from svd_loop.evaluation.evaluation import Evaluator, answer_comparison, read_solutions, score_solutions
from svd_loop.judge_health.verifier_check import size_of
from svd_loop.ledger import DurablePolicy, Interrupt, Ledger, LedgerReader, SharedAnswers, settled_digest
from svd_loop.promotion.lookup import find_version, local_folder, registry_errors, registry_of
from svd_loop.report import judged_json, write_page
from svd_loop.support.callable_policy import Takes, as_policy
from svd_loop.support.listing import listing
from svd_loop.support.usage import MeteredPolicy

log = logging.getLogger(__name__)


def run_job(
    config: Config,
    *,
    control: Control | None = None,
    record: Path | None = None,
    fork_from: str | None = None,
    shared: SharedAnswers | None = None,
    on_resume: Callable[[JobState], None] = lambda state: None,
    on_round: Callable[[JobState], None] = lambda state: None,
) -> JobResult:
    """Run a job until it stops, or resume it; writes `report.html` into the folder of its ledger.

    Args:
        config: the job.
        control: acceptor in place of the cascade, for experiments only; None is the cascade.
        record: append every reply to this JSON Lines file.
        fork_from: `JOB@ROUND`: first copy rounds 0 to ROUND of another job.
        shared: answers shared with other jobs, as in a sweep.
        on_resume: called once at the start if the job already has rounds.
        on_round: called after each committed round.

    Raises:
        JobInterrupted: Ctrl-C; everything finished is stored.
        SvdError: any other error that the user can cause.
    """
    if fork_from is not None:
        fork_job(config, fork_from)
    with (
        Interrupt(_announce_stop) as interrupt,
        build_job(config, interrupt=interrupt, control=control, record=record, shared=shared, on_round=on_round) as job,
    ):
        if (state := job.ledger.state()).history:
            on_resume(state)
        for line in job.prompts.report.lines():
            log.info("prompts: %s", line)
        try:
            result = job.controller.run()
        except KeyboardInterrupt:
            job.tracker.pause()
            raise JobInterrupted("stopped at once; finished work is stored; the same command continues") from None
        except BaseException:  # stopped on request or failed; in both cases no run must stay RUNNING
            job.tracker.pause()
            raise
        write_page(config.job.paths.report, result, job.ledger.settings())
    return result


def evaluate_model(config: Config, model: str | None, split: str) -> Scores:
    """Return the scores of a job's version (`JOB@ROUND`), a checkpoint folder or a model (`models:/name@alias`).

    A version of a job is sampled as its job does, anything else as `config` says. Answers are stored in a ledger of
    their own, so the same call continues after a kill and generates no answer again.

    Args:
        config: what is measured, and how.
        model: None means the configuration's own, untrained.
        split: `development` or `test`.
    """
    problems = _split(config, split)
    evaluator_of = partial(Evaluator, {split: problems}, SolverAgent(template_set(config)), config.evaluation)
    named = _measuring_job(config, model)
    with Interrupt(_announce_stop) as interrupt, Ledger.open(named.job.paths.folder, named) as ledger:
        seed, policy = _opened(named, model)
        engine = config.engine
        durable = DurablePolicy(policy, ledger, engine.chunk_size, seconds=engine.chunk_seconds, interrupt=interrupt)
        with closing(durable):
            return evaluator_of(seed=seed).evaluate(durable, split)


def evaluate_solutions(config: Config, path: Path, split: str) -> Scores:
    """Scores of solutions someone else produced; no model needed."""
    return score_solutions(
        _split(config, split), read_solutions(path), config.evaluation, split=split, seed=config.job.seed
    )


def verify_model(config: Config, model: str | None, candidates: int) -> VerifierReport:
    """The verifier test of a version of a job, a checkpoint folder or a registered model, as in `evaluate_model`.

    Answers go through a ledger of their own, so the same call goes on after a kill.

    Args:
        config: the job whose cascade and data are tested.
        model: None means the configuration's own, untrained.
        candidates: development problems to judge.

    Raises:
        JobInterrupted: a stop was requested; every answer so far is kept.
    """
    templates, problems = template_set(config), held_out(config)
    named = _measuring_job(config, model, "verify")
    with Interrupt(_announce_stop) as interrupt, Ledger.open(named.job.paths.folder, named) as ledger:
        _, policy = _opened(named, model)
        engine, cascade = config.engine, make_cascade(config, templates)
        durable = DurablePolicy(policy, ledger, engine.chunk_size, seconds=engine.chunk_seconds, interrupt=interrupt)
        with closing(durable):
            backend = make_backend(named, named.job.paths.versions)
            with closing(open_prompts(named, problems, named.job.paths.prompts, templates, backend)) as pool:
                test = verifier_test(config, cascade, SolverAgent(templates), problems["development"], pool)
                metered = MeteredPolicy(durable)
                report = test(metered, size_of(candidates))
                return replace(report, tokens=metered.output_tokens)


def held_out_origins(config: Config, split: str) -> dict[str, tuple[str, str]]:
    """By problem id the id that its file gives it (empty if there is none) and its place, `file:line`."""
    return {problem.id: (problem.own_id, problem.source) for problem in _split(config, split)}


def judge_file(config: Config, source: Path, output: Path) -> dict[str, Any]:
    """The cascade alone over `{"prompt", "solution"}` lines; one verdict line each, in their order.

    Votes go through a ledger of their own, so an interrupted run continues where it stopped. The output appears when
    complete. An `id` in a line comes back in its verdict.

    Returns:
        The report as plain data, see `svd_loop.report.judged_json`.

    Raises:
        ConfigError: the output cannot be written.
        DataError: a line cannot be used, naming file and line.
    """
    refuse_unwritable(output, source)
    answers = read_answers(source, config.data.domain or Domain.MATH)
    items = [(answer.prompt, answer.candidate) for answer in answers]
    with Interrupt(_announce_stop) as interrupt, Ledger.open(config.job.paths.folder, config) as ledger:
        backend = make_backend(config, config.job.paths.versions)
        cascade = make_cascade(config, template_set(config))
        with closing(policy_opener(config, backend.open, ledger, interrupt)(0)) as judge:
            verdicts = cascade.judge(judge, items, round=0, purpose="judge")
            usage = judge.take_usage()
    write_verdicts(output, answers, verdicts)
    return judged_json(verdicts, config.cascade.stage_names, usage, static=config.cascade.static.is_on)


def judge_answers(
    judge: Callable[[Any], str] | Policy,
    answers: Iterable[tuple[str | list[dict[str, str]], str]],
    *,
    domain: DomainName = Domain.MATH,
    takes: Takes = "text",
    templates: str = "chat",
    cascade: Mapping[str, Any] | None = None,
) -> list[Verdict]:
    """Return a verdict for each answer, in order, by the cascade with a judge of one's own; nothing is stored.

    Args:
        judge: a function from a text to a text, or a `Policy`.
        answers: pairs of a question (a text or messages) and a solution.
        domain: of the questions.
        takes: what a function takes: `text`, or `messages` (a list of `role` and `content`).
        templates: name or folder of a template set.
        cascade: settings of the cascade, as the section of that name; None takes the method's.

    Raises:
        ConfigError: a setting is not valid.
        DataError: a question cannot be used.
    """
    settings = CascadeSection.model_validate(dict(cascade or {}))
    counts: Counter[str] = Counter()
    items = []
    for place, (question, solution) in enumerate(answers, start=1):
        text = prompt_text(question, f"answer {place}, question")
        prompt = Prompt(content_id(text, domain), text, domain)
        items.append((prompt, Candidate(prompt.id, counts[prompt.id], solution)))
        counts[prompt.id] += 1
    ways = Cascade(
        TemplateSet.load(templates, settings.stages, settings.asking), settings, comparison=answer_comparison(())
    )
    return ways.judge(as_policy(judge, takes), items, round=0, purpose="judge")


def judging_job(config: Config, source: Path) -> Config:
    """The configuration under a name of its own for this file's name and these settings.

    So the same command continues after a kill, and a command with other settings is another job.
    """
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", source.stem)[:40]
    return _renamed(config, f"judge-{stem}-{settled_digest(config)[:8]}")


def report_job(job: str, root: Path) -> tuple[JobState, Path]:
    """Return a job's state and the path of its page, which is written again."""
    paths = RootPaths(root).job(job)
    with LedgerReader.open_for_reading(paths.folder) as reader:
        state = reader.state()
        return state, write_page(paths.report, reader.result() or state, reader.settings())


def _renamed(config: Config, name: str) -> Config:
    data = config.model_dump(mode="json")
    data["job"]["name"] = name
    return parse_config(data)


def _measuring_job(config: Config, model: str | None, purpose: str = "eval") -> Config:
    """The configuration under a name of its own for this model and these settings; a checkpoint is its model."""
    if model is not None and not model.startswith("models:/") and not model.partition("@")[2].isdigit():
        data = config.model_dump(mode="json")
        data["model"]["path"] = model
        data["update"]["replay"]["anchor"] = "none"  # nothing is trained, and some anchors need their checkpoint
        config = parse_config(data)
    digest = hashlib.sha256(f"{settled_digest(config)} {model or ''}".encode()).hexdigest()
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", model or config.job.name)[-40:].strip("-._")
    return _renamed(config, f"{purpose}-{stem}-{digest[:8]}")


def _opened(config: Config, model: str | None) -> tuple[int, Policy]:
    """Open the policy that `model` refers to; return it with its sampling seed. `config` is from `_measuring_job`."""
    if model is not None and model.startswith("models:/"):
        with registry_errors():
            registry = registry_of(config)
            version = find_version(registry, model)
        return config.job.seed, open_stored(config, stored_version(local_folder(registry, version, config.job.root)))
    name, _, number = (model or "").partition("@")
    if number.isdigit():
        paths = RootPaths(config.job.root).job(name)
        with LedgerReader.open_for_reading(paths.folder) as reader:
            own = parse_config(reader.config())
        return own.job.seed, make_backend(own, paths.versions).open(int(number))
    return config.job.seed, make_backend(config, config.job.paths.versions).open(0)


def _split(config: Config, split: str) -> list[Problem]:
    for name, source in held_out_sources(config).items():
        if name == split:
            return problems_of(source, name)
    known = listing(split, held_out_sources(config))
    raise ConfigError(f"--split {split}: the configuration has no data.{split}; it has {known}")


def _announce_stop() -> None:
    log.warning("stopping after the current chunk; press Ctrl-C again to stop at once")
