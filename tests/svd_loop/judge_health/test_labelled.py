"""Answers that a user has labelled: they tell the judge's true and false positive rates, and are never trained on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from svd_loop.config import config_digest, load_config
from svd_loop.contracts import Domain, JobResult, StopReason
from svd_loop.errors import ConfigError, DataError
from svd_loop.jobs import run_job
from svd_loop.judge_health.labelled import read_labelled
from svd_loop.ledger import LedgerReader
from svd_loop.loop.health_rule import alarms_of
from svd_loop.preflight.checks import preflight
from svd_loop.report.round_metrics import metrics_of
from svd_loop.support.statistics import wilson
from tests.svd_loop.jobs_support import SCRIPTED, small

STAGES = "cascade.stages=[factuality, correctness]"  # the scripted inferrer knows its own solver's words alone
QUICK = ("evaluation.resamples=100", "data.development.count=3", "job.rounds=2", "plateau.patience=9", STAGES)


def labelled_file(folder: Path, right: int = 30, wrong: int = 30) -> Path:
    rows = [
        {"prompt": f"What is {n} + 100?", "solution": f"\\boxed{{{n + 100 + (n >= right)}}}", "correct": n < right}
        for n in range(right + wrong)
    ]
    path = folder / "labelled.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def played(root: Path, *overrides: str) -> JobResult:
    return run_job(small(root, *QUICK, *overrides))


def test_the_rates_are_those_of_all_votes_and_nothing_else_changes(tmp_path: Path) -> None:
    path = labelled_file(tmp_path)
    plain, watched = played(tmp_path / "plain"), played(tmp_path / "watched", f"health.labelled={path}")
    assert [r.version for r in watched.history] == [r.version for r in plain.history]
    assert not any("positive" in name for record in plain.history for name in metrics_of(record))
    for record in watched.history[1:]:
        with LedgerReader.open_for_reading(tmp_path / "watched" / "jobs" / "scripted") as ledger:
            rows = list(
                ledger.query(
                    "SELECT prompt_id, stage, vote, text FROM replies WHERE purpose = 'labelled' AND round = ?",
                    (record.round,),
                )
            )
            assert len(rows) == 60 * 2 * 2  # two votes of two stages, all asked
            words = {(r["prompt_id"], r["stage"], r["vote"]): ledger.text(r["text"]) for r in rows}
            trained = {row.prompt_id for row in ledger.accepted_rows()}
        answers = read_labelled(path, Domain.MATH).answers
        assert not trained & {answer.prompt.id for answer in answers}
        for name, label in (("true_positive", True), ("false_positive", False)):
            ids = [answer.prompt.id for answer in answers if answer.correct is label]
            yes = {
                s: [all(words[i, s, v].endswith("[[Y]]") for v in range(2)) for i in ids]
                for s in ("factuality", "correctness")
            }
            for stage, passed in yes.items():
                assert metrics_of(record)[f"health.{name}.{stage}"] == sum(passed) / 30
            both = sum(map(all, zip(*yes.values(), strict=True)))
            share = wilson(both, 30)
            found = [metrics_of(record)[f"health.{name}{end}"] for end in ("", ".low", ".high")]
            assert found == [share.value, share.low, share.high]


def test_a_judge_that_accepts_everything_is_detected_by_labels_too(tmp_path: Path) -> None:
    nods = ("engine.false_positive=1.0", f"health.labelled={labelled_file(tmp_path)}", "health.canaries=0")
    assert played(tmp_path / "off", *nods).history[-1].health.alarms == ()
    result = played(tmp_path / "on", *nods, "health.false_positive=0.3")
    assert result.stop is StopReason.JUDGE_UNHEALTHY and len(result.history) == 2
    assert [alarm.figure.name for alarm in alarms_of(result.history[1])] == ["false_positive"]
    assert any("wrong labelled answers accepted by the cascade 1.00" in note for note in result.notes)


def test_unusable_lines_are_reported(tmp_path: Path) -> None:
    path = labelled_file(tmp_path, right=3, wrong=0)
    with pytest.raises(DataError, match="every answer is labelled true"):
        played(tmp_path, f"health.labelled={path}")
    path.write_text('{"prompt": "?", "solution": "x", "correct": true}\n{"prompt": "?", "solution": "x"}\n')
    with pytest.raises(DataError, match=r"labelled.jsonl:2: needs `correct` as true or false, found None"):
        played(tmp_path, f"health.labelled={path}")
    with pytest.raises(ConfigError, match=r"health\.false_positive: 0\.1 is a limit"):
        small(tmp_path, "health.false_positive=0.1")
    [check] = [c for c in preflight(small(tmp_path, f"health.labelled={path}")).checks if c.name == "labelled answers"]
    assert not check.ok and "labelled.jsonl:2" in check.detail


def test_configurations_without_labels_have_the_digest_they_had(tmp_path: Path) -> None:
    config = load_config(SCRIPTED)
    assert not {"labelled", "false_positive"} & config.model_dump(mode="json")["health"].keys()
    assert config_digest(config) != config_digest(load_config(SCRIPTED, ["health.labelled=x.jsonl"]))
