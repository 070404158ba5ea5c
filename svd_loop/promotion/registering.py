"""Register any round of an ended job by hand, not only its best one."""

from __future__ import annotations

from pathlib import Path

from svd_loop.assembly.job import make_registrar
from svd_loop.config import parse_config
from svd_loop.contracts import RootPaths
from svd_loop.errors import ConfigError
from svd_loop.ledger import LedgerReader
from svd_loop.mlflow_store.records import RegisteredVersion
from svd_loop.mlflow_store.trackers import TrackedJob
from svd_loop.promotion.lookup import registry_errors


def register_round(version: str, root: Path) -> RegisteredVersion:
    """Register the version of a round in the model its job registers in; may be called again.

    Args:
        version: `JOB@ROUND`.
        root: `job.root`.

    Raises:
        ConfigError: there is no such version, the job has not ended, or it was not tracked.
        WeightsError: the version is no longer stored.
        RegistryError: the store failed.
    """
    name, _, number = version.partition("@")
    if not name or not number.isdigit():
        raise ConfigError(f"{version}: must have the form JOB@ROUND, for example nano@2")
    with LedgerReader.open_for_reading(RootPaths(root).job(name).folder) as reader:
        plain, result = reader.config(), reader.result()
    config = parse_config(plain, origin=name)
    if result is None:
        raise ConfigError(f"{name}: the job has not ended; its versions can be registered only then")
    if not config.tracking.enabled:
        raise ConfigError(
            f"{name}: was not tracked (tracking.enabled: false), so there is no run to register its versions in"
        )
    made = {record.version.round: record for record in reversed(result.history)}
    if int(number) not in made:
        raise ConfigError(f"{version}: {name} has versions {sorted(made)}")
    registrar = make_registrar(config, TrackedJob(config.tracking, root, name, plain))
    with registry_errors():
        return registrar.register(made[int(number)], result)
