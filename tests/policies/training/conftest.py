"""The training libraries are imported once, before the first update."""

from __future__ import annotations

import pytest

from tests.uncollected import import_for_good


@pytest.fixture(scope="session", autouse=True)
def training_libraries() -> None:
    """Exempt from garbage collection, which every training asks for."""
    import_for_good("trl.trainer.sft_trainer", "transformers.models.qwen3.modeling_qwen3", "peft")
