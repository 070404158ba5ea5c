"""The connection to a Ray cluster, which a process opens once and keeps until it ends."""

from __future__ import annotations

import importlib.util
import logging
import os
import socket
import sys
from collections.abc import Mapping

from svd_loop.config.base import Section
from svd_loop.errors import ConfigError, first_line

_log = logging.getLogger(__name__)

RAY = "ray>=2.60,<3"
"""The distribution to install: the extra `ray` of pyproject.toml."""
_SOON = 5.0
"""Seconds in which the head of a cluster is reached, and room reserved where there is room; else a warning follows."""


def require_ray(section: Section | None = None, *, key: str = "engine.type: ray") -> None:
    """Raise an error if Ray is not installed, without importing it.

    Args:
        section: not used; checks of engines take their section.
        key: the key that asks for Ray.

    Raises:
        ConfigError: says what to install.
    """
    if importlib.util.find_spec("ray") is None:
        raise ConfigError(
            f"{key} needs Ray, which is not installed: {sys.executable} -m pip install '{RAY}' (docs/guides/cluster.md)"
        )


def connect(address: str | None, *, key: str) -> None:
    """Connect this process to a cluster; does nothing if it is connected.

    Args:
        address: `host:port` of the cluster's head. None follows Ray: the variable RAY_ADDRESS, else the cluster that
            was started on this machine (`ray start`), else one of this machine alone, which ends with this process.
        key: the key that holds the address.

    Raises:
        ConfigError: Ray is not installed, or no cluster answers.
    """
    require_ray(key=key)
    import ray

    try:
        _require_listener(address or os.environ.get("RAY_ADDRESS") or "")
        if ray.is_initialized():
            return
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        # What workers print stays in Ray's logs: it would disturb the progress line.
        ray.init(address=address, log_to_driver=False, logging_level=logging.WARNING)
    except (OSError, RuntimeError, ValueError) as error:  # ConnectionError and TimeoutError are OSErrors
        asked = address or os.environ.get("RAY_ADDRESS") or "this machine"
        raise ConfigError(
            f"{key}: the Ray cluster at {asked} cannot be used: {first_line(error)}. Start it (`ray start --head`), or "
            f"correct {key} or the variable RAY_ADDRESS"
        ) from error


def _require_listener(address: str) -> None:
    """Raise `OSError` if nobody listens at a `host:port`: Ray tries for minutes, and then ends the process."""
    host, _, port = address.rpartition(":")
    if port.isdigit() and "/" not in host:
        socket.create_connection((host.strip("[]"), int(port)), _SOON).close()


def has_gpus() -> bool:
    """Whether any node of the cluster has a GPU."""
    import ray

    return bool(ray.cluster_resources().get("GPU"))


def resources_of(cpus: int, gpus: int) -> dict[str, float]:
    """A share of a node in Ray's words."""
    return {"CPU": float(cpus), **({"GPU": float(gpus)} if gpus else {})}


def reserve(shares: int, share: Mapping[str, float], *, key: str, seconds: float, apart: bool = False) -> object:
    """Reserve equal shares of the cluster's nodes.

    Args:
        shares: how many.
        share: what each is made of.
        key: the key that sets their number.
        seconds: how long to wait for nodes that are still joining, or are still used by what is ending.
        apart: each on a node of its own; else they are spread as evenly as there is room.

    Returns:
        A placement group, with one bundle a share.

    Raises:
        ConfigError: there is no room for all of them.
    """
    from ray.util.placement_group import placement_group, remove_placement_group

    group = placement_group([dict(share)] * shares, strategy="STRICT_SPREAD" if apart else "SPREAD")
    words = " and ".join(f"{amount:g} {name}" for name, amount in share.items())
    wanted = f"{key}: {shares} of {words} each{', on nodes of their own' if apart else ''}"
    if not group.wait(min(_SOON, seconds)):
        _log.warning("%s: no room in the cluster now, which has %s; waiting", wanted, _described())
        if not group.wait(seconds):
            remove_placement_group(group)
            raise ConfigError(
                f"{wanted}: there is no room in the Ray cluster, which has {_described()}; lower {key} or add nodes"
            )
    return group


def _described() -> str:
    """The nodes of the cluster, and what is free on all of them together."""
    import ray

    nodes = [node for node in ray.nodes() if node["Alive"]]
    total, free = ray.cluster_resources(), ray.available_resources()
    parts = [f"{free.get(name, 0):g} of {total.get(name, 0):g} {name} free" for name in ("CPU", "GPU") if name in total]
    return f"{len(nodes)} nodes with {' and '.join(parts)}"
