"""From a YAML file and `-o dotted.key=value` overrides to a validated `Config`, or one readable error."""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from svd_loop.config.sections import Config
from svd_loop.errors import ConfigError


def load_config(path: Path, overrides: Iterable[str] = ()) -> Config:
    """Read, override and validate.

    Raises:
        ConfigError: naming the file and every offending key, with the nearest known key for unknown ones.
    """
    data = _read_yaml(path)
    for override in overrides:
        _apply_override(data, override)
    return parse_config(data, origin=str(path))


def parse_config(data: Mapping[str, Any], origin: str = "config") -> Config:
    """Validate plain data; `origin` names it in errors."""
    try:
        return Config.model_validate(data)
    except ValidationError as error:
        problems = "\n".join(f"  {_describe(dict(item))}" for item in error.errors())
        raise ConfigError(f"{origin} is not a valid configuration:\n{problems}") from None


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


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such configuration file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML: {error}") from None
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: must be a mapping of sections, found {type(data).__name__}")
    return data


def _apply_override(data: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition("=")
    if not separator or not key:
        raise ConfigError(f"-o {override}: overrides look like dotted.key=value")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"-o {override}: the value is not valid YAML: {error}") from None
    node = data
    *parents, leaf = key.split(".")
    for depth, part in enumerate(parents):
        child = node.setdefault(part, {})
        if not isinstance(child, dict):
            raise ConfigError(f"-o {override}: {'.'.join(parents[: depth + 1])} is a value, not a section")
        node = child
    node[leaf] = value


def _describe(item: Mapping[str, Any]) -> str:
    location = [str(part) for part in item["loc"]]
    key = ".".join(location) or "(whole file)"
    if item["type"] == "extra_forbidden":
        known = _known_keys(location[:-1])
        near = difflib.get_close_matches(location[-1], known, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]}?" if near else f"known keys here: {', '.join(sorted(known))}"
        return f"{key}: unknown key; {hint}"
    message = str(item["msg"]).removeprefix("Value error, ")
    if item["loc"] == () or item["type"] == "value_error":
        return message
    return f"{key}: {message} (found {item['input']!r})" if item["type"] != "missing" else f"{key}: is required"


def _known_keys(location: list[str]) -> list[str]:
    """Field names of the section at `location`; union tags (the `type` of a variant) pick the variant."""
    candidates: list[type[BaseModel]] = [Config]
    for part in location:
        chosen = [m for m in candidates if m.model_fields.get("type") and m.model_fields["type"].default == part]
        candidates = chosen or [
            model for parent in candidates if part in parent.model_fields
            for model in _models_in(parent.model_fields[part].annotation)
        ]  # fmt: skip
    return sorted({name for model in candidates for name in model.model_fields})


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in get_args(annotation) for model in _models_in(argument)]
