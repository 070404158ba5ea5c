"""Limits and the stopwatch."""

from __future__ import annotations

import pytest

from svd_loop.contracts import PolicyVersion, RoundRecord, Scores, Usage, UsagePurpose
from svd_loop.loop.limits import Limits, Stopwatch

SCORES = Scores("development", 1, (), (), ())


def record(tokens: int) -> RoundRecord:
    asked = {"solver": Usage(calls=10**12, output_tokens=tokens)}
    usage = {UsagePurpose.ROUND: asked, UsagePurpose.EVALUATION: asked}
    return RoundRecord(0, PolicyVersion(0, "f"), SCORES, usage=usage)


@pytest.mark.parametrize(
    ("limits", "spent"),
    [
        (Limits(5), False),
        (Limits(5, hours=1.0), True),
        (Limits(5, hours=1.1), False),
        (Limits(5, tokens=400), True),
        (Limits(5, tokens=401), False),
    ],
)
def test_time_and_tokens_count(limits: Limits, spent: bool) -> None:
    assert limits.spent([record(100), record(100)], hours=1.0) is spent


def test_the_stopwatch_adds_up_by_phase_and_starts_again_when_taken() -> None:
    watch = Stopwatch()
    for _ in range(2):
        with watch.phase("judge"):
            pass
    with pytest.raises(RuntimeError), watch.phase("update"):
        raise RuntimeError
    seconds = watch.take()
    assert set(seconds) == {"judge", "update"}
    assert all(value >= 0 for value in seconds.values())
    assert watch.take() == {}
