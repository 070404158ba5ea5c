"""Seams: named variants of one part, built in or provided by another installed package.

A seam is a table of rows. A row (`Variant`) names the configuration class of a variant and the function that builds it;
the variant's name is the value of the class's field `type`. Another package adds a row by an entry point of the seam's
group, whose name is the variant's and whose object is a `Variant` (CONTRIBUTING.md).

Entry points are read only for a name that is not built in, and when the known names are listed: a configuration
of built-in variants loads no plug-in. A builder is named as `module:function` and imported when it is first needed, so
that parsing a configuration imports no heavy library.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, TypeVar

from svd_loop.errors import ConfigError
from svd_loop.support.listing import listing


@dataclass(frozen=True, slots=True)
class Variant:
    """One row of a seam.

    Attributes:
        section: configuration class, a `svd_loop.config.base.Section` with a field `type: Literal["name"] = "name"`.
        build: `module:function` of what builds the part; each seam says what the function takes and returns.
    """

    section: type[Any]
    build: str

    @property
    def name(self) -> str:
        """The value of the section's `type`."""
        return str(self.section.model_fields["type"].default)


Row = TypeVar("Row", bound=Variant)


class Seam(Generic[Row]):
    """The variants of one part of the project, by name.

    Args:
        noun: what a variant is, for messages.
        key: the configuration key that holds a variant's name, for messages.
        group: entry-point group in which other packages register variants.
        rows: the built-in variants.
    """

    def __init__(self, noun: str, key: str, group: str, *rows: Row) -> None:
        self.noun = noun
        self.key = key
        self.group = group
        self.built_in: Mapping[str, Row] = {row.name: row for row in rows}
        self._kind = type(rows[0])
        self._loaded: dict[str, Row] = {}
        self._functions: dict[str, Callable[..., Any]] = {}

    def add(self, row: Row, build: Callable[..., Any]) -> None:
        """Make a variant of the running program known, built by a function.

        Raises:
            ConfigError: the name is that of a built-in variant.
        """
        if row.name in self.built_in:
            raise ConfigError(f"{self.key}: {row.name!r} is the name of a built-in {self.noun}; choose another")
        self._loaded[row.name] = row
        self._functions[row.name] = build

    def find(self, name: str) -> Row:
        """The variant with a name.

        Raises:
            ConfigError: no package provides it, two packages do, or the plug-in is broken.
        """
        row = self.built_in.get(name) or self._loaded.get(name)
        if row is None:
            row = self._loaded[name] = self._installed(name)
        return row

    def builder(self, name: str) -> Callable[..., Any]:
        """The function that builds a variant, imported now if it was not before.

        Raises:
            ConfigError: as `find`, or the function of a plug-in cannot be imported.
        """
        row = self.find(name)
        return self._functions[name] if name in self._functions else self.load(name, row.build)

    def load(self, name: str, reference: str) -> Callable[..., Any]:
        """Import the function that a row names as `module:function`.

        Raises:
            ConfigError: a plug-in names what cannot be imported.
        """
        module, _, function = reference.partition(":")
        if name in self.built_in:
            return _callable(importlib.import_module(module), function)
        try:
            return _callable(importlib.import_module(module), function)
        except Exception as error:  # a plug-in's module may raise anything
            raise self._broken(name, self._points(name)[0], f"{reference} cannot be imported: {error!r}") from error

    def names(self) -> dict[str, str]:
        """Every known name with the distribution that provides it (empty for a built-in one). Imports nothing."""
        installed = {point.name: _distribution(point) for point in entry_points(group=self.group)}
        return dict(sorted({**installed, **dict.fromkeys(self.built_in, "")}.items()))

    def known(self) -> Iterator[Row]:
        """The built-in variants and the plug-ins that were used so far."""
        yield from self.built_in.values()
        yield from self._loaded.values()

    def _installed(self, name: str) -> Row:
        points = self._points(name)
        if not points:
            known = listing(name, (f"{one} ({origin})" if origin else one for one, origin in self.names().items()))
            raise ConfigError(f"{self.key}: no {self.noun} is called {name!r}; known: {known}")
        if len(points) > 1:
            providers = " and ".join(sorted(map(_distribution, points)))
            raise ConfigError(f"{self.key}: {name!r} is provided by {providers}; uninstall all but one")
        try:
            row = points[0].load()
        except Exception as error:  # a plug-in's module may raise anything
            raise self._broken(name, points[0], f"{points[0].value} cannot be imported: {error!r}") from error
        if not isinstance(row, self._kind):
            raise self._broken(name, points[0], f"{points[0].value} must be a {self._kind.__name__}, it is {row!r}")
        if row.name != name:
            raise self._broken(name, points[0], f"its section has the type {row.name!r}; both names must be the same")
        return row

    def _points(self, name: str) -> list[EntryPoint]:
        return list(entry_points(group=self.group, name=name))

    def _broken(self, name: str, point: EntryPoint, why: str) -> ConfigError:
        return ConfigError(
            f"{self.key}: the {self.noun} {name!r} of the package {_distribution(point)} is broken: {why}"
        )


def _callable(module: Any, name: str) -> Callable[..., Any]:
    found: Callable[..., Any] = getattr(module, name)
    return found


def _distribution(point: EntryPoint) -> str:
    """Name and version of the distribution an entry point comes from."""
    return f"{point.dist.name} {point.dist.version}" if point.dist is not None else "of unknown origin"
