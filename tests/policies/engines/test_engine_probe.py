"""What transformers makes of a version, computed in another process."""

from __future__ import annotations

from pathlib import Path

import pytest

from policies.engines.probe import reference_in_child
from policies.engines.vllm_child import Probed, reference_logprobs


def probed(checkpoint: Path) -> Probed:
    return Probed(checkpoint=str(checkpoint), dtype="float32", adapter=None, prompts=[[5, 6, 7, 8], [9, 10]])


@pytest.mark.usefixtures("forked_children")
def test_a_child_computes_what_this_process_would(checkpoint: Path) -> None:
    expected = reference_logprobs(probed(checkpoint))
    found = reference_in_child(probed(checkpoint), 120.0)
    assert [len(row) for row in found] == [3, 1]
    assert [value for row in found for value in row] == pytest.approx([value for row in expected for value in row])
