"""What the commands do, as functions: run a job, measure a model, judge a file, show a report.

For use from Python as much as from the command line: nothing here parses or prints.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from envs.cascade import Cascade
from envs.prompts import content_id
from envs.solving import SolverAgent
from svd_loop.build.backends import Backend, make_backend
from svd_loop.build.data import held_out_sources, problems_of
from svd_loop.build.job import build_job, cascade_settings, job_folder, policy_opener, template_set
from svd_loop.config import Config, parse_config
from svd_loop.contracts import Candidate, Domain, JobResult, JobState, PolicyVersion, Problem, Prompt, Scores, Verdict
from svd_loop.errors import ConfigError, DataError, JobInterrupted, WeightsError
from svd_loop.evaluation import EvaluationSettings, Evaluator, read_solutions, score_solutions
from svd_loop.ledger import Interrupt, Ledger, LedgerReader, fork
from svd_loop.report import write_page

log = logging.getLogger(__name__)

PAGE = "report.html"


def run_job(
    config: Config,
    *,
    record: Path | None = None,
    fork_from: str | None = None,
    on_round: Callable[[JobState], None] = lambda state: None,
) -> JobResult:
    """Run a job to its stop, or go on with it; writes `report.html` beside its ledger.

    Args:
        config: the job.
        record: append every reply to this JSON Lines file.
        fork_from: `JOB@ROUND`, take over rounds 0 to ROUND of another job first.
        on_round: called after each committed round.

    Raises:
        JobInterrupted: Ctrl-C; everything done is kept.
        SvdError: anything else a user can cause.
    """
    if fork_from is not None:
        _fork(config, fork_from)
    with Interrupt(_announce_stop) as interrupt, build_job(
        config, interrupt=interrupt, record=record, on_round=on_round
    ) as job:  # fmt: skip
        for line in job.prompts.report.lines():
            log.info("prompts: %s", line)
        try:
            result = job.controller.run()
        except JobInterrupted:
            job.tracker.pause()
            raise
        except KeyboardInterrupt:
            job.tracker.pause()
            raise JobInterrupted("stopped at once; what was finished is kept, the same command goes on") from None
        write_page(job.folder / PAGE, result, job.ledger.config())
    return result


def evaluate_model(config: Config, model: str, split: str) -> Scores:
    """Scores of a version of a job (`JOB@ROUND`), a checkpoint folder, or a registered model (`models:/name@alias`)."""
    problems = _split(config, split)
    templates = template_set(config)
    with _opened(config, model) as (version_config, backend, round):
        evaluator = Evaluator(
            {split: problems},
            SolverAgent(templates),
            EvaluationSettings.from_section(config.evaluation),
            seed=version_config.job.seed,
        )
        with closing(backend.open(round)) as policy:
            return evaluator.evaluate(policy, split)


def evaluate_solutions(config: Config, path: Path, split: str) -> Scores:
    """Scores of solutions someone else produced; no model needed."""
    settings = EvaluationSettings.from_section(config.evaluation)
    return score_solutions(_split(config, split), read_solutions(path), settings, split=split, seed=config.job.seed)


def judge_file(config: Config, source: Path, output: Path) -> dict[str, int]:
    """The cascade alone over `{"prompt", "solution"}` lines; one verdict line each, in their order.

    Votes go through a ledger of their own, so an interrupted run goes on where it stopped. The output appears when
    complete.

    Returns:
        Counts: `candidates`, `accepted`, and rejections by reason or stage.

    Raises:
        DataError: a line cannot be used, naming file and line.
    """
    items = _read_answers(source)
    with Interrupt(_announce_stop) as interrupt, Ledger.open(job_folder(config), config) as ledger:
        backend = make_backend(config, job_folder(config))
        cascade = Cascade(template_set(config), cascade_settings(config))
        with closing(policy_opener(config, backend, ledger, interrupt)(0)) as judge:
            verdicts = cascade.judge(judge, items, round=0, purpose="judge")
    partial = output.with_name(f"{output.name}.part")
    with partial.open("w", encoding="utf-8") as file:
        file.writelines(
            json.dumps(_verdict_line(prompt, candidate, verdict), ensure_ascii=False) + "\n"
            for (prompt, candidate), verdict in zip(items, verdicts, strict=True)
        )
    partial.replace(output)
    reasons = Counter(str(v.stage or v.rejection) for v in verdicts if not v.accepted)
    return {"candidates": len(verdicts), "accepted": sum(v.accepted for v in verdicts), **reasons}


def report_job(job: str, root: Path) -> tuple[JobState, Path]:
    """A job's state, and its page, written again."""
    folder = root / "jobs" / job
    with LedgerReader.open_for_reading(folder) as reader:
        state = reader.state()
        return state, write_page(folder / PAGE, reader.result() or state, reader.config())


@contextmanager
def _opened(config: Config, model: str) -> Iterator[tuple[Config, Backend, int]]:
    """A backend that can open `model`, the configuration its seeds come from, and the round to open."""
    name, _, number = model.partition("@")
    if model.startswith("models:/"):
        name, number = _registered(config, model)
    if not number.isdigit():
        folder = job_folder(config).with_name(f"eval-{content_id(model, Domain.MATH)}")
        data = config.model_dump(mode="json")
        data["model"]["path"] = model
        data["update"]["replay"]["anchor"] = "none"  # nothing is trained, and some anchors belong to one checkpoint
        plain = parse_config(data)
        yield plain, make_backend(plain, folder), 0
        return
    folder = config.job.root / "jobs" / name
    with LedgerReader.open_for_reading(folder) as reader:
        own = parse_config(reader.config())
    yield own, make_backend(own, folder), int(number)


def _registered(config: Config, model: str) -> tuple[str, str]:
    """`models:/name@alias` as the job and round its source folder belongs to."""
    from svd_loop.registry import Registry
    from svd_loop.tracking.store import open_store

    name, _, alias = model.removeprefix("models:/").partition("@")
    store = open_store(config.tracking.uri, config.job.root, config.tracking.experiment)
    version = Registry(store.client).by_alias(name, alias or "champion")
    if version is None:
        raise ConfigError(f"--model {model}: nothing is registered under this name and alias")
    folder = Path(version.source)
    return folder.parents[1].name, folder.name.removeprefix("round-")


def _fork(config: Config, source: str) -> None:
    name, _, number = source.partition("@")
    if not name or not number.isdigit():
        raise ConfigError(f"--fork {source}: looks like JOB@ROUND, for example nano@2")
    origin = config.job.root / "jobs" / name
    versions = [PolicyVersion(round, "").name for round in range(int(number) + 1)]
    there = [version for version in versions if (origin / "versions" / version).exists()]
    with LedgerReader.open_for_reading(origin) as reader:  # a round that learned nothing has an earlier one in force
        played = reader.state().history[: int(number) + 1]
    needed = played[-1].version.name if played else versions[0]
    if (origin / "versions").exists() and needed not in there:
        raise WeightsError(
            f"--fork {source}: there are no weights of {needed} (never made, or deleted: update.keep_versions); "
            f"up to it {name} has {', '.join(there)}"
        )
    fork(origin, int(number), job_folder(config), config)
    for version in there:
        shutil.copytree(origin / "versions" / version, job_folder(config) / "versions" / version)


def _split(config: Config, split: str) -> list[Problem]:
    for name, source in held_out_sources(config).items():
        if name == split:
            return problems_of(source, name)
    raise ConfigError(f"--split {split}: the configuration has no data.{split}")


def _read_answers(path: Path) -> list[tuple[Prompt, Candidate]]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read: {error}") from None
    places: Counter[str] = Counter()
    items = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        row = _answer_row(line, f"{path}:{number}")
        domain = Domain(row.get("domain", Domain.MATH.value))
        prompt = Prompt(content_id(row["prompt"], domain), row["prompt"], domain, f"{path}:{number}")
        items.append((prompt, Candidate(prompt.id, places[prompt.id], row["solution"])))
        places[prompt.id] += 1
    if not items:
        raise DataError(f"{path}: holds no answers")
    return items


def _answer_row(line: str, where: str) -> Mapping[str, Any]:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise DataError(f"{where}: not valid JSON: {error}") from None
    if not isinstance(row, dict):
        raise DataError(f"{where}: not a JSON object but {type(row).__name__}")
    for key in ("prompt", "solution"):
        if not isinstance(row.get(key), str) or not row[key].strip():
            raise DataError(f"{where}: needs `{key}` as text, found {row.get(key)!r}")
    if row.get("domain", Domain.MATH.value) not in list(Domain):
        raise DataError(f"{where}: `domain` is one of {', '.join(Domain)}, found {row['domain']!r}")
    return row


def _verdict_line(prompt: Prompt, candidate: Candidate, verdict: Verdict) -> dict[str, Any]:
    return {
        "prompt": prompt.text,
        "solution": candidate.text,
        "accepted": verdict.accepted,
        "rejection": verdict.rejection,
        "stage": verdict.stage,
        "vote": verdict.vote,
        "votes": [
            {"stage": vote.stage, "vote": vote.vote, "value": vote.value, "text": vote.text} for vote in verdict.votes
        ],
    }


def _announce_stop() -> None:
    log.warning("stopping after the batch in flight; once more to stop at once")
