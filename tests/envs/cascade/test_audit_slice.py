from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from envs.cascade.audit_slice import audit_metrics, in_slice
from envs.cascade.cascade import Cascade
from envs.cascade.template_sets import TemplateSet
from svd_loop.config.sections import CascadeSection
from svd_loop.contracts import BUILT_IN_STAGES, Candidate, Prompt, Stage, Verdict, VoteValue
from svd_loop.jobs import run_job
from svd_loop.ledger import LedgerReader
from svd_loop.report.round_metrics import metrics_of
from svd_loop.support.statistics import wilson
from tests.envs.judges import always, by_seed, changed, interleaved, prompt, settings_of
from tests.svd_loop.jobs_support import small

CHAT = TemplateSet.load("chat")
ITEMS: list[tuple[Prompt, Candidate]] = [
    (prompt(p), Candidate(f"p{p}", i, f"solution {i} of {p}")) for p in range(30) for i in range(4)
]
PLAIN = settings_of(votes=3)


def judged(settings: CascadeSection, purpose: str = "train", seed: int = 0) -> list[Verdict]:
    return Cascade(CHAT, settings, seed, interleaved(settings)).judge(by_seed(0.7), ITEMS, round=2, purpose=purpose)


@given(st.floats(0.0, 1.0), st.floats(0.0, 1.0), st.integers(0, 99), st.text(max_size=8), st.integers(0, 20))
def test_a_larger_slice_contains_the_smaller(one: float, two: float, seed: int, prompt_id: str, index: int) -> None:
    small, large = sorted((one, two))
    assert in_slice(small, seed, 1, prompt_id, index) <= in_slice(large, seed, 1, prompt_id, index)
    assert in_slice(1.0, seed, 1, prompt_id, index) and not in_slice(0.0, seed, 1, prompt_id, index)


def test_the_slice_has_its_size_and_changes_with_round_and_seed() -> None:
    slices = [
        {place for place in range(4000) if in_slice(0.1, seed, round, f"p{place // 4}", place % 4)}
        for seed, round in ((0, 1), (0, 2), (1, 1))
    ]
    assert all(340 < len(one) < 460 for one in slices)
    assert all(len(slices[0] & other) < 80 for other in slices[1:])


@hypothesis.settings(max_examples=30)  # each judges two whole rounds
@given(st.floats(0.01, 1.0), st.integers(0, 50), st.sampled_from(["stage_major", "measured"]))
def test_the_slice_changes_no_verdict_and_no_vote(share: float, seed: int, order: str) -> None:
    own = changed(PLAIN, order=order)
    for plain, audited in zip(judged(own), judged(changed(own, audit_share=share), seed=seed), strict=True):
        assert replace(plain, votes=()) == replace(audited, votes=())
        assert audited.votes[: len(plain.votes)] == plain.votes
        chosen = in_slice(share, seed, 2, plain.prompt_id, plain.candidate)
        assert len(audited.votes) == (9 if chosen else len(plain.votes))


def test_rates_are_those_of_the_exhaustive_cascade_on_the_same_candidates() -> None:
    settings = changed(PLAIN, audit_share=0.5)
    cascade = Cascade(CHAT, settings)
    metrics = cascade.metrics(2, judged(settings))
    everything = [v for v in judged(changed(PLAIN, early_exit=False)) if in_slice(0.5, 0, 2, v.prompt_id, v.candidate)]
    assert metrics["audit.candidates"] == len(everything) > 40
    for stage in BUILT_IN_STAGES:
        votes = [[vote.value is VoteValue.YES for vote in v.votes if vote.stage == stage] for v in everything]
        expected = {"yes": sum(first for first, *_ in votes), "passes": sum(map(all, votes))}
        for name, count in expected.items():
            rate = wilson(count, len(votes))
            found = [metrics[f"audit.{stage}.{name}{end}"] for end in ("", ".low", ".high")]
            assert found == [rate.value, rate.low, rate.high]


def test_rates_of_survivors_would_mislead() -> None:
    """What early exit cast is biased, what the slice says is not: both are compared with all votes."""
    items = [(prompt(0), Candidate("p0", i, f"{i}")) for i in range(600)]
    good = {index for index in range(600) if index % 3 == 0}
    judge = by_seed(0.9)
    rule = judge.rule
    judge.rule = lambda call: "[[N]]" if call.id.candidate not in good and call.id.seed(1) % 4 else rule(call)
    settings = settings_of((Stage.FACTUALITY, Stage.CORRECTNESS), 2, audit_share=0.4)

    def yes_rate(verdicts: list[Verdict]) -> float:
        cast = [vote.value is VoteValue.YES for v in verdicts for vote in v.votes if vote.stage == Stage.CORRECTNESS]
        return sum(cast) / len(cast)

    truth = yes_rate(Cascade(CHAT, changed(settings, early_exit=False)).judge(judge, items, round=1))
    stopped = yes_rate(Cascade(CHAT, changed(settings, audit_share=0.0)).judge(judge, items, round=1))
    cascade = Cascade(CHAT, settings)
    metrics = cascade.metrics(1, cascade.judge(judge, items, round=1))
    assert stopped > truth + 0.15
    assert metrics["audit.correctness.yes.low"] < truth < metrics["audit.correctness.yes.high"]


@pytest.mark.parametrize("settings, purpose", [(PLAIN, "train"), (changed(PLAIN, audit_share=1.0), "canary")])
def test_there_is_no_slice_unless_asked_for_in_training(settings: CascadeSection, purpose: str) -> None:
    assert judged(settings, purpose) == judged(PLAIN, purpose)
    assert Cascade(CHAT, PLAIN).metrics(2, judged(PLAIN)) == {}


def test_unfit_candidates_are_left_out_of_the_rates() -> None:
    texts = ["one", "other", ""]
    items = [(prompt(0), Candidate("p0", i, text)) for i, text in enumerate(texts)]
    cascade = Cascade(CHAT, changed(PLAIN, audit_share=1.0))
    metrics = cascade.metrics(1, cascade.judge(always("[[Y]]"), items, round=1))
    assert metrics["audit.candidates"] == 2 and metrics["audit.factuality.passes"] == 1.0
    assert audit_metrics([], tuple(BUILT_IN_STAGES), 3) == {"audit.candidates": 0.0}


def test_a_job_logs_the_rates_and_trains_on_the_same_rows(tmp_path: Path) -> None:
    found = []
    for share in ("0", "0.3"):
        result = run_job(small(tmp_path / share, f"cascade.audit_share={share}", "job.rounds=1"))
        with LedgerReader.open_for_reading(tmp_path / share / "jobs" / "scripted") as ledger:
            verdicts = [tuple(row.values()) for row in ledger.query("SELECT * FROM verdicts ORDER BY 1, 2, 3")]
            found.append((ledger.accepted_rows(), verdicts, result.best.version, metrics_of(result.history[1])))
    (rows, verdicts, version, plain), (other_rows, other_verdicts, other_version, audited) = found
    assert (rows, verdicts, version) == (other_rows, other_verdicts, other_version)
    assert "audit.candidates" not in plain and audited["audit.candidates"] > 0
    assert audited["audit.correctness.yes.low"] < audited["audit.correctness.yes"]
