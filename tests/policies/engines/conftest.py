"""Small misbehaving servers, closed when a test ends; and engines' processes that need not import everything again."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import SimpleNamespace
from typing import IO, Any

import pytest

from tests.policies.engines.completion_server import CompletionServer
from tests.processes import FOR_ENGINES, Process


@pytest.fixture
def servers() -> Iterator[Callable[..., CompletionServer]]:
    opened: list[CompletionServer] = []

    def start(**settings: Any) -> CompletionServer:
        opened.append(CompletionServer(**settings))
        return opened[-1]

    yield start
    for server in opened:
        server.close()


@pytest.fixture(scope="module")
def forked_children() -> Iterator[None]:
    """The children of engines are forks of a process with vLLM behind it, and otherwise what they always are."""

    def start(
        command: Sequence[str], *, env: Mapping[str, str], stdin: int, stdout: IO[Any], stderr: IO[Any], **rest: Any
    ) -> Process:
        assert rest.pop("start_new_session")  # which each of these processes has
        return Process(command, env=env, stdin=stdin, stdout=stdout, stderr=stderr, server=FOR_ENGINES, **rest)

    forking = SimpleNamespace(Popen=start, PIPE=subprocess.PIPE, TimeoutExpired=subprocess.TimeoutExpired)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("svd_loop.support.child_process.subprocess", forking)
        yield
