"""From a YAML file and `-o dotted.key=value` overrides to a validated `Config`, or one readable error."""

from __future__ import annotations

import difflib
import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from svd_loop.config.removed import without_removed
from svd_loop.config.sections import Config
from svd_loop.config.sweep import SweepSection
from svd_loop.config.variants import OneOf
from svd_loop.config.yaml_text import parse_yaml, read_yaml
from svd_loop.errors import ConfigError

Validated = TypeVar("Validated", bound=BaseModel)


_ENUM_MEMBER = re.compile(r"<\w+\.\w+: ('[^']*')>")
"""A choice as Python shows it, of which a user writes the quoted part."""


def load_config(path: Path, overrides: Iterable[str] = (), *, name: str | None = None) -> Config:
    """Read, override and validate; `name`, taken as it is, replaces the job's.

    Raises:
        ConfigError: naming the file and every offending key, with the nearest known key for unknown ones.
    """
    data = read_yaml(path)
    for override in overrides:
        _apply_override(data, override)
    if name is not None:
        _set_key(data, "job.name", name, f"--job {name}")
    return parse_config(data, origin=str(path))


def parse_config(data: Mapping[str, Any], origin: str = "config") -> Config:
    """Validate plain data, which an earlier version may have written; `origin` names it in errors."""
    return _validated(Config, without_removed(data, origin), origin)


def load_sweep(path: Path) -> SweepSection:
    """Read and validate a sweep's file.

    Raises:
        ConfigError: naming the file and every offending key.
    """
    return _validated(SweepSection, read_yaml(path), str(path))


def changed_config(path: Path, changes: Mapping[str, Any], origin: str) -> Config:
    """The configuration of a file with dotted keys set to values.

    Raises:
        ConfigError: as `load_config`; `origin` says who asked for the changes.
    """
    data = read_yaml(path)
    for key, value in changes.items():
        _set_key(data, key, value, f"{origin}: {key}")
    return parse_config(data, origin=f"{origin} ({path})")


def config_digest(config: Config) -> str:
    """SHA-256 over the resolved configuration's canonical JSON."""
    return hashlib.sha256(json.dumps(config.model_dump(mode="json"), sort_keys=True).encode()).hexdigest()


def changed_keys(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Dotted keys whose values differ, with both values: `update.epochs: 2.0 -> 3.0`."""
    changes: list[str] = []
    for key in sorted(set(old) | set(new)):
        before, after = old.get(key), new.get(key)
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            changes += changed_keys(before, after, f"{prefix}{key}.")
        elif before != after:
            changes.append(f"{prefix}{key}: {before!r} -> {after!r}")
    return changes


def _apply_override(data: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition("=")
    if not separator or not key:
        raise ConfigError(f"-o {shortened(override)}: overrides look like dotted.key=value")
    _set_key(data, key, parse_yaml(text, f"-o {shortened(override)}"), f"-o {shortened(override)}")


def _set_key(data: dict[str, Any], key: str, value: object, origin: str) -> None:
    node = data
    *parents, leaf = key.split(".")
    for depth, part in enumerate(parents):
        child = node.setdefault(part, {})
        if not isinstance(child, dict):
            raise ConfigError(f"{origin}: {'.'.join(parents[: depth + 1])} is a value, not a section")
        node = child
    node[leaf] = value


def _validated(model: type[Validated], data: Mapping[str, Any], origin: str) -> Validated:
    try:
        return model.model_validate(data)
    except ValidationError as error:
        problems = "\n".join(f"  {_describe(dict(item), model)}" for item in error.errors())
        raise ConfigError(f"{origin} is not a valid configuration:\n{problems}") from None


def _describe(item: Mapping[str, Any], model: type[BaseModel]) -> str:
    location = [str(part) for part in item["loc"]]
    key = ".".join(location) or "(whole file)"
    if item["type"] == "extra_forbidden":
        known = _known_keys(location[:-1], model)
        near = difflib.get_close_matches(location[-1], known, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]}?" if near else f"known keys here: {', '.join(sorted(known))}"
        return f"{key}: unknown key; {hint}"
    message = _ENUM_MEMBER.sub(r"\1", str(item["msg"]).removeprefix("Value error, "))
    if item["loc"] == () or item["type"] == "value_error":
        return message
    return (
        f"{key}: {message} (found {shortened(repr(item['input']))})"
        if item["type"] != "missing"
        else f"{key}: is required"
    )


def shortened(text: str, longest: int = 200) -> str:
    """A text as errors quote it."""
    return text if len(text) <= longest else f"{text[:longest]}..."


def _known_keys(location: list[str], root: type[BaseModel]) -> list[str]:
    """Field names of the section at `location`; union tags (the `type` of a variant) pick the variant."""
    candidates: list[type[BaseModel]] = [root]
    for part in location:
        chosen = [m for m in candidates if m.model_fields.get("type") and m.model_fields["type"].default == part]
        candidates = chosen or [
            model
            for parent in candidates
            if part in parent.model_fields
            for model in _models_of(parent.model_fields[part])
        ]
    return sorted({name for model in candidates for name in model.model_fields})


def _models_of(field: FieldInfo) -> list[type[BaseModel]]:
    return [*_models_in(field.annotation), *(model for mark in field.metadata for model in _models_in(mark))]


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, OneOf):
        return list(annotation.sections())
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in get_args(annotation) for model in _models_in(argument)]
