"""The number of files that this process may have open."""

from __future__ import annotations

import resource

from svd_loop.errors import SvdError

FEWEST = 256
"""Databases, the sandboxes' pipes and a server's connections together stay well below it."""
_ENOUGH = 4096


def allow_open_files() -> None:
    """Raise this process's limit on open files as far as it may and needs.

    Raises:
        SvdError: even so, too few may be open.
    """
    now, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if now == resource.RLIM_INFINITY or now >= _ENOUGH:
        return
    wanted = _ENOUGH if most == resource.RLIM_INFINITY else min(_ENOUGH, most)
    if wanted > now:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))
    if wanted < FEWEST:
        raise SvdError(
            f"this process may have {wanted} files open, and needs {FEWEST}: raise the limit (`ulimit -n {_ENOUGH}`, "
            f"in a container `--ulimit nofile={_ENOUGH}`)"
        )
