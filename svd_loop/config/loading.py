"""From a YAML file and `-o dotted.key=value` overrides to a validated `Config`, or one readable error."""

from __future__ import annotations

import difflib
import hashlib
import json
import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from svd_loop.config.removed import without_removed
from svd_loop.config.sections import Config
from svd_loop.config.shipped import config_file
from svd_loop.config.sweep import SweepSection
from svd_loop.config.variants import OneOf
from svd_loop.config.yaml_text import parse_yaml, read_yaml
from svd_loop.errors import ConfigError

log = logging.getLogger(__name__)

Validated = TypeVar("Validated", bound=BaseModel)


_ENUM_MEMBER = re.compile(r"<\w+\.\w+: ('[^']*')>")
"""A choice as Python shows it, of which a user writes the quoted part."""


def load_config(path: Path | str, overrides: Iterable[str] = (), *, name: str | None = None) -> Config:
    """Read, override and validate.

    `path` may be the name of a shipped configuration, such as `nano`. `name`, taken as it is, replaces the job's.

    An override of a section's `type` drops, with a warning, the keys of the file that the new type does not know.

    Raises:
        ConfigError: naming the file and every offending key, with the nearest known key for unknown ones.
    """
    path = config_file(Path(path))
    data = read_yaml(path)
    _set_keys(data, [_parsed(override) for override in overrides])
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
    _set_keys(data, [(key, value, f"{origin}: {key}") for key, value in changes.items()])
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


def _parsed(override: str) -> tuple[str, Any, str]:
    """Key, value, and how errors name the override."""
    key, separator, text = override.partition("=")
    if not separator or not key:
        raise ConfigError(f"-o {shortened(override)}: overrides look like dotted.key=value")
    origin = f"-o {shortened(override)}"
    return key, parse_yaml(text, origin), origin


def _set_keys(data: dict[str, Any], changes: Sequence[tuple[str, Any, str]]) -> None:
    """Set dotted keys; types first, since they decide which keys of the file still mean something."""
    for key, value, origin in changes:
        if key.endswith(".type"):
            _drop_unknown(data, key.split(".")[:-1], value, origin)
    for key, value, origin in changes:
        _set_key(data, key, value, origin)


def _drop_unknown(data: dict[str, Any], location: list[str], kind: object, origin: str) -> None:
    """Drop the keys of a section that its new `type` does not know."""
    section: Any = data
    for part in location:
        section = section.get(part) if isinstance(section, dict) else None
    if not isinstance(section, dict) or section.get("type") == kind:
        return
    variants = [m for m in _candidates(location, Config) if "type" in m.model_fields]
    chosen = [model for model in variants if model.model_fields["type"].default == kind]
    if not chosen:  # a plug-in's type or a mistake: validation says
        return
    unknown = sorted(key for key in section if key not in chosen[0].model_fields)
    dropped = [f"{'.'.join(location)}.{key}: {shortened(repr(section.pop(key)))}" for key in unknown]
    if dropped:
        log.warning("%s: dropped what this type does not know: %s", origin, ", ".join(dropped))


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
        problems = "\n".join(f"  {shortened(_describe(dict(item), model), 500)}" for item in error.errors())
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
    return sorted({name for model in _candidates(location, root) for name in model.model_fields})


def _candidates(location: list[str], root: type[BaseModel]) -> list[type[BaseModel]]:
    """The sections that may stand at `location`: several where nothing says which variant."""
    candidates: list[type[BaseModel]] = [root]
    for part in location:
        chosen = [m for m in candidates if m.model_fields.get("type") and m.model_fields["type"].default == part]
        candidates = chosen or [
            model
            for parent in candidates
            if part in parent.model_fields
            for model in _models_of(parent.model_fields[part])
        ]
    return candidates


def _models_of(field: FieldInfo) -> list[type[BaseModel]]:
    return [*_models_in(field.annotation), *(model for mark in field.metadata for model in _models_in(mark))]


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, OneOf):
        return list(annotation.sections())
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in get_args(annotation) for model in _models_in(argument)]
