"""Real weights survive a kill bit by bit; `benchmarks/nano_kills.py` does the same at more places."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.nano_kills import CHUNK, kill_nano


@pytest.mark.slow
def test_killed_while_judging_and_while_training_the_weights_are_the_same(tmp_path: Path) -> None:
    run = kill_nano(tmp_path, ("1/judge/asked*2", "1/step-3"))
    assert run.kills == 2
    assert run.found.versions == run.expected.versions
    assert len({version.fingerprint for version in run.found.versions}) == 3
    assert run.found.rows == run.expected.rows
    assert run.asked_again <= 2 * CHUNK
    assert run.ok
