from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from svd_loop.contracts import JobResult, StopReason, Usage, UsagePurpose
from svd_loop.ledger import Ledger, content_digest
from tests.svd_loop.ledger import samples

CALLS = [samples.solve(f"p{number}", 0) for number in range(6)]


def test_order_batches_time_and_place_do_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Ledger.open(tmp_path / "a", samples.config()) as ledger:
        ledger.record(samples.items(CALLS))
        samples.commit_rounds(ledger, 1)
        first = content_digest(ledger)
    monkeypatch.setattr("time.time", lambda: 0.0)
    with Ledger.open(tmp_path / "b", samples.config(root=tmp_path)) as ledger:
        samples.commit_rounds(ledger, 0)
        for call in reversed(CALLS):
            ledger.record(samples.items([call]))
        known = {**samples.record(1).usage, UsagePurpose.ROUND: {"solver": Usage(4, 9, 7, cached_tokens=5)}}
        slow = replace(samples.record(1), seconds={"sample": 77.0}, usage=known)
        moved = replace(samples.update(1), path=Path("/elsewhere"), metrics={"loss": 1.0, "train_runtime": 9.0})
        ledger.commit_round(slow, samples.episode(1), samples.rows(1), moved, samples.judge_rows(1))
        assert content_digest(ledger) == first


def test_anything_that_happened_does(tmp_path: Path) -> None:
    with Ledger.open(tmp_path, samples.config()) as ledger:
        digests = [content_digest(ledger)]
        steps = [
            lambda: ledger.record_prompts(samples.PROMPTS[:1]),
            lambda: ledger.record(samples.items(CALLS[:1])),
            lambda: samples.commit_rounds(ledger, 0),
            lambda: samples.commit_rounds(ledger, 1),
            lambda: ledger.commit_stop(
                JobResult("sample", StopReason.PLATEAU, samples.record(0), ledger.state().history)
            ),
        ]
        for step in steps:
            step()
            digests.append(content_digest(ledger))
    assert len(set(digests)) == len(digests)


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE answers SET attempt = 1",
        "UPDATE speakers SET template_version = 'other'",
        "UPDATE votes SET value = 'invalid' WHERE prompt_id = 'p0'",
        "UPDATE verdicts SET accepted = 0 WHERE prompt_id = 'p0'",
        "UPDATE candidates SET selected = 0",
        "UPDATE accepted_rows SET supervised_from = 0",
        "UPDATE judge_rows SET value = NULL",
        "UPDATE evaluations SET correct = 9 WHERE place = 0",
        "UPDATE rounds SET metrics = '{\"loss\": 2}'",
    ],
)
def test_a_single_value_does(change: str, tmp_path: Path) -> None:
    with Ledger.open(tmp_path, samples.config()) as ledger:
        ledger.record(samples.items(CALLS))
        samples.commit_rounds(ledger, 1)
        before = content_digest(ledger)
        list(ledger.query(change))
        assert content_digest(ledger) != before
