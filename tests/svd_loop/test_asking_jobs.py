"""Whole scripted jobs with agreement as a stage and under each way of asking: funnel, audit, calls, and resuming."""

from __future__ import annotations

from pathlib import Path

import pytest

from svd_loop.cli.explain import _lines
from svd_loop.contracts import Asking, JobResult, Role, UsagePurpose
from svd_loop.errors import ConfigError, JobInterrupted
from svd_loop.jobs import run_job
from svd_loop.ledger import DurablePolicy, LedgerReader
from svd_loop.promotion.verdicts_of_prompts import judged_candidates
from tests.svd_loop.jobs_support import small

MATH = (
    "data.train={type: nano, count: 18, domains: [math]}",
    "data.development={type: nano, count: 8, domains: [math]}",
    "job.rounds=1",
)
AGREEING = (*MATH, "cascade.stages=[{type: agreement, count: 2}, factuality]", "sampling.block=null")


def test_agreement_is_counted_audited_and_explained_like_any_stage(tmp_path: Path) -> None:
    result = run_job(small(tmp_path, *AGREEING, "evaluation.audit=6", "engine.skill=0.6"))
    played = result.history[1]
    assert list(played.funnel) == ["generated", "complete", "agreement", "factuality", "accepted"]
    assert 0 < played.funnel["agreement"] < played.funnel["complete"]
    assert sum(played.votes["agreement"].values()) == played.funnel["complete"]  # one vote on each
    assert set(played.audit) == {"complete", "agreement", "factuality"}
    usage = played.usage[UsagePurpose.ROUND]
    assert set(usage) == {Role.SOLVER, Role.FACT_CHECKER}
    assert usage[Role.FACT_CHECKER].calls <= 2 * played.funnel["agreement"]
    with LedgerReader.open_for_reading(tmp_path / "jobs" / "scripted") as reader:
        prompt = reader.prompts()[0].id
    told = [line for one in judged_candidates("scripted", tmp_path, prompt) for line in _lines(one, None)]
    assert any("of 4 candidates reach this final answer, 2 are needed" in line for line in told)


def test_agreement_alone_or_first_works_with_a_measured_order(tmp_path: Path) -> None:
    for name, stages in (("alone", "agreement"), ("first", "factuality, correctness, agreement")):
        options = ("cascade.order=measured", f"cascade.stages=[{stages}]", f"job.name={name}", "job.rounds=2")
        result = run_job(small(tmp_path, *AGREEING, *options))
        assert result.history[2].funnel["agreement"] > 0
        assert result.history[2].metrics["order.agreement.0"] == 0.0
    assert set(run_job(small(tmp_path, *AGREEING, *options)).history[2].votes) == {
        "agreement",
        "factuality",
        "correctness",
    }


def test_programs_are_refused_before_any_sample(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="the domain coding has programs"):
        run_job(small(tmp_path, *AGREEING, "data.train.domains=[coding]"))
    with pytest.raises(ConfigError, match="the domain coding has programs"):  # audited development problems
        run_job(small(tmp_path, *AGREEING, "data.development.domains=[coding]", "evaluation.audit=2"))


def calls_of(result: JobResult) -> dict[str, int]:
    usage = result.history[1].usage[UsagePurpose.ROUND]
    return {role: counts.calls for role, counts in usage.items()}


def test_without_early_exit_every_call_of_every_way_is_made(tmp_path: Path) -> None:
    """18 prompts of 4 candidates, 2 votes of 2 stages; own solutions belong to prompts."""
    options = (*MATH, "cascade.stages=[factuality, correctness]", "cascade.early_exit=false", "sampling.block=null")
    found = {
        asking: calls_of(run_job(small(tmp_path, *options, f"cascade.asking={asking}", f"job.name={asking}")))
        for asking in Asking
    }
    prompts = found[Asking.DIRECT][Role.SOLVER] // 4
    each, both = 4 * prompts * 2, {Role.SOLVER: 4 * prompts}
    assert found[Asking.DIRECT] == found[Asking.THINK] == both | {Role.FACT_CHECKER: each, Role.GRADER: each}
    assert found[Asking.TWO_TURNS] == both | {
        Role.FACT_REVIEWER: each,
        Role.ANSWER_REVIEWER: each,
        Role.VERDICT_GIVER: 2 * each,
    }
    assert found[Asking.SOLVE_FIRST] == both | {
        Role.REFERENCE_SOLVER: 2 * 2 * prompts,
        Role.FACT_COMPARER: each,
        Role.ANSWER_COMPARER: each,
        Role.VERDICT_GIVER: 2 * each,
    }


@pytest.mark.parametrize("options", [(*AGREEING, "cascade.asking=two_turns"), (*MATH, "cascade.asking=solve_first")])
def test_an_interrupted_job_goes_on_to_the_same_result(
    tmp_path: Path, options: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    small_chunks = (*options, "engine.chunk_size=16", "engine.invalid=0.1")
    whole = run_job(small(tmp_path, *small_chunks, "job.name=whole"))
    told, real = 0, DurablePolicy._answer

    def interrupted(self: DurablePolicy, *arguments: object) -> object:
        nonlocal told
        told += 1
        if told in (6, 16):
            raise JobInterrupted("stopped for the test")
        return real(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(DurablePolicy, "_answer", interrupted)
    for _ in range(2):
        with pytest.raises(JobInterrupted):
            run_job(small(tmp_path, *small_chunks, "job.name=resumed"))
    one, other = whole.history[1], run_job(small(tmp_path, *small_chunks, "job.name=resumed")).history[1]
    assert (one.scores, one.version, one.funnel, one.votes) == (other.scores, other.version, other.funnel, other.votes)
    assert one.usage == other.usage
