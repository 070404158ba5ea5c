"""Measuring a model: what was answered is kept, and a run that is killed goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from policies.scripted import ScriptedPolicy
from svd_loop.jobs import evaluate_model
from svd_loop.ledger import LedgerReader
from tests.svd_loop.jobs_support import small


def ledgers(root: Path) -> list[Path]:
    return sorted((root / "jobs").glob("eval-*"))


def answers(folder: Path) -> int:
    with LedgerReader.open_for_reading(folder) as reader:
        return int(next(iter(reader.query("SELECT count(*) AS n FROM answers")))["n"])


def test_an_interrupted_measurement_goes_on_and_asks_nothing_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small(tmp_path, "engine.chunk_size=8")
    whole = evaluate_model(small(tmp_path / "other", "engine.chunk_size=8"), None, "development")
    asked: list[int] = []
    generate = ScriptedPolicy.generate

    def failing(self: ScriptedPolicy, calls: Any) -> Any:
        if len(asked) == 2:
            raise KeyboardInterrupt
        asked.append(len(calls))
        return generate(self, calls)

    monkeypatch.setattr(ScriptedPolicy, "generate", failing)
    with pytest.raises(KeyboardInterrupt):
        evaluate_model(config, None, "development")
    (folder,) = ledgers(tmp_path)
    assert answers(folder) == sum(asked) > 0

    monkeypatch.setattr(ScriptedPolicy, "generate", generate)
    assert evaluate_model(config, None, "development") == whole
    kept = answers(folder)
    monkeypatch.setattr(ScriptedPolicy, "generate", lambda self, calls: pytest.fail("asked again"))
    assert evaluate_model(config, None, "development") == whole
    assert answers(folder) == kept == len(whole.correct) * whole.samples


def test_other_settings_are_another_measurement(tmp_path: Path) -> None:
    evaluate_model(small(tmp_path), None, "development")
    evaluate_model(small(tmp_path, "evaluation.samples=3"), None, "development")
    evaluate_model(small(tmp_path, "job.rounds=7"), None, "development")  # says nothing about an evaluation
    assert len(ledgers(tmp_path)) == 2
