"""Two scripted jobs of one model, and everything that can happen between the second one's end and its use."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from mlflow.exceptions import MlflowException

from policies.scripted import ScriptedPolicy
from svd_loop.config import Config
from svd_loop.errors import ConfigError, RegistryConflictError, RegistryError, WeightsError
from svd_loop.jobs import run_job
from svd_loop.mlflow_store.registry import CHALLENGER, CHAMPION, GATE_TAG, PREVIOUS, Registry
from svd_loop.promotion.history import model_history
from svd_loop.promotion.lookup import registry_of
from svd_loop.promotion.promotion import consider, promote, rollback
from tests.processes import Process
from tests.svd_loop.jobs_support import SCRIPTED, SMALL, small
from tests.svd_loop.promotion.promotion_jobs import TRACKED, play_two, tracked


@pytest.fixture(scope="module")
def two_jobs(tmp_path_factory: pytest.TempPathFactory, migrated_database: Path) -> Path:
    """Version 1, the weak job's, is the champion; version 2, the good job's, the challenger."""
    root = tmp_path_factory.mktemp("two")
    shutil.copy(migrated_database, root / "mlflow.db")
    play_two(root)
    return root


@pytest.fixture
def config(two_jobs: Path, tmp_path: Path) -> Config:
    """The two jobs' root, copied: sources still lie in the original, which no test changes."""
    root = tmp_path / "root"
    shutil.copytree(two_jobs, root)
    return tracked(root, "job.name=gate")


def aliases(config: Config) -> dict[str, int]:
    return registry_of(config).aliases("model")


def history(config: Config) -> list[tuple[str, int, int]]:
    return [(event.what, event.version, event.over) for event in registry_of(config).history("model")]


def test_a_better_version_becomes_champion_and_one_command_takes_it_back(config: Config) -> None:
    assert aliases(config) == {CHAMPION: 1, CHALLENGER: 2}
    decision = consider(config, "model")
    assert decision.passed, decision.refusals
    assert aliases(config) == {CHAMPION: 2, CHALLENGER: 2, PREVIOUS: 1}
    tags = registry_of(config).get("model", 2).tags
    assert tags[GATE_TAG] == "passed"
    assert float(tags["svd_loop.test.pass_at_1.low"]) <= float(tags["svd_loop.test.pass_at_1"])
    assert tags["svd_loop.data_digest"] and json.loads(tags["svd_loop.files"])

    assert rollback(config, "model").number == 1
    assert aliases(config) == {CHAMPION: 1, CHALLENGER: 2}
    with pytest.raises(RegistryError, match="no `previous`"):
        rollback(config, "model")
    again = consider(config, "model")
    assert [finding.rule for finding in again.refusals] == ["rollback"]
    assert not consider(config, "model", force="the rollback was a mistake").passed
    assert aliases(config) == {CHAMPION: 2, CHALLENGER: 2, PREVIOUS: 1}
    assert consider(config, "model").passed  # it is the champion already
    assert history(config) == [
        ("first", 1, 0),
        ("promoted", 2, 1),
        ("rolled back", 1, 2),
        ("refused", 2, 1),
        ("forced", 2, 1),
    ]


def test_a_worse_version_is_refused_and_the_refusal_recorded(config: Config) -> None:
    registry = registry_of(config)
    registry.set_alias("model", CHAMPION, 2)
    decision = promote(config, "model", 1)
    assert {finding.rule for finding in decision.refusals} >= {"pass@1", "domain.math"}
    assert aliases(config)[CHAMPION] == 2
    tags = registry.get("model", 1).tags
    assert tags[GATE_TAG] == "refused"
    assert "gate.margin" in tags["svd_loop.gate.reason"]
    assert {finding["rule"] for finding in json.loads(tags["svd_loop.gate.findings"])} >= {"pass@1", "health", "leaks"}
    assert history(config)[-1] == ("refused", 1, 2)


def test_a_spent_test_set_decides_nothing_more_until_it_is_replaced(config: Config) -> None:
    registry = registry_of(config)
    registry.set_alias("model", CHAMPION, 2)
    short = tracked(config.job.root, "job.name=gate", "gate.looks=1")
    for _ in range(2):  # the second time it is the same comparison
        decision = promote(short, "model", 1)
        assert "pass@1" in {finding.rule for finding in decision.refusals}
        budget = decision.findings[-1]
        assert (budget.rule, budget.passed, budget.value) == ("budget", True, pytest.approx(0.05))
    told = model_history(registry, "model")
    assert [(one["looks"], one["limit"], one["left"], one["spent"]) for one in told["budgets"]] == [(1, 1, 0.0, True)]
    assert told["events"][-1]["level"] == pytest.approx(0.05)

    registry.set_alias("model", CHAMPION, 1)
    refused = promote(short, "model", 2)
    (finding,) = refused.findings
    assert not refused.passed and finding.rule == "budget" and "fresh set" in finding.text
    assert aliases(short)[CHAMPION] == 1 and history(short)[-1] == ("refused", 2, 1)
    assert [one["looks"] for one in model_history(registry, "model")["budgets"]] == [1]
    fresh = tracked(
        config.job.root, "job.name=gate", "gate.looks=1", "data.test={type: arithmetic, count: 40, seed: 5}"
    )
    assert promote(fresh, "model", 2).passed


def test_nothing_is_asked_twice_and_what_the_jobs_end_measured_not_once(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    generate = ScriptedPolicy.generate

    def counted(self: ScriptedPolicy, calls: object) -> object:
        replies = generate(self, calls)  # type: ignore[arg-type]
        asked.extend(reply.call.purpose for reply in replies)
        return replies

    monkeypatch.setattr(ScriptedPolicy, "generate", counted)
    consider(config, "model")
    assert asked == []  # both jobs ended with the same test split, seed and sampling
    other = config.model_copy(update={"job": config.job.model_copy(update={"seed": 5})})
    consider(other, "model")
    assert asked == []  # the champion already: nothing to measure
    promote(other, "model", 1)
    assert len(asked) == 2 * 90 * 2  # versions, problems, samples
    promote(other, "model", 1)
    assert len(asked) == 2 * 90 * 2


def test_alarms_and_unknown_training_data_are_refused(config: Config) -> None:
    registry = registry_of(config)
    registry.tag(registry.get("model", 2), {"svd_loop.health_alarms": "2"})
    shutil.rmtree(config.job.root / "jobs" / "good")
    assert [finding.rule for finding in consider(config, "model").refusals] == ["health", "leaks"]


def test_a_test_set_that_was_trained_on_is_refused(config: Config) -> None:
    # The generator draws other problems for the test split, so the training prompts are handed over as a file.
    rows = prompts_of(config.job.root / "jobs" / "good")
    path = config.job.root / "leaked.jsonl"
    path.write_text("".join(json.dumps({"prompt": text, "answer": "1", "domain": "math"}) + "\n" for text in rows))
    leaked = tracked(config.job.root, "job.name=gate", f"data.test={{type: files, paths: [{path}]}}")
    decision = consider(leaked, "model")
    (finding,) = [finding for finding in decision.findings if finding.rule == "leaks"]
    assert not finding.passed and finding.value == len(rows)


def prompts_of(folder: Path) -> list[str]:
    from svd_loop.ledger import LedgerReader

    with LedgerReader.open_for_reading(folder) as reader:
        accepted = {row.prompt_id for row in reader.accepted_rows()}
        return [prompt.text for prompt in reader.prompts() if prompt.id in accepted][:5]


def test_damaged_or_exchanged_weights_are_not_measured(config: Config) -> None:
    registry = registry_of(config)
    source = Path(registry.get("model", 2).source)
    copy = config.job.root / "copy"
    shutil.copytree(source, copy)
    (copy / "policy.json").write_text("{}")
    run = registry._client.create_run(registry._client.get_experiment_by_name("svd-loop").experiment_id)
    version = registry.register("model", copy, fingerprint="00", run_id=run.info.run_id, tags={})
    with pytest.raises(WeightsError, match="contents changed"):
        promote(config, "model", version.number)
    shutil.copy(source / "policy.json", copy / "policy.json")
    with pytest.raises(WeightsError, match="other weights"):
        promote(config, "model", version.number)


def test_what_must_be_said_before_any_work(config: Config) -> None:
    with pytest.raises(RegistryError, match="no `challenger`"):
        consider(config, "nobody")
    with pytest.raises(RegistryError, match="no version 9"):
        promote(config, "model", 9)
    with pytest.raises(ConfigError, match="give the reason"):
        consider(config, "model", force="  ")
    blind = small(config.job.root, "tracking.enabled=true")
    with pytest.raises(ConfigError, match=r"data\.test"):
        consider(blind, "model")
    assert not consider(blind, "model", force="the test set is lost").passed
    assert aliases(config)[CHAMPION] == 2


def test_a_champion_moved_meanwhile_is_compared_again(
    config: Config, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """While versions 1 and 3 are measured, someone makes version 2 the champion by hand."""
    run_job(tracked(config.job.root, "job.name=middling", "engine.skill=0.7"))
    registry = registry_of(config)
    registry.set_alias("model", CHAMPION, 1)
    move = Registry.promote

    def moved_by_hand(self: Registry, *arguments: object, **options: object) -> None:
        monkeypatch.setattr(Registry, "promote", move)
        registry.set_alias("model", CHAMPION, 2)
        move(self, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Registry, "promote", moved_by_hand)
    decision = consider(config, "model")
    assert "meanwhile `champion` was moved to version 2" in caplog.text
    assert not decision.passed
    assert aliases(config)[CHAMPION] == 2
    assert history(config)[1:] == [("moved", 2, 1), ("refused", 3, 2)]


def test_a_champion_that_keeps_moving_is_given_up(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    move, places = Registry.promote, iter([3, 1, 3])
    run_job(tracked(config.job.root, "job.name=third", "engine.skill=0.2"))
    registry = registry_of(config)

    def moved_by_hand(self: Registry, *arguments: object, **options: object) -> None:
        registry.set_alias("model", CHAMPION, next(places))
        move(self, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Registry, "promote", moved_by_hand)
    with pytest.raises(RegistryConflictError, match="nothing was changed"):
        promote(config, "model", 2)
    assert aliases(config)[CHAMPION] == 3


@pytest.mark.parametrize("alias", [PREVIOUS, CHAMPION])
def test_a_registry_that_fails_at_the_promotion_is_made_good_by_the_same_command(
    config: Config, monkeypatch: pytest.MonkeyPatch, alias: str
) -> None:
    set_alias = Registry.set_alias

    def down(self: Registry, name: str, wanted: str, number: int) -> None:
        if wanted == alias:
            raise MlflowException("the store went away")
        set_alias(self, name, wanted, number)

    monkeypatch.setattr(Registry, "set_alias", down)
    with pytest.raises(RegistryError, match="the store went away"):
        consider(config, "model")
    assert aliases(config)[CHAMPION] == 1
    monkeypatch.undo()
    assert consider(config, "model").passed
    assert aliases(config) == {CHAMPION: 2, CHALLENGER: 2, PREVIOUS: 1}
    assert history(config) == [("first", 1, 0), ("promoted", 2, 1)]


def test_a_promotion_cut_short_after_the_alias_is_completed(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(self: Registry, name: str, event: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Registry, "_record", killed)
    with pytest.raises(KeyboardInterrupt):
        consider(config, "model")
    monkeypatch.undo()
    assert consider(config, "model").passed
    assert history(config) == [("first", 1, 0), ("promoted", 2, 1)]


def command(config: Config, *arguments: str) -> list[str]:
    settings = (*SMALL, *TRACKED, f"job.root={config.job.root}", "job.name=gate")
    options = [part for item in settings for part in ("-o", item)]
    return [sys.executable, "-m", "svd_loop.cli", "models", "promote", str(SCRIPTED), *arguments, *options, "--json"]


def test_two_processes_promoting_at_once_end_as_one_after_the_other_would(config: Config) -> None:
    """Version 2 is good, version 3 better than the champion and no better than 2: whoever comes second is told so."""
    run_job(tracked(config.job.root, "job.name=same", "engine.skill=0.9"))
    commands = [command(config, number) for number in ("2", "3")]
    processes = [Process(one, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for one in commands]
    ended = [(*process.read(), process.wait(120)) for process in processes]
    assert sorted(code for _, _, code in ended) == [0, 3], ended
    winner = next(json.loads(out)["version"] for out, _, code in ended if code == 0)
    loser = 5 - winner
    assert aliases(config) == {CHAMPION: winner, CHALLENGER: 3, PREVIOUS: 1}
    assert history(config) == [("first", 1, 0), ("promoted", winner, 1), ("refused", loser, winner)]
    assert "GateError" in next(err for _, err, code in ended if code == 3)


def test_a_refusal_that_is_repeated_stands_once(config: Config) -> None:
    registry = registry_of(config)
    version = registry.get("model", 2)
    for why in ("worse", "worse", "much worse"):
        registry.refuse(version, over=None, why=why)
    assert [event.why for event in registry.history("model") if event.what == "refused"][-2:] == ["worse", "much worse"]
