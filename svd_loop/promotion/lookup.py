"""Find registered versions by reference, and get their weights as a folder on this machine."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from policies.versions.stored import StoredVersion, follow_umask, read_manifest, stored_version
from policies.versions.weights import WeightStore, check_intact
from svd_loop.config import Config, changed_keys, parse_config
from svd_loop.contracts import PolicyVersion, RootPaths
from svd_loop.errors import ConfigError, ModelError, RegistryError, WeightsError
from svd_loop.ledger import LedgerReader
from svd_loop.loop.plateau import PlateauRule
from svd_loop.mlflow_store.connection import open_store, tracking_uri
from svd_loop.mlflow_store.model_card import ADAPTER, CHECKPOINT, model_card
from svd_loop.mlflow_store.records import Event, RegisteredVersion
from svd_loop.mlflow_store.registry import CHAMPION, FINGERPRINT_TAG, Registry
from svd_loop.support.listing import listing
from svd_loop.support.part_folder import part_folder

EXPERIMENT = "svd-loop"
_LONG_TAGS = ("svd_loop.files", "svd_loop.base_files")
"""Tags with digests by file; left out of comparisons and shown in JSON only."""


@contextmanager
def registry_errors() -> Iterator[None]:
    """Turn exceptions of the MLflow client into `RegistryError`."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        reason = str(error).partition("\n")[0]
        raise RegistryError(
            f"the model registry failed: {reason}\nMeasurements are stored; run the same command again when "
            "the registry is available"
        ) from error


def open_registry(uri: str | None, root: Path, experiment: str = EXPERIMENT) -> Registry:
    """Open the registry of the store given by `tracking.uri` and `job.root`.

    Raises:
        ConfigError: the store cannot be reached or used.
    """
    return Registry(open_store(uri, root, experiment).client)


def registry_of(config: Config) -> Registry:
    """Open the registry in which a configuration's jobs register their versions."""
    return open_registry(config.tracking.uri, config.job.root, config.tracking.experiment)


def existing_registry(uri: str | None, root: Path) -> Registry:
    """Open a registry for reading; unlike `open_registry` it does not create a local store.

    Raises:
        ConfigError: there is no such store.
    """
    if uri is None and not RootPaths(root).mlflow_store.exists():
        raise ConfigError(f"--root {root}: {tracking_uri(uri, root)} does not exist; no job was tracked there")
    return open_registry(uri, root)


def configured_model(config: Config) -> str:
    """Return the registered model's name: the model a schedule trains further, or the one its jobs register in."""
    return config.schedule.model or config.tracking.register_as or config.job.name


def find_version(registry: Registry, reference: str, default: str | None = None) -> RegisteredVersion:
    """Return the version for `models:/NAME@ALIAS`, `NAME@ALIAS`, `NAME/NUMBER`, `NAME`, `ALIAS` or `NUMBER`.

    Without alias and number it is the champion. Without a name it is the model `default` if that is registered;
    otherwise the registry must contain exactly one model.

    Raises:
        RegistryError: there is no such version; the message lists the existing ones.
    """
    name, which = _split(registry, reference.removeprefix("models:/"), default)
    if which.isdigit():
        return registry.get(name, int(which))
    version = registry.by_alias(name, which)
    if version is None:
        known = registry.aliases(name)
        existing = listing(which, (f"{alias} (version {number})" for alias, number in sorted(known.items())))
        raise RegistryError(f"{name}: there is no alias `{which}`; the model has {existing}")
    return version


def model_name(registry: Registry, name: str | None = None, default: str | None = None) -> str:
    """Return `name` if it is registered; without one, `default` if it is registered, or else the only registered model.

    Raises:
        RegistryError: there is no such model, or several and no name was given.
    """
    names = registry.names()
    if name is None and default in names:
        return str(default)
    if name is None and len(names) == 1:
        return names[0]
    if name in names:
        return str(name)
    known = listing(name or "", names)
    wanted = f"no model {name!r} is registered" if name else "give the name of a model"
    raise RegistryError(f"{wanted}; registered models: {known}")


def local_folder(registry: Registry, version: RegisteredVersion, root: Path) -> Path:
    """Return the version's folder on this machine, downloaded if a server stores it; all files are verified.

    Args:
        registry: registry of the version.
        version: the version.
        root: `job.root`; downloaded versions are stored in `models` below it.

    Raises:
        WeightsError: files are missing or changed, or they are not the weights that were registered.
    """
    if version.source.startswith("runs:/"):
        folder = RootPaths(root).model(version.name) / version.tags[FINGERPRINT_TAG][:12]
        _make_once(folder, lambda part: _fetch(registry, version, part))
    else:
        folder = Path(version.source.removeprefix("file://"))
        if not folder.exists():
            raise WeightsError(f"{version}: its weights are in {folder}, which does not exist on this machine")
    stored = stored_version(folder)
    check_intact(stored)
    registered = version.tags.get(FINGERPRINT_TAG)
    if registered not in (None, stored.version.fingerprint):
        raise WeightsError(
            f"{folder}: contains other weights than {version} (fingerprint {stored.version.fingerprint[:12]}, "
            f"registered {str(registered)[:12]})"
        )
    return folder


def servable_folder(folder: Path, cache: Path) -> Path:
    """Return a folder that `vllm serve` and `from_pretrained` read, for the verified version in `folder`.

    Full weights are used in place; an adapter is merged once into `cache`.
    """
    stored = stored_version(folder)
    if stored.kind != "lora":
        return stored.checkpoint
    merged = cache / f"{stored.version.fingerprint[:12]}-merged"
    _make_once(merged, lambda part: _merge(stored, part))
    return merged


def export_version(job: str, root: Path, which: str, target: Path, *, adapter: bool = False) -> PolicyVersion:
    """Write a version of a job as one checkpoint folder with a card, or its adapter alone; all of it or nothing.

    Args:
        job: job name.
        root: `job.root`.
        which: `best`, `last`, or a round such as `3` or `round-003`.
        target: a new folder.
        adapter: write the adapter as PEFT stores it, not merged.

    Raises:
        ConfigError: there is no such version, or it is not an adapter.
        WeightsError: the version is damaged, or `target` is not empty.
    """
    paths = RootPaths(root).job(job)
    with LedgerReader.open_for_reading(paths.folder) as reader:
        round = _round(reader, which)
        card = _card(reader, round, ADAPTER if adapter else CHECKPOINT, target)
    stored = WeightStore(paths.versions).load(round)
    if adapter and stored.kind != "lora":
        raise ConfigError(f"--adapter: {stored.version.name} of {job} is not an adapter but {stored.kind} weights")
    if target.exists() and any(target.iterdir()):
        raise WeightsError(f"{target}: is not empty; export into a new folder")

    def copy(part: Path) -> None:
        for name in read_manifest(stored.path).files:
            shutil.copy2(stored.path / name, part / name)
        follow_umask(part)

    def fill(part: Path) -> None:
        if adapter:
            copy(part)
        else:
            _merge(stored, part)
        (part / "README.md").write_text(card, encoding="utf-8")

    if target.exists():
        target.rmdir()
    _make_once(target, fill)
    return stored.version


def version_json(version: RegisteredVersion) -> dict[str, Any]:
    """Return a version as JSON data."""
    return {
        "name": version.name,
        "version": version.number,
        "aliases": list(version.aliases),
        "source": version.source,
        "tags": dict(sorted(version.tags.items())),
    }


def event_json(event: Event) -> dict[str, Any]:
    """Return an event of a model's history as JSON data."""
    return {"what": event.what, "version": event.version, "over": event.over, "why": event.why, "at": event.at}


def training_data(version: RegisteredVersion, root: Path) -> list[dict[str, Any]]:
    """Return rows, prompts and files a version was trained on, by round; empty without the job's ledger."""
    paths = RootPaths(root).job(version.tags.get("svd_loop.job", "?"))
    if not paths.ledger.exists():
        return []
    query = """SELECT rows.round AS round, count(*) AS rows, count(DISTINCT rows.prompt_id) AS prompts,
                      group_concat(DISTINCT rtrim(rtrim(prompts.source, '0123456789'), ':')) AS files
               FROM accepted_rows AS rows LEFT JOIN prompts ON prompts.id = rows.prompt_id
               WHERE rows.round <= ? GROUP BY rows.round ORDER BY rows.round"""
    with LedgerReader.open_for_reading(paths.folder) as reader:
        reader.verify()
        return list(reader.query(query, [int(version.tags.get("svd_loop.round", 0))]))


def difference(old: RegisteredVersion, new: RegisteredVersion, root: Path) -> dict[str, Any]:
    """Return the differences between two versions: tags (with scores), weights, and configuration if available."""
    short = [{key: value for key, value in v.tags.items() if key not in _LONG_TAGS} for v in (old, new)]
    changed = {
        key: [short[0].get(key), short[1].get(key)]
        for key in sorted(short[0] | short[1])
        if short[0].get(key) != short[1].get(key)
    }
    configs = [_config(version, root) for version in (old, new)]
    return {
        "old": version_json(old)["version"],
        "new": version_json(new)["version"],
        "same_weights": old.tags.get(FINGERPRINT_TAG) == new.tags.get(FINGERPRINT_TAG),
        "tags": changed,
        "config": changed_keys(configs[0], configs[1]) if all(configs) else [],
    }


def _split(registry: Registry, reference: str, default: str | None) -> tuple[str, str]:
    name, sign, which = reference.partition("@") if "@" in reference else reference.partition("/")
    if sign:
        return model_name(registry, name), which or CHAMPION
    if reference in registry.names():
        return reference, CHAMPION
    return model_name(registry, None, default), reference or CHAMPION


def _fetch(registry: Registry, version: RegisteredVersion, part: Path) -> None:
    """Download a version into `part`; the client writes below the server's path, so the files are moved up."""
    download = part / ".arrival"
    download.mkdir()
    with registry_errors():
        found = registry.download(version, download)
    for entry in found.iterdir():
        entry.rename(part / entry.name)
    shutil.rmtree(download)


def _merge(stored: StoredVersion, part: Path) -> None:
    from policies.scripted.updater import POLICY_FILE
    from policies.versions.checkpoints import export_merged

    if (stored.path / POLICY_FILE).exists():
        raise ModelError(f"{stored.path}: is a scripted policy, which has no weights to export")
    export_merged(stored, part)


def _make_once(folder: Path, fill: Callable[[Path], None]) -> None:
    """Fill a temporary folder and rename it to `folder`; does nothing if `folder` exists."""
    if folder.exists():
        return
    try:
        with part_folder(folder) as part:
            fill(part)
            part.rename(folder)
    except OSError as error:
        if folder.exists():  # another process has made it meanwhile, with the same contents
            return
        raise WeightsError(f"{folder}: cannot be written: {error.strerror or error}") from error


def _card(reader: LedgerReader, round: int, snippet: str, target: Path) -> str:
    """The card of the version that a round made."""
    history, result = reader.state().history, reader.result()
    record = next(one for one in history if one.version.round == round)
    return model_card(
        reader.folder.name,
        record,
        history,
        reader.config(),
        snippet.format(path=target.name),
        test=result.test if result else None,
        library="peft" if snippet is ADAPTER else "transformers",
    )


def _round(reader: LedgerReader, which: str) -> int:
    history = reader.state().history
    if not history:
        raise ConfigError(f"{reader.folder.name}: no round is finished yet")
    if which == "best":
        return PlateauRule(parse_config(reader.config()).plateau).best(history).version.round
    if which == "last":
        return history[-1].version.round
    number = which.removeprefix("round-")
    known = sorted({record.version.round for record in history})
    if not number.isdigit() or int(number) not in known:
        raise ConfigError(f"--version {which}: {reader.folder.name} has best, last, and versions {known}")
    return int(number)


def _config(version: RegisteredVersion, root: Path) -> Mapping[str, Any]:
    paths = RootPaths(root).job(version.tags.get("svd_loop.job", "?"))
    if not paths.ledger.exists():
        return {}
    with LedgerReader.open_for_reading(paths.folder) as reader:
        return reader.config()
