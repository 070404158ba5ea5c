"""What transformers makes of a version, computed in another process."""

from __future__ import annotations

from pathlib import Path

import pytest

from policies.engines.reference import reference_in_child
from policies.engines.vllm_child import Probed, reference_logprobs
from svd_loop.errors import EngineError


def probed(checkpoint: Path) -> Probed:
    return Probed(checkpoint=str(checkpoint), dtype="float32", adapter=None, prompts=[[5, 6, 7, 8], [9, 10]])


def test_a_child_computes_what_this_process_would(checkpoint: Path) -> None:
    expected = reference_logprobs(probed(checkpoint))
    found = reference_in_child(probed(checkpoint), 120.0)
    assert [len(row) for row in found] == [3, 1]
    assert [value for row in found for value in row] == pytest.approx([value for row in expected for value in row])


def test_a_checkpoint_that_cannot_be_loaded_is_named(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=f"transformers, {tmp_path} failed: ModelError"):
        reference_in_child(probed(tmp_path), 120.0)
