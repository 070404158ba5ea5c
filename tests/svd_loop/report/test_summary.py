from __future__ import annotations

from svd_loop.contracts import JobResult, RoundRecord, StopReason
from svd_loop.report.summary import STOPPED, accepted_fraction, gain_sentence, votes_of


def test_every_stop_reason_has_words() -> None:
    assert set(STOPPED) == set(StopReason)


def test_derived_figures_of_a_round(history: list[RoundRecord]) -> None:
    assert votes_of(history[1]) == 700 + 500 + 300
    assert history[1].output_tokens == 6000
    assert accepted_fraction(history[1]) == 0.9
    assert (votes_of(history[0]), history[0].output_tokens, accepted_fraction(history[0])) == (0, 0, None)


def test_the_gain_names_the_best_round_not_the_last(result: JobResult) -> None:
    assert gain_sentence(result) == "pass@1 40.0% -> 58.0% (+18.0 points) at round 2 of 3"
