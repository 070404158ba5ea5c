"""What `benchmarks.one_gpu` derives from a check: the size of a round, and the verifier."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.one_gpu import HELD_OUT, PROBE_PROMPTS, best_stages, sized


def estimate(a_round: float, evaluation: float, rounds: int = 2) -> dict[str, object]:
    """An estimate in seconds: of a round of the probed job, and of all its evaluation."""
    return {
        "round": {"hours": {"value": a_round / 3600}},
        "job": {"hours": {"value": (rounds * a_round + evaluation) / 3600}},
    }


@given(st.floats(0.1, 1000), st.floats(0.1, 1000), st.floats(60, 36_000), st.floats(1.5, 10), st.integers(16, 7000))
def test_more_time_never_makes_a_round_or_the_held_out_set_smaller(
    a_round: float, evaluation: float, seconds: float, more: float, most: int
) -> None:
    measured = estimate(a_round, evaluation)
    small = sized(measured, seconds, rounds=2, most=most)
    large = sized(measured, more * seconds, rounds=2, most=most)
    assert large.problems >= small.problems and small.problems in HELD_OUT
    assert 8 <= small.prompts <= most
    if large.problems == small.problems:
        assert large.prompts >= small.prompts
    if small.prompts > 8:
        assert small.seconds <= seconds * (1 + 1e-9)


def test_a_fast_model_gets_all_problems_and_a_slow_one_the_smallest_round() -> None:
    assert sized(estimate(1, 1), 600, rounds=2, most=7000).problems == HELD_OUT[0]
    slow = sized(estimate(100 * PROBE_PROMPTS, 5000), 600, rounds=2, most=7000)
    assert (slow.prompts, slow.problems) == (8, HELD_OUT[-1])
    assert sized(None, 600, rounds=2, most=7000).prompts == 16


@pytest.mark.parametrize(
    ("verifier", "stages"),
    [
        ("cascade", ["cycle_consistency", "factuality", "correctness"]),
        ("agreement_3_of_4", [{"type": "agreement", "count": 3}]),
        ("agreement_2_of_4+factuality", [{"type": "agreement", "count": 2}, "factuality"]),
        ("correctness", ["correctness"]),
    ],
)
def test_the_verifier_is_the_one_whose_gain_is_surest(verifier: str, stages: list[object]) -> None:
    options = [
        {"verifier": "cascade", "n": 4, "low": -0.1},
        {"verifier": verifier, "n": 4, "low": 0.05},
        {"verifier": "factuality", "n": 8, "low": 0.2},
    ]
    assert best_stages({"options": options}, 4) == stages


def test_without_a_forecast_agreement_decides() -> None:
    assert best_stages(None, 4) == best_stages({"options": []}, 4) == [{"type": "agreement", "count": 2}]
