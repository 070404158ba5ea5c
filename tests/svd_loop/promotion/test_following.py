"""The examples in docs/deploy that follow the champion, on a real registry, a real server and real weights."""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
import threading
import urllib.error
import urllib.request
from pathlib import Path
from types import ModuleType
from typing import Any

import mlflow
import pytest

from policies.versions.weights import WeightStore
from svd_loop.mlflow_store.connection import open_store
from svd_loop.mlflow_store.registry import Registry
from tests.svd_loop.promotion.weighty_versions import nano_config, register, store_versions

DEPLOY = Path(__file__).parents[3] / "docs" / "deploy"


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, DEPLOY / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


class Shelf:
    """A registry in which version 1 is nano itself and version 2 other weights, and the first is champion."""

    def __init__(self, root: Path, store: WeightStore) -> None:
        opened = open_store(None, root, "svd-loop")
        self.root, self.registry = root, Registry(opened.client)
        run = opened.client.create_run(opened.experiment_id)
        for kind in ("base", "full"):
            register(self.registry, store, nano_config(root), kind, run.info.run_id)
        self.registry.set_alias("nano", "champion", 1)

    def promote(self) -> None:
        self.registry.promote(self.registry.get("nano", 2), over=self.registry.get("nano", 1))


@pytest.fixture
def shelf(tmp_path: Path, migrated_database: Path, monkeypatch: pytest.MonkeyPatch) -> Shelf:
    shutil.copy(migrated_database, tmp_path / "mlflow.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    mlflow.set_tracking_uri(None)
    return Shelf(tmp_path, store_versions(tmp_path))


def ask(port: int, question: dict[str, Any]) -> Any:
    request = urllib.request.Request(f"http://127.0.0.1:{port}/answer", json.dumps(question).encode())
    with urllib.request.urlopen(request, timeout=60) as reply:
        return json.load(reply)


def test_a_promotion_makes_the_server_answer_with_the_new_version_without_a_request_lost(shelf: Shelf) -> None:
    serving = script("serve_champion")
    champion, stop = serving.Champion("nano"), threading.Event()
    server = serving.make_server(champion, 0)
    port = server.server_address[1]
    threads = [
        threading.Thread(target=server.serve_forever),
        threading.Thread(target=champion.follow, args=(0.05, stop)),
    ]
    for thread in threads:
        thread.start()
    try:
        answered = [ask(port, {"question": "What is 3 + 4?"})]  # a request that fails raises
        shelf.promote()
        while answered[-1]["champion"] == "1":
            answered.append(ask(port, {"question": "What is 3 + 4?"}))
        numbers = [answer["champion"] for answer in answered]
        assert numbers == sorted(numbers) and set(numbers) == {"1", "2"}
        assert "round-000" in answered[0]["version"] and "round-001" in answered[-1]["version"]
        with pytest.raises(urllib.error.HTTPError, match="400"):
            ask(port, {"text": "?"})
        Path(shelf.registry.get("nano", 1).source, "manifest.json").unlink()  # a champion that cannot be loaded ...
        shelf.registry.set_alias("nano", "champion", 1)
        stop.wait(0.2)
        assert ask(port, {"question": "2+2?"})["champion"] == "2"  # ... leaves the one that can
    finally:
        stop.set()
        server.shutdown()
        server.server_close()
        for thread in threads:
            thread.join()


def test_a_command_is_run_for_each_new_champion_and_again_if_it_failed(shelf: Shelf) -> None:
    following = script("follow_champion")
    told = shelf.root / "told"
    program = (
        "import sys, pathlib; told = pathlib.Path(sys.argv[1]); old = told.read_text() if told.exists() else '';"
        "told.write_text(old + f'{sys.argv[2]} {sys.argv[3]}\\n'); sys.exit(not old)"  # the first time it fails
    )
    looks = iter(range(5))

    def look() -> Any:
        if next(looks) == 3:
            shelf.promote()
        return following.champion("nano", None, shelf.root)

    following.follow(look, [sys.executable, "-c", program, str(told), "v{version}", "{path}"], [0.0] * 5)
    lines = [line.split() for line in told.read_text().splitlines()]
    assert [version for version, _ in lines] == ["v1", "v1", "v2"]
    assert Path(lines[-1][1]) == Path(shelf.registry.get("nano", 2).source)
    assert (Path(lines[0][1]) / "model.safetensors").exists()
