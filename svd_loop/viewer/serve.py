"""Run the viewer until it is interrupted."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import uvicorn

from svd_loop.errors import ConfigError
from svd_loop.viewer.app import make_app
from svd_loop.viewer.source import SampleOutcomes, no_outcomes


def serve(
    folder: Path,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    outcomes: SampleOutcomes = no_outcomes,
    ready: Callable[[str], None] = lambda address: None,
) -> None:
    """Serve the job in `folder` until SIGINT or SIGTERM.

    Args:
        folder: the job's folder.
        host: address or name to listen on; a name becomes one that a browser may use.
        port: 0 takes a free one.
        outcomes: how samples of held-out problems are scored.
        ready: called with the address of the first page once the port is open.

    Raises:
        ConfigError: the host or port cannot be listened on.
    """
    with closing(_listening(host, port)) as listener:
        names = frozenset() if _is_loopback(host) else frozenset({host.lower(), socket.gethostname().lower()})
        app = make_app(folder, outcomes=outcomes, hosts=names)
        settings = uvicorn.Config(
            app, log_level="warning", lifespan="on", timeout_graceful_shutdown=1, server_header=False
        )
        taken = listener.getsockname()[1]
        shown = f"[{host}]" if ":" in host else host
        ready(f"http://{shown}:{taken}/")
        uvicorn.Server(settings).run(sockets=[listener])


def _listening(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise ConfigError(f"--host {host}: cannot be listened on: {error}") from None
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(128)
    except OSError as error:
        listener.close()
        raise ConfigError(f"--port {port}: cannot be listened on at {host}: {error.strerror}; choose another") from None
    return listener


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"
