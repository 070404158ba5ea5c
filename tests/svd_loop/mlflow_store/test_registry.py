from __future__ import annotations

from pathlib import Path

import pytest

from svd_loop.mlflow_store.connection import Store, open_store
from svd_loop.mlflow_store.records import RegisteredVersion
from svd_loop.mlflow_store.registry import CHALLENGER, CHAMPION, Registry


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
