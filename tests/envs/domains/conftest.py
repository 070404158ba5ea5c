"""The libraries' process is shared: its imports take two seconds of processor time, a comparison a few milliseconds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext

import pytest

from envs.domains.library import Library


@pytest.fixture(scope="session", autouse=True)
def shared_library() -> Iterator[None]:
    """One library for all scoring; tests of its process open their own."""
    with Library() as library, pytest.MonkeyPatch.context() as patch:
        for domain in ("math", "science"):
            patch.setattr(f"envs.domains.{domain}.Library", lambda: nullcontext(library))
        yield
