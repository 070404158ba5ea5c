"""Hooks, against a real command and a real web server on loopback."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from pydantic import ValidationError

from svd_loop.config.schedule import HookSection
from svd_loop.schedule import hooks
from svd_loop.schedule.hooks import call_hooks


class Server(ThreadingHTTPServer):
    """Answers with `statuses` one after the other, the last one for ever; keeps what it was sent."""

    def __init__(self) -> None:
        self.statuses = [200]
        self.sent: list[dict[str, Any]] = []
        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/hook"


class Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        server = self.server
        assert isinstance(server, Server)
        body = self.rfile.read(int(self.headers["Content-Length"]))
        server.sent.append(json.loads(body))
        self.send_response(server.statuses.pop(0) if len(server.statuses) > 1 else server.statuses[0])
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(hooks, "_PAUSE", 0.0)
    with Server() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def test_an_address_gets_the_event(server: Server) -> None:
    assert call_hooks([HookSection(url=server.url)], "success", {"job": "a"}) == []
    assert server.sent == [{"event": "success", "job": "a"}]


def test_only_events_asked_for(server: Server) -> None:
    call_hooks([HookSection(url=server.url, on=("failure",))], "success", {})
    assert server.sent == []


def test_a_busy_server_is_tried_again(server: Server) -> None:
    server.statuses = [503, 429, 200]
    assert call_hooks([HookSection(url=server.url)], "refusal", {}) == []
    assert len(server.sent) == 3


@pytest.mark.parametrize(("status", "tries"), [(503, 2), (404, 1)])
def test_a_refusing_server_is_reported(server: Server, status: int, tries: int) -> None:
    server.statuses = [status]
    (failure,) = call_hooks([HookSection(url=server.url, tries=2)], "refusal", {})
    assert server.url in failure
    assert len(server.sent) == tries


def test_a_failing_hook_does_not_keep_the_next_from_being_called(server: Server) -> None:
    failing = [
        HookSection(command=("no-such-program",)),
        HookSection(command=(sys.executable, "-c", "raise SystemExit(3)")),
        HookSection(command=(sys.executable, "-c", "import time; time.sleep(60)"), seconds=0.2),
    ]
    assert len(call_hooks([*failing, HookSection(url=server.url)], "failure", {})) == 3
    assert len(server.sent) == 1


@pytest.mark.parametrize("wrong", [{}, {"command": ("a",), "url": "http://x"}, {"command": ()}])
def test_a_hook_is_either_a_command_or_a_url(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="either a command or a url"):
        HookSection(**wrong)
