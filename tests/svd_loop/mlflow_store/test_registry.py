from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from svd_loop.mlflow_store.connection import Store, open_store
from svd_loop.mlflow_store.records import Measured, RegisteredVersion
from svd_loop.mlflow_store.registry import CHALLENGER, CHAMPION, PREVIOUS, Registry


@pytest.fixture
def store(root: Path) -> Store:
    return open_store(None, root, "experiment")


def register(store: Store, folder: Path, fingerprint: str, **tags: str) -> RegisteredVersion:
    folder.mkdir(exist_ok=True)
    run_id = store.client.create_run(store.experiment_id).info.run_id
    return Registry(store.client).register("model", folder, fingerprint=fingerprint, run_id=run_id, tags=tags)


def test_nothing_is_known_of_a_model_nobody_registered(store: Store) -> None:
    registry = Registry(store.client)
    assert registry.versions("model") == []
    assert registry.by_alias("model", CHAMPION) is None


def test_a_name_with_an_apostrophe_that_others_registered_is_found(store: Store) -> None:
    store.client.create_registered_model("it's theirs")
    registry = Registry(store.client)
    assert registry.names() == ["it's theirs"] and registry.versions("it's theirs") == []


def test_the_same_weights_keep_their_version_and_get_the_newest_tags(store: Store, tmp_path: Path) -> None:
    first = register(store, tmp_path / "a", "11", score="0.5")
    again = register(store, tmp_path / "a", "11", score="0.6")
    assert (first.number, again.number) == (1, 1)
    assert again.tags["score"] == "0.6"
    assert register(store, tmp_path / "a", "22").number == 2
    assert [version.number for version in Registry(store.client).versions("model")] == [1, 2]


def test_the_first_version_becomes_champion_and_the_newest_challenger(store: Store, tmp_path: Path) -> None:
    registry = Registry(store.client)
    first = registry.nominate(register(store, tmp_path / "a", "11"))
    second = registry.nominate(register(store, tmp_path / "b", "22"))
    assert set(first.aliases) == {CHAMPION, CHALLENGER}
    assert set(second.aliases) == {CHALLENGER}
    champion, challenger = registry.by_alias("model", CHAMPION), registry.by_alias("model", CHALLENGER)
    assert champion is not None and champion.number == 1 and Path(champion.source) == tmp_path / "a"
    assert challenger is not None and challenger.number == 2


class Killed(BaseException):
    """As a kill: nothing in between may catch it."""


class DyingClient:
    """A client that dies before every k-th write; 0: never."""

    def __init__(self, client: MlflowClient, every: int) -> None:
        self._client = client
        self._every = every
        self.writes = 0

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)
        if not name.startswith(("set_", "delete_")):
            return method

        def write(*arguments: Any, **options: Any) -> Any:
            self.writes += 1
            if self._every and self.writes % self._every == 0:
                raise Killed
            return method(*arguments, **options)

        return write


def live(store: Store, folder: Path, name: str, every: int) -> object:
    """Two versions, a promotion, a rollback and a forced promotion; a step is repeated until it is not killed."""
    client: Any = DyingClient(store.client, every)
    registry = Registry(client)
    run_id = store.client.create_run(store.experiment_id).info.run_id
    measured = Measured("problems", 0.75, 0.5, 0.01, 0.05, 20)

    def register(number: int) -> None:
        source = folder / str(number)
        source.mkdir(exist_ok=True)
        registry.nominate(registry.register(name, source, fingerprint=str(number), run_id=run_id, tags={"a": "b"}))

    def promote(why: str = "") -> None:
        champion = registry.by_alias(name, CHAMPION)
        if champion is not None and champion.number == 2:
            registry.record_outside_moves(name)
        else:
            registry.promote(registry.get(name, 2), over=champion, why=why, measured=measured)

    steps: tuple[Callable[[], object], ...] = (
        lambda: register(1),
        lambda: register(2),
        promote,
        lambda: registry.rollback(name),
        lambda: promote("because"),
    )
    for step in steps:
        while True:
            try:
                step()
                break
            except Killed:
                continue
    tags = [
        {key: value for key, value in version.tags.items() if "event" not in key} for version in registry.versions(name)
    ]
    history = [replace(event, at="") for event in registry.history(name)]
    return registry.aliases(name), tags, history


def test_killed_before_a_write_the_repeated_step_leaves_the_same(store: Store, tmp_path: Path) -> None:
    expected = live(store, tmp_path, "whole", 0)
    aliases, tags, history = expected  # type: ignore[misc]
    assert aliases == {CHAMPION: 2, CHALLENGER: 2, PREVIOUS: 1}
    assert [event.what for event in history] == ["first", "promoted", "rolled back", "forced"]
    assert [event.score for event in history] == [None, 0.75, None, 0.75]
    assert [sorted(one) for one in tags] == [["a", "svd_loop.fingerprint"]] * 2
    for every in (7, 8):
        assert live(store, tmp_path, f"killed-{every}", every) == expected
