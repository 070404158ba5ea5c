"""The loop on the embedded checkpoint: real weights, real SFT, real MLflow, small enough for the suite."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import pytest

from policies.training.rows import REASONS
from svd_loop.config import Config, load_config
from svd_loop.contracts import RoundRecord, StopReason
from svd_loop.jobs import evaluate_model, run_job
from svd_loop.ledger import LedgerReader
from svd_loop.mlflow_store.registry import Registry
from svd_loop.promotion.registering import register_round

NANO = Path(__file__).parents[2] / "configs" / "nano.yaml"
SMALL = (
    "data.train.count=30",
    "data.development.count=6",
    "data.test=null",
    "data.prompts_per_round=10",
    "sampling.n=3",
    "cascade.votes=1",
    "evaluation.samples=2",
    "job.rounds=2",
    "plateau.patience=9",
    "plateau.regression=1.0",
    "engine.threads=1",
    "evaluation.audit=6",
    "health.canaries=3",
)


def small(root: Path, *overrides: str) -> Config:
    return load_config(NANO, [*SMALL, f"job.root={root}", "tracking.enabled=false", *overrides])


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Config]:
    root = tmp_path_factory.mktemp("nano")
    config = small(root)
    result = run_job(config)
    assert result.stop is StopReason.ROUND_LIMIT
    return root, config


def test_rows_are_exactly_what_was_sampled_and_end_in_the_stop_token(played: tuple[Path, Config]) -> None:
    root, _ = played
    with LedgerReader.open_for_reading(root / "jobs" / "nano") as reader:
        rows = reader.accepted_rows()
        sampled = {
            (reply["prompt_id"], reply["round"], reply["candidate"]): reply
            for reply in reader.query("SELECT * FROM replies WHERE purpose = 'train' AND role = 'solver'")
        }
        assert rows
        for row in rows:
            reply = sampled[row.prompt_id, row.round, row.candidate]
            prompt, answer = reader.ids(reply["prompt_ids"]), reader.ids(reply["token_ids"])
            assert row.input_ids == (*prompt, *answer)
            assert row.supervised_from == len(prompt)
            assert reply["finish_reason"] == "stop"
    from policies.text.chat import ChatCodec

    codec = ChatCodec.load(NANO.parents[1] / "policies" / "nano")
    assert {row.input_ids[-1] for row in rows} <= codec.stop_ids


def test_the_same_job_elsewhere_has_the_same_weights(played: tuple[Path, Config], tmp_path: Path) -> None:
    root, _ = played
    again = run_job(small(tmp_path))
    with LedgerReader.open_for_reading(root / "jobs" / "nano") as reader:
        versions = [record.version for record in reader.state().history]
    assert [record.version for record in again.history] == versions
    assert len({version.fingerprint for version in versions}) == 3


def test_a_stored_version_can_be_measured_again(played: tuple[Path, Config]) -> None:
    root, config = played
    with LedgerReader.open_for_reading(root / "jobs" / "nano") as reader:
        recorded = reader.state().history[2].scores
    assert evaluate_model(config, "nano@2", "development").correct == recorded.correct
    folder = root / "jobs" / "nano" / "versions" / "round-002"
    assert evaluate_model(config, str(folder), "development").correct == recorded.correct


@pytest.mark.parametrize(
    "overrides",
    [
        ("update.method=lora", "update.lora.rank=4", "update.start=base", "update.replay.anchor=none"),
        ("update.method=lora", "update.lora.rank=4", "update.start=previous"),
        ("update.replay.anchor=own", "update.start=base"),
    ],
    ids=["lora-from-base", "lora-continued", "own-anchors-from-base"],
)
def test_every_kind_of_update_plays_two_rounds(tmp_path: Path, overrides: tuple[str, ...]) -> None:
    few = ("data.prompts_per_round=9", "evaluation.audit=0", "evaluation.samples=1", "health.canaries=0")
    result = run_job(small(tmp_path, *few, *overrides))
    assert [record.round for record in result.history] == [0, 1, 2]
    assert result.history[2].rows > 0
    assert len({record.version.fingerprint for record in result.history}) == 3


def update_reached_mlflow(logged: Mapping[str, float], record: RoundRecord) -> None:
    for name in ("loss", "final_loss", "gradient_norm", "largest_gradient_norm", "learning_rate", "tokens_per_second"):
        assert logged[f"update/{name}"] == pytest.approx(record.update[name])
        assert math.isfinite(record.update[name]) and record.update[name] > 0
    refused = {name: logged[f"rows_refused/{name}"] for name in REASONS}
    assert set(refused.values()) == {0.0}  # what is refused, and counted, is tested with the updater


def test_mlflow_holds_the_story_and_the_registered_model(tmp_path: Path, migrated_database: Path) -> None:
    import shutil

    from svd_loop.mlflow_store.connection import open_store

    shutil.copy(migrated_database, tmp_path / "mlflow.db")
    result = run_job(
        small(tmp_path, "tracking.enabled=true", "tracking.trackers=[{type: mlflow, traces: 2}]", "job.rounds=1")
    )
    client = open_store(None, tmp_path, "svd-loop").client
    experiment = client.get_experiment_by_name("svd-loop")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert len(runs) == 3  # the job, the baseline and one round
    logged = next(run for run in runs if "update/loss" in run.data.metrics and "cost/votes" in run.data.metrics)
    update_reached_mlflow(logged.data.metrics, result.history[1])
    champion = Registry(client).by_alias("nano", "champion")
    if result.best.version.round == 0:  # the start remained the best: there is nothing to put in use
        assert champion is None
    else:
        assert champion is not None and champion.source.endswith(result.best.version.name)
    trained = register_round("nano@1", tmp_path)
    assert trained.source.endswith("round-001") and trained.tags["svd_loop.kind"] == "full"
    found = evaluate_model(small(tmp_path), f"models:/nano/{trained.number}", "development")
    assert found.correct == result.history[1].scores.correct
    assert {run.info.status for run in client.search_runs([experiment.experiment_id])} == {"FINISHED"}


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("chat_template", "has no chat template"),
        ("layers", "says 9 layers, the weights have 4"),
        ("weights", "has no weights"),
    ],
)
def test_an_unusable_checkpoint_is_refused_before_any_work(tmp_path: Path, damage: str, message: str) -> None:
    import json
    import shutil

    from svd_loop.errors import SvdError

    checkpoint = tmp_path / "checkpoint"
    shutil.copytree(NANO.parents[1] / "policies" / "nano", checkpoint)
    if damage == "chat_template":
        (checkpoint / "chat_template.jinja").unlink()
    elif damage == "weights":
        (checkpoint / "model.safetensors").unlink()
    else:
        path = checkpoint / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "num_hidden_layers": 9}))
    with pytest.raises(SvdError, match=message):
        run_job(small(tmp_path, f"model.path={checkpoint}", "update.replay.anchor=none"))
    assert not (tmp_path / "jobs" / "nano" / "prompts.sqlite").exists()


def test_measuring_may_sample_otherwise_than_the_loop(tmp_path: Path) -> None:
    greedy = "evaluation.sampling={temperature: 0.0, max_tokens: 96}"
    result = run_job(small(tmp_path, greedy, "job.rounds=0"))
    with LedgerReader.open_for_reading(tmp_path / "jobs" / "nano") as reader:
        found = list(reader.query("SELECT prompt_id, content_text(text) AS text FROM replies WHERE role = 'solver'"))
    texts: dict[str, set[str]] = {}
    for reply in found:
        texts.setdefault(reply["prompt_id"], set()).add(reply["text"])
    assert len(found) == 2 * len(texts) == 2 * len(result.history[0].scores.problem_ids)
    assert {len(different) for different in texts.values()} == {1}
