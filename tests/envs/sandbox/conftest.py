from __future__ import annotations

from collections.abc import Iterator

import pytest

from envs.sandbox.pool import Sandbox


@pytest.fixture(scope="module", params=[True, False], ids=["private root", "no private root"])
def sandbox(request: pytest.FixtureRequest) -> Iterator[Sandbox]:
    with Sandbox(seconds=1.0, private_root=request.param) as sandbox:
        yield sandbox
