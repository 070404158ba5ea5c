"""Run one arm with one seed: run its job, measure its versions, store the result.

Gold of training prompts is read only here and in the gold control. Here it is read after the job has ended, to compute
how many of the accepted solutions were right.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace

from envs.solving import SolverAgent
from svd_loop.assembly.backends import make_backend
from svd_loop.assembly.data import problems_of
from svd_loop.assembly.job import policy_opener, template_set
from svd_loop.config import Config
from svd_loop.contracts import (
    HealthFigure,
    HealthMeasure,
    HealthReport,
    JobResult,
    Problem,
    RoundRecord,
    Stage,
    StepRates,
    Usage,
    UsagePurpose,
)
from svd_loop.contracts import Outcome as Scored
from svd_loop.errors import ConfigError
from svd_loop.evaluation.evaluation import Evaluator, score_pairs
from svd_loop.experiments.controls import control_of
from svd_loop.experiments.plan import Play
from svd_loop.experiments.results import TEST, ArmResult, Outcome, RoundFigures, store, stored
from svd_loop.experiments.test_time import answer_at_test_time
from svd_loop.jobs import run_job
from svd_loop.ledger import Interrupt, Ledger, LedgerReader, SharedAnswers
from svd_loop.loop.health_rule import alarms_of
from svd_loop.support.usage import MeteredPolicy, added

RESULTS = "results"
"""Name of the results' folder in a sweep's folder."""


def play(item: Play) -> ArmResult:
    """Play an arm with a seed, or return its stored result.

    All answers are in its job's ledger and in the shared answers of its seed, so a killed play continues.

    Raises:
        ConfigError: it was played before with another configuration.
        JobInterrupted: Ctrl-C; the same command continues.
        SvdError: as in `svd_loop.jobs.run_job`.
    """
    if (found := stored(item.folder / RESULTS, item.name)) is not None:
        if item.section.accepts_as is None and found.digest != item.digest:
            raise ConfigError(
                f"{item.folder / RESULTS / item.name}.json was played with another configuration; give the sweep "
                f"another name, or remove that file and {item.config.job.paths.folder}"
            )
        return found
    if item.section.accepts_as is not None:
        item = item.accepting(_rates(item, item.section.accepts_as))
    started = time.monotonic()
    with closing(SharedAnswers(item.shared)) as shared:
        result = _job(item, shared) if item.section.kind == "job" else _test_time(item, shared)
        result = replace(result, seconds=time.monotonic() - started, taken=shared.taken)
    store(item.folder / RESULTS, result)
    return result


def _rates(item: Play, arm: str) -> list[float]:
    """Return the accepted fractions of an arm, round by round, with the same seed."""
    other = stored(item.folder / RESULTS, f"{arm}-s{item.seed}")
    assert other is not None, f"{arm} is played before {item.arm}"
    return [figures.accepted / figures.prompts for figures in other.rounds[1:] if figures.prompts]


def _job(item: Play, shared: SharedAnswers) -> ArmResult:
    config = item.config
    control = control_of(item.control, config) if item.control else None
    result = run_job(config, control=control, shared=shared)
    last = result.history[-1].version.round
    outcomes = _measure(item, shared, sorted({0, result.best.version.round, last}))
    right, usage_by_role = _right_by_round(config), _usage(result)
    return ArmResult(
        arm=item.arm,
        seed=item.seed,
        digest=item.digest,
        seconds=0.0,
        tokens={role: usage.output_tokens for role, usage in usage_by_role.items() if usage.output_tokens},
        calls={role: usage.calls for role, usage in usage_by_role.items()},
        taken=0,
        rounds=tuple(_figures(record, right.get(record.round)) for record in result.history),
        base=outcomes[0],
        last=outcomes[last],
        kept=outcomes[result.best.version.round],
        stages=_stage_rates(result.history[0]),
    )


def _test_time(item: Play, shared: SharedAnswers) -> ArmResult:
    base = _measure(item, shared, [0])[0]
    sets = _held_out(item)
    with _versions(item, shared) as opened, closing(opened(0)) as policy:
        answered = {name: answer_at_test_time(item.config, policy, problems) for name, problems in sets.items()}
    outcomes = {name: Outcome.of(0, found.scores) for name, found in answered.items()}
    main = answered[TEST]
    return ArmResult(item.arm, item.seed, item.digest, 0.0, main.tokens, main.calls, 0, (), base, outcomes, outcomes)


def _measure(item: Play, shared: SharedAnswers, rounds: Sequence[int]) -> dict[int, dict[str, Outcome]]:
    """Return test outcomes of some versions on every held-out set; samples of the job are reused."""
    sets = _held_out(item)
    settings = item.config.evaluation
    solver = SolverAgent(template_set(item.config))
    # Every set is sampled like the test split, so it is evaluated under that name.
    evaluators = {name: Evaluator({TEST: items}, solver, settings, seed=item.seed) for name, items in sets.items()}
    found: dict[int, dict[str, Outcome]] = {}
    with _versions(item, shared) as opened:
        for round in rounds:
            with closing(opened(round)) as policy:
                scored = {name: evaluator.evaluate(policy, TEST) for name, evaluator in evaluators.items()}
            found[round] = {name: Outcome.of(round, scores) for name, scores in scored.items()}
    return found


@contextmanager
def _versions(item: Play, shared: SharedAnswers) -> Iterator[Callable[[int], MeteredPolicy]]:
    """Yield a function that opens versions of a play's job, with its ledger and the shared answers."""
    config, paths = item.config, item.config.job.paths
    identity = item.control.model_dump(mode="json") if item.control else None
    with Interrupt() as interrupt, Ledger.open(paths.folder, config, identity) as ledger:
        yield policy_opener(config, make_backend(config, paths.versions).open, ledger, interrupt, shared=shared)


def _held_out(item: Play) -> dict[str, list[Problem]]:
    """Return the test split and the arm's further held-out sets."""
    test = item.config.data.test
    assert test is not None, "the plan refuses a configuration without one"
    return {name: problems_of(source, TEST) for name, source in {TEST: test, **item.held_out}.items()}


def _figures(record: RoundRecord, right: float | None) -> RoundFigures:
    health, judged = record.health or HealthReport(), record.audit.get(Stage.CORRECTNESS, StepRates())
    distinct = health.shares.get(HealthFigure(HealthMeasure.DISTINCT))
    return RoundFigures(
        round=record.round,
        development=record.scores.pass_at_1.value,
        prompts=record.prompts,
        accepted=record.accepted_prompts,
        rows=record.rows,
        right=right,
        precision=judged.precision,
        recall=judged.recall,
        distinct=distinct.value if distinct else None,
        length=health.length_ratio,
        alarms=tuple(alarm.figure.name for alarm in alarms_of(record)),
    )


def _right_by_round(config: Config) -> dict[int, float]:
    """Return each round's share of accepted solutions that are right by gold; empty for prompts without gold."""
    if config.data.train.type == "files":
        return {}
    problems = {problem.id: problem for problem in problems_of(config.data.train, "train")}
    with LedgerReader.open_for_reading(config.job.paths.folder) as reader:
        reader.verify()
        rows = list(reader.query(_SELECTED))
    pairs = [(row["text"], problems[row["prompt_id"]]) for row in rows]
    outcomes = score_pairs(pairs, config.evaluation.test_seconds, config.evaluation.domains)
    found = [(row["round"], outcome) for row, outcome in zip(rows, outcomes, strict=True)]
    counts = Counter(round for round, outcome in found if outcome is not Scored.UNDECIDED)
    hits = Counter(round for round, outcome in found if outcome is Scored.RIGHT)
    return {round: hits[round] / count for round, count in counts.items()}


def _usage(result: JobResult) -> dict[str, Usage]:
    """Return the usage of sampling and judging by role, over all rounds; evaluation is not counted."""
    totals: dict[str, Usage] = {}
    for record in result.history[1:]:
        totals = added(totals, record.usage.get(UsagePurpose.ROUND, {}))
    return totals


def _stage_rates(record: RoundRecord) -> dict[str, float]:
    """Return precision and recall of each step of the funnel, as `precision.<step>` and `recall.<step>`."""
    rates = {
        f"{name}.{step}": value
        for step, audited in record.audit.items()
        for name, value in (("precision", audited.precision), ("recall", audited.recall))
    }
    return {name: value for name, value in rates.items() if value is not None}


_SELECTED = """
SELECT round, prompt_id, content_text(text) AS text FROM candidates WHERE selected ORDER BY round, prompt_id, candidate
"""
