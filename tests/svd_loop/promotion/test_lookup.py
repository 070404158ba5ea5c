"""`svd-loop models` and `export`, in process: what they print and what they refuse."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from policies.versions.weights import Origin, WeightStore
from svd_loop.cli.app import app
from svd_loop.errors import ConfigError, GateError, ModelError, RegistryError, SvdError, WeightsError
from svd_loop.mlflow_store.connection import open_store
from svd_loop.promotion.lookup import export_version, local_folder, open_registry, servable_folder
from tests.svd_loop.jobs_support import SCRIPTED, SMALL
from tests.svd_loop.promotion.promotion_jobs import TRACKED, play_two


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory, migrated_database: Path) -> Path:
    root = tmp_path_factory.mktemp("models")
    shutil.copy(migrated_database, root / "mlflow.db")
    play_two(root)
    return root


def call(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def printed(*arguments: str) -> Any:
    done = call(*arguments, "--json")
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def refused(kind: type[SvdError], *arguments: str) -> str:
    done = call(*arguments)
    assert isinstance(done.exception, kind), done.output
    return str(done.exception)


def settings(root: Path) -> list[str]:
    return [part for item in (*SMALL, *TRACKED, f"job.root={root}", "job.name=gate") for part in ("-o", item)]


def test_list_and_show_tell_what_is_registered_and_what_is_behind_it(played: Path) -> None:
    versions = printed("models", "list", "--root", str(played))["versions"]
    assert [(one["version"], one["aliases"]) for one in versions] == [(1, ["champion"]), (2, ["challenger"])]
    assert printed("models", "list", "model", "--root", str(played))["versions"] == versions
    shown = printed("models", "show", "model@challenger", "--root", str(played))
    assert shown["tags"]["svd_loop.job"] == "good" and shown["tags"]["svd_loop.parent"] == "0"
    assert {"svd_loop.pass_at_1.low", "svd_loop.pass_at_1/math", "svd_loop.data_digest"} <= shown["tags"].keys()
    (data,) = shown["data"]
    assert data["round"] == 1 and data["rows"] == data["prompts"] > 0
    assert [event["what"] for event in shown["history"]] == ["first"]
    for arguments in (("list",), ("show", "2"), ("diff",)):
        assert call("models", *arguments, "--root", str(played)).exit_code == 0


def test_narrow_logs_cut_nothing_off(played: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    for arguments, cells in (
        (("list",), ("challenger", "development", "good")),
        (("history",), ("first", open_registry(None, played).history("model")[0].at)),
    ):
        told = call("models", *arguments, "--root", str(played)).stderr
        assert all(cell in told for cell in cells) and "…" not in told


def test_show_reads_well_where_prompts_were_generated_and_the_gate_has_spoken(played: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    shutil.copytree(played, root)
    call("models", "promote", str(SCRIPTED), *settings(root))
    told = call("models", "show", "--root", str(root)).stderr
    assert "prompts, generated\n" in told and "\n  ok  pass@1: pass@1 +" in told
    assert "gate.findings" not in told and ".low" not in told


def test_a_configuration_names_its_model_where_several_are_registered(played: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    shutil.copytree(played, root)
    client = open_store(None, root, "svd-loop").client
    client.create_registered_model("another")
    assert printed("models", "promote", str(SCRIPTED), *settings(root))["name"] == "model"
    assert printed("models", "rollback", str(SCRIPTED), *settings(root))["version"] == 1
    assert "give the name of a model" in refused(RegistryError, "models", "show", "--root", str(root))


def test_diff_names_scores_and_settings_that_differ(played: Path) -> None:
    found = printed("models", "diff", "champion", "challenger", "--root", str(played))
    assert (found["old"], found["new"], found["same_weights"]) == (1, 2, False)
    assert found["tags"]["svd_loop.job"] == ["weak", "good"]
    assert "engine.skill: 0.3 -> 0.9" in found["config"]


@pytest.mark.parametrize("reference", ["champion", "1", "model", "model@champion", "models:/model/1"])
def test_path_prints_a_folder_whatever_the_version_is_called(played: Path, reference: str) -> None:
    done = call("models", "path", reference, "--root", str(played))
    assert done.exit_code == 0, done.output
    folder = Path(done.stdout.strip())
    assert folder == (played / "jobs" / "weak" / "versions" / folder.name).resolve()


def test_an_adapter_is_served_merged_and_only_merged_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    merged: list[str] = []

    def export_merged(stored: Any, directory: Path) -> None:
        merged.append(stored.version.name)
        (directory / "model.safetensors").write_bytes(b"merged")

    monkeypatch.setattr("policies.versions.checkpoints.export_merged", export_merged)
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "model.safetensors").write_bytes(b"base")
    store = WeightStore(tmp_path / "versions")
    adapter = store.write(
        1,
        "lora",
        lambda part: (part / "adapter_model.safetensors").write_bytes(b"a") and None,
        Origin(0, base=tmp_path / "base"),
    )
    for _ in range(2):
        folder = servable_folder(adapter.path, tmp_path / "cache")
    assert [entry.name for entry in folder.iterdir()] == ["model.safetensors"]
    assert [entry.name for entry in folder.parent.iterdir()] == [folder.name]
    assert merged == ["round-001"]


def test_promote_exits_3_with_rule_figure_and_limit_and_rollback_undoes_it(played: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    shutil.copytree(played, root)
    promoted = printed("models", "promote", str(SCRIPTED), *settings(root))
    assert promoted["promoted"] and promoted["version"] == 2
    message = refused(GateError, "models", "promote", str(SCRIPTED), "model/1", *settings(root))
    assert "pass@1" in message and "gate.margin" in message and GateError.exit_code == 3
    assert printed("models", "rollback", str(SCRIPTED), *settings(root))["version"] == 1
    forced = printed("models", "promote", str(SCRIPTED), "2", "--force", "checked by hand", *settings(root))
    assert forced["promoted"] and not forced["passed"] and forced["forced"] == "checked by hand"
    history = printed("models", "show", "--root", str(root))["history"]
    assert [event["what"] for event in history] == ["first", "promoted", "refused", "rolled back", "forced"]
    assert history[-1]["why"] == "checked by hand"


def test_history_compares_champions_on_one_test_set_and_says_when_it_changed(played: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    shutil.copytree(played, root)
    assert printed("models", "history", "--root", str(root))["frozen"] == {}  # nothing met the gate yet
    printed("models", "promote", str(SCRIPTED), *settings(root))
    refused(GateError, "models", "promote", str(SCRIPTED), "model/1", *settings(root))
    other = ("-o", "data.test={type: arithmetic, count: 20}")
    refused(GateError, "models", "promote", str(SCRIPTED), "model/1", *settings(root), *other)
    found = printed("models", "history", "model", "--root", str(root))
    assert [(one["version"], one["what"], one["job"]) for one in found["champions"]] == [
        (1, "first", "weak"),
        (2, "promoted", "good"),
    ]
    first, second = found["frozen"].values()
    assert [one["version"] for one in first] == [one["version"] for one in second] == [1, 2]
    assert first[0]["score"] < first[1]["score"] and first != second
    tags = {one["version"]: one["tags"] for one in printed("models", "list", "--root", str(root))["versions"]}
    assert [f"{one['score']:.4f}" for one in second] == [tags[n]["svd_loop.test.pass_at_1"] for n in (1, 2)]
    assert {tags[n]["svd_loop.test.digest"] for n in (1, 2)} == {list(found["frozen"])[1]}
    assert found["idle"] == 1  # version 1, refused twice
    assert all(0 < one["accepted_fraction"] <= 1 and one["output_tokens"] > 0 for one in found["champions"])
    shown = call("models", "history", "--root", str(root))
    assert shown.exit_code == 0 and "the test set was changed" in shown.stderr


def test_any_round_of_an_ended_job_can_be_registered(played: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    shutil.copytree(played, root)
    base = printed("models", "register", "weak@0", "--root", str(root))
    assert (base["name"], base["version"], base["aliases"]) == ("model", 3, [])
    assert (base["tags"]["svd_loop.round"], base["tags"]["svd_loop.job"]) == ("0", "weak")
    assert float(base["tags"]["svd_loop.pass_at_1"]) > 0
    again = printed("models", "register", "weak@0", "--root", str(root))
    assert again["version"] == 3
    path = printed("models", "path", "model/3", "--root", str(root))["path"]
    assert Path(path) == (root / "jobs" / "weak" / "versions" / "round-000").resolve()
    assert "versions [0, 1]" in refused(ConfigError, "models", "register", "weak@7", "--root", str(root))
    assert "JOB@ROUND" in refused(ConfigError, "models", "register", "weak", "--root", str(root))


def test_errors_for_missing_versions_and_models(played: Path, tmp_path: Path) -> None:
    root = ("--root", str(played))
    assert "no job was tracked there" in refused(ConfigError, "models", "list", "--root", str(tmp_path))
    assert not list(tmp_path.iterdir())
    assert "registered models: model" in refused(RegistryError, "models", "list", "other", *root)
    assert "champion (version 1)" in refused(RegistryError, "models", "path", "model@best", *root)
    assert "no version 7" in refused(RegistryError, "models", "path", "7", *root)
    target = tmp_path / "out"
    assert "versions [0, 1]" in refused(ConfigError, "export", "good", "--version", "9", "--to", str(target), *root)
    assert "is not an adapter" in refused(ConfigError, "export", "good", "--adapter", "--to", str(target), *root)
    assert "no weights to export" in refused(ModelError, "export", "good", "--to", str(target), *root)
    assert not target.exists()
    target.mkdir()
    (target / "file").touch()
    assert "not empty" in refused(WeightsError, "export", "good", "--version", "last", "--to", str(target), *root)


def test_missing_weights_are_reported(played: Path) -> None:
    registry = open_registry(None, played)
    version = registry.get("model", 2)
    moved = Path(version.source).rename(Path(version.source).with_name("away"))
    try:
        with pytest.raises(WeightsError, match="does not exist on this machine"):
            local_folder(registry, version, played)
    finally:
        moved.rename(version.source)


def test_an_exported_version_has_a_card(played: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "svd_loop.promotion.lookup._merge", lambda stored, part: None
    )  # scripted versions have no weights
    export_version("good", played, "last", tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text()
    assert "# good, round-001" in card and "| development | overall |" in card and 'from_pretrained("out")' in card
