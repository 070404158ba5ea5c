from __future__ import annotations

from dataclasses import replace

import pytest

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
    sentence = gain_sentence(result)
    assert sentence.startswith("pass@1 40.0% -> 58.0% (+18.0 points) at round 2 of 3; 3 problems are too few")


@pytest.mark.parametrize(
    ("solved", "doubt"),
    [
        ([4] * 20 + [2] * 20, ""),
        ([4] + [0] * 39, "; 90% interval +0.0 to +7.5 points, so it may be chance"),
        ([4] * 2, "; 2 problems are too few to tell a gain from chance"),
        ([4] * 17 + [0] * 17, "; 90% interval +35.3 to +64.7 points"),
    ],
)
def test_a_gain_that_its_problems_cannot_carry_is_doubted(result: JobResult, solved: list[int], doubt: str) -> None:
    def scored(record: RoundRecord, correct: list[int]) -> RoundRecord:
        names = tuple(f"p{place}" for place in range(len(correct)))
        scores = replace(
            record.scores, samples=4, problem_ids=names, domains=("math",) * len(correct), correct=tuple(correct)
        )
        return replace(record, scores=scores)

    base, best = scored(result.history[0], [0] * len(solved)), scored(result.history[2], solved)
    told = gain_sentence(replace(result, best=best, history=(base, best)))
    assert told.partition(" at round 2 of 2")[2] == doubt
    assert gain_sentence(replace(result, best=base, history=(base, best))).endswith("at round 0 of 2")
