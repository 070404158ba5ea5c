"""Identity of a job: the configuration it was started with, and the keys that may change.

Answers are stored by content key and stay valid under any change. The *history* does not: scores of rounds that were
sampled, judged, trained or measured differently cannot be compared, and the stop rule compares them. So all keys are
fixed except `FREE_KEYS`. Batch and chunk sizes are fixed too: they decide which rows an engine computes together, and
with that the last bits of its floats. To change them, fork the job from its last round, which keeps all answers until
then. A job without a committed round has no history yet and accepts any change.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from svd_loop.config import Config, changed_keys, parse_config, without_removed
from svd_loop.errors import ConfigError, JobConflictError

FREE_KEYS = (
    "job.root",
    "job.rounds",
    "job.hours",
    "job.tokens",
    "engine.chunk_seconds",
    "data.leak.action",
    "health.useful_j",
    "engine.endpoints",
    "engine.address",
    "engine.api_key_env",
    "engine.concurrency",
    "engine.retries",
    "engine.reload*",
    "engine.backoff_seconds",
    "engine.request_seconds",
    "engine.heartbeat_seconds",
    "engine.recovery_seconds",
    "engine.load_seconds",
    "update.keep_versions",
    "update.launch.address",
    "update.launch.start_seconds",
    "tracking.*",
    "gate.*",
    "schedule.[!r]*",
    "schedule.rounds",
)
"""Keys (with wildcards) that may change between two runs of a job.

These are its location, limits and timeouts, whether it stops on useless verifiers, what it keeps, its trackers, the
gate's rules, and the action on a leak (an existing job's prompts have no leaks, so this concerns later checks only).
Endpoints and clusters may change, since it is random anyway which replica answers a call. Of the section `schedule`,
the replay belongs to the job; the other keys concern later jobs.
"""

MEASUREMENT_KEYS = ("model.*", "data.development*", "data.test*", "evaluation.*")
"""Keys that a fork may not change, because it copies the scores of earlier rounds."""


def refuse_changes(folder: Path, old: Mapping[str, Any], new: Config) -> None:
    """Compare the configuration that a job was started with and the one it is resumed with.

    Raises:
        JobConflictError: a key outside `FREE_KEYS` differs; the message lists all of them and the remedies.
        ConfigError: the job used options that were removed.
    """
    if changes := settled_changes(folder, old, new):
        raise JobConflictError(
            f"{folder.name}: the job was started with another configuration:\n"
            + "\n".join(f"  {change}" for change in changes)
            + "\nUndo these changes to continue, or start under another name (--job NEW), for a job with rounds from "
            f"a finished one: svd-loop run CONFIG --job NEW --fork {folder.name}@ROUND"
        )


def settled_changes(folder: Path, old: Mapping[str, Any], new: Config) -> list[str]:
    """Return the keys outside `FREE_KEYS` that differ, with both values.

    Raises:
        ConfigError: the job used options that were removed.
    """
    return _changes(folder, old, new, lambda key: not _matches(key, FREE_KEYS))


def control_changes(old: Mapping[str, Any] | None, new: Mapping[str, Any] | None) -> list[str]:
    """Return the difference between two controls of a job, empty if they are equal. None stands for the cascade."""
    if old == new:
        return []
    was, is_ = (json.dumps(control, sort_keys=True) if control else "none, the cascade" for control in (old, new))
    return [f"control: {was} -> {is_}"]


def refuse_another_control(folder: Path, old: Mapping[str, Any] | None, new: Mapping[str, Any] | None) -> None:
    """Refuse to resume a job with another control than it was started with.

    Raises:
        JobConflictError: they differ.
    """
    for change in control_changes(old, new):
        raise JobConflictError(
            f"{folder.name}: the job was started with another {change}\n"
            "Continue with the same one, or start a job with another name"
        )


def refuse_incomparable(source: Path, old: Mapping[str, Any], new: Config) -> None:
    """Refuse a fork whose scores could not be compared with the copied ones.

    Raises:
        JobConflictError: a key of `MEASUREMENT_KEYS` differs.
        ConfigError: the job used options that were removed.
    """
    if changes := _changes(source, old, new, lambda key: _matches(key, MEASUREMENT_KEYS)):
        raise JobConflictError(
            f"{source.name}: a fork copies the scores of earlier rounds, so these keys may not change:\n"
            + "\n".join(f"  {change}" for change in changes)
            + "\nStart a separate job instead: svd-loop run CONFIG --job NEW"
        )


def settled_digest(config: Config) -> str:
    """Return SHA-256 over all keys that a job may not change, without its name."""
    values = dict(_flat(config.model_dump(mode="json")))
    settled = {key: value for key, value in values.items() if key != "job.name" and not _matches(key, FREE_KEYS)}
    return hashlib.sha256(json.dumps(settled, sort_keys=True).encode()).hexdigest()


def canonical(config: Config) -> str:
    """Return the resolved configuration as readable JSON."""
    return json.dumps(config.model_dump(mode="json"), indent=2, sort_keys=True) + "\n"


def _changes(folder: Path, old: Mapping[str, Any], new: Config, matters: Callable[[str], bool]) -> list[str]:
    old = without_removed(old, f"{folder.name} was started with a configuration that")
    try:  # keys added by newer program versions get their defaults in the old job
        old = parse_config(old).model_dump(mode="json")
    except ConfigError:
        old = dict(old)
    now = new.model_dump(mode="json")
    if new.model.dtype == "auto" and _chosen_here(new) == old.get("model", {}).get("dtype"):
        now["model"]["dtype"] = old["model"]["dtype"]  # before `auto` there was, its choice was written out
    changes = changed_keys(old, now)
    return [change for change in changes if matters(change.partition(": ")[0])]


def _flat(data: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield dotted keys with their values."""
    for key, value in data.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _matches(key: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(key, pattern) for pattern in patterns)


def _chosen_here(config: Config) -> str:
    """Return the precision that `model.dtype: auto` stands for with this job's checkpoint on this machine."""
    if not config.engine.has_weights:
        return "float32"
    import policies
    from policies.versions.checkpoints import resolve_device
    from policies.versions.precision import chosen_dtype

    path = config.model.path
    checkpoint = Path(policies.__path__[0]) / "nano" if path == "nano" else Path(path)
    return chosen_dtype("auto", checkpoint, on_gpu=resolve_device(config.model.device) == "cuda")
