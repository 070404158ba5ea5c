"""Options that an earlier version had.

A job keeps its resolved configuration, so the configuration of an old job names every option of its time. Those at
the value that switches them off are dropped here: it is the same job without them. Any other value is an error,
because the job was played in a way that this version cannot play.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from svd_loop.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Removed:
    """An option, or some of an option's values, that this version no longer has.

    Attributes:
        version: the last version that had it.
        advice: what to do about a configuration that uses it.
        off: the value that means the same as leaving the option out.
        values: the values that were removed; empty where the whole option was.
        meaningless: no value of it means anything any more.
    """

    version: str
    advice: str
    off: object = None
    values: tuple[object, ...] = ()
    meaningless: bool = False

    def is_used(self, value: object) -> bool:
        """Whether a configuration with this value means something that is gone."""
        if self.values:
            return value in self.values
        return not self.meaningless and value != self.off


_UNUSED = "it brought nothing measurable (docs/results.md)"
_CONTROL = "give an arm of a sweep a `control` instead (docs/guides/sweeps.md)"

REMOVED: Mapping[str, Removed] = {
    "sampling.budget_tokens": Removed("0.1.0", _UNUSED),
    "sampling.revise": Removed("0.1.0", _UNUSED, off=False),
    "cascade.prefilter": Removed("0.1.0", _UNUSED),
    "cascade.wordings": Removed("0.1.0", _UNUSED, off=1),
    "cascade.judge_duplicates_once": Removed("0.1.0", _UNUSED, off=False),
    "cascade.order": Removed("0.1.0", "use stage_major or measured", values=("vote_major",)),
    "cascade.mode": Removed("0.1.0", _CONTROL, off="self"),
    "cascade.random_accept": Removed("0.1.0", _CONTROL, off=[1.0]),
    "gate.resamples": Removed("0.1.0", "", meaningless=True),
    "benchmark": Removed("0.1.0", _CONTROL, meaningless=True),
}
"""By dotted key."""


def without_removed(data: Mapping[str, Any], origin: str) -> dict[str, Any]:
    """The configuration without removed options at the values that switched them off.

    Args:
        data: plain data of a configuration; not changed.
        origin: where it comes from, for the error.

    Raises:
        ConfigError: an option that was removed is in use; all of them are listed.
    """
    found = dict(data)
    problems = []
    for key, option in REMOVED.items():
        *parents, name = key.split(".")
        section = _section(found, parents)
        if section is None or name not in section:
            continue
        value = section[name]
        if option.is_used(value):
            what = "this value" if option.values else "this option"
            problems.append(f"  {key}: {value!r}: version {option.version} was the last with {what}; {option.advice}")
        elif not option.values:
            found = _dropped(found, parents, name)
    if problems:
        raise ConfigError(f"{origin} uses what this version of svd-loop no longer has:\n" + "\n".join(problems))
    return found


def _section(data: Mapping[str, Any], parents: list[str]) -> Mapping[str, Any] | None:
    node: Any = data
    for part in parents:
        node = node.get(part) if isinstance(node, Mapping) else None
    return node if isinstance(node, Mapping) else None


def _dropped(data: Mapping[str, Any], parents: list[str], name: str) -> dict[str, Any]:
    """A copy without one key; mappings on the way are copied, too."""
    if not parents:
        return {key: value for key, value in data.items() if key != name}
    return {**data, parents[0]: _dropped(data[parents[0]], parents[1:], name)}
