"""Here figures are looked at, so they are drawn."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.svd_loop.drawing import SAVEFIG, draw


@pytest.fixture(scope="module", autouse=True)
def drawn() -> Iterator[None]:
    """Undoes `undrawn` of the folder above."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SAVEFIG, draw)
        yield
