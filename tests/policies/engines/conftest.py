"""Small misbehaving servers, closed when a test ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.policies.engines.completion_server import CompletionServer


@pytest.fixture
def servers() -> Iterator[Callable[..., CompletionServer]]:
    opened: list[CompletionServer] = []

    def start(**settings: Any) -> CompletionServer:
        opened.append(CompletionServer(**settings))
        return opened[-1]

    yield start
    for server in opened:
        server.close()
