"""What makes a job the same job: the configuration it was started with.

Answers are keyed by content and would survive any change; the *history* would not: scores of rounds that
were sampled, judged, trained or measured differently cannot be compared, and the stop rule compares them.
So everything is fixed but the keys in `FREE_KEYS`. Batch and chunk sizes are fixed too: they decide which
rows an engine computes together, and with that the last bits of its floats; a job that must change them
forks from its last round and keeps everything paid for until then. A job without a committed round has no
history yet, and takes any change.
"""

from __future__ import annotations

import hashlib
import json
import os
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
    "engine.endpoints",
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
    "tracking.*",
    "gate.*",
    "schedule.[!r]*",
    "schedule.rounds",
)
"""Keys (with wildcards) a job may change on its way: where it lies, how long it goes on and waits, what it keeps, who
is told, what a promotion asks for, and what happens to a leak (an existing job had none among its prompts: only later
finds are concerned). Served replicas may move: which one answers what is left
to chance anyway. Of the schedule, what a job replays is the job's own; the rest is about other jobs."""

MEASUREMENT_KEYS = ("model.*", "data.development*", "data.test*", "evaluation.*")
"""Keys a fork may not change either, since it takes over the scores of earlier rounds."""


def refuse_changes(folder: Path, old: Mapping[str, Any], new: Config) -> None:
    """Compare the configuration a job was started with and the one it is to go on with.

    Raises:
        JobConflictError: a key outside `FREE_KEYS` differs; all of them are listed, with the ways out.
        ConfigError: the job used options that were removed.
    """
    if changes := settled_changes(folder, old, new):
        raise JobConflictError(
            f"{folder.name}: the job was started with another configuration:\n"
            + "\n".join(f"  {change}" for change in changes)
            + "\nUndo these changes to go on, or start under another name (--job NEW), for a job with rounds from "
            f"a finished one: svd-loop run CONFIG --job NEW --fork {folder.name}@ROUND"
        )


def settled_changes(folder: Path, old: Mapping[str, Any], new: Config) -> list[str]:
    """Keys outside `FREE_KEYS` that differ, with both values.

    Raises:
        ConfigError: the job used options that were removed.
    """
    return _changes(folder, old, new, lambda key: not _matches(key, FREE_KEYS))


def control_changes(old: Mapping[str, Any] | None, new: Mapping[str, Any] | None) -> list[str]:
    """Where a job's control differs, both of them; empty where it does not. None is the method."""
    if old == new:
        return []
    was, is_ = (json.dumps(control, sort_keys=True) if control else "none, the cascade" for control in (old, new))
    return [f"control: {was} -> {is_}"]


def refuse_another_control(folder: Path, old: Mapping[str, Any] | None, new: Mapping[str, Any] | None) -> None:
    """Refuse to go on with a job under another control than it was started with.

    Raises:
        JobConflictError: they differ.
    """
    for change in control_changes(old, new):
        raise JobConflictError(
            f"{folder.name}: the job was started with another {change}\n"
            "Go on with the same one, or start a job of another name"
        )


def refuse_incomparable(source: Path, old: Mapping[str, Any], new: Config) -> None:
    """Refuse a fork whose scores could not be compared with those it takes over.

    Raises:
        JobConflictError: a key of `MEASUREMENT_KEYS` differs.
        ConfigError: the job used options that were removed.
    """
    if changes := _changes(source, old, new, lambda key: _matches(key, MEASUREMENT_KEYS)):
        raise JobConflictError(
            f"{source.name}: a fork takes over the scores of earlier rounds, so these may not change:\n"
            + "\n".join(f"  {change}" for change in changes)
            + "\nStart a job of its own instead: svd-loop run CONFIG --job NEW"
        )


def settled_digest(config: Config) -> str:
    """SHA-256 over what a job may not change on its way, its name aside."""
    values = dict(_flat(config.model_dump(mode="json")))
    settled = {key: value for key, value in values.items() if key != "job.name" and not _matches(key, FREE_KEYS)}
    return hashlib.sha256(json.dumps(settled, sort_keys=True).encode()).hexdigest()


def canonical(config: Config) -> str:
    """The resolved configuration as readable JSON."""
    return json.dumps(config.model_dump(mode="json"), indent=2, sort_keys=True) + "\n"


def write_atomically(path: Path, text: str) -> None:
    """Replace a file by a complete and synced one, or leave it as it was."""
    temporary = path.with_name(f".{path.name}.tmp")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def _changes(folder: Path, old: Mapping[str, Any], new: Config, matters: Callable[[str], bool]) -> list[str]:
    old = without_removed(old, f"{folder.name} was started with a configuration that")
    try:  # a key that a newer program added has its default in the old job
        old = parse_config(old).model_dump(mode="json")
    except ConfigError:
        old = dict(old)
    changes = changed_keys(old, new.model_dump(mode="json"))
    return [change for change in changes if matters(change.partition(": ")[0])]


def _flat(data: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys with their values."""
    for key, value in data.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _matches(key: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(key, pattern) for pattern in patterns)
