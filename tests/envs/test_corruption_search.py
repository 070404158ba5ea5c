"""The search for kinds of error: what it plants, and how earlier rounds steer it."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envs.cascade.cascade import Cascade
from envs.cascade.template_sets import TemplateSet
from envs.corruption_search import CHANGES, search, shared_out
from svd_loop.contracts import Candidate, Stage
from tests.envs.judges import RulePolicy, always, prompt, settings_of

CASCADE = Cascade(TemplateSet.load("chat"), settings_of(votes=2))
TEXT = "First 7 * 9 = 63.\nThen 63 + 12 = 75 at least.\nSo the answer is 75."
SOLVED = [(prompt(0), Candidate("p0", 3, TEXT))]


@given(st.sampled_from(sorted(CHANGES)), st.integers(0, 1000))
def test_every_kind_changes_the_text_and_follows_its_seed(change: str, seed: int) -> None:
    text = CHANGES[change](TEXT, Random(seed))
    assert text is not None and text != TEXT
    assert text == CHANGES[change](TEXT, Random(seed))


@pytest.mark.parametrize("change", sorted(CHANGES))
def test_what_has_nothing_to_change_is_left_alone(change: str) -> None:
    assert CHANGES[change]("Yes", Random(0)) is None


def test_what_three_kinds_look_like() -> None:
    assert CHANGES["conclusion"](TEXT, Random(0)) in {TEXT[:-3] + f"{75 + off}." for off in (1, 2, 10)}
    swapped = CHANGES["swapped"]("3 and 4 make 7", Random(1))
    assert swapped is not None and sorted(swapped) == sorted("3 and 4 make 7")
    left_out = CHANGES["left_out"](TEXT, Random(0))
    assert left_out is not None and left_out.endswith("So the answer is 75.") and left_out.count("\n") == 1


def test_kinds_that_were_let_through_get_more_of_the_search() -> None:
    even = shared_out(24, {})
    assert sum(even.values()) == 24 and set(even.values()) <= {3, 4}
    steered = shared_out(24, {**dict.fromkeys(CHANGES, (20, 0)), "swapped": (20, 20)})
    assert sum(steered.values()) == 24
    assert steered["swapped"] > 12 and min(steered.values()) >= 1


@given(st.integers(0, 60), st.dictionaries(st.sampled_from(sorted(CHANGES)), st.tuples(st.just(9), st.integers(0, 9))))
def test_the_whole_search_is_shared_out(count: int, earlier: dict[str, tuple[int, int]]) -> None:
    numbers = shared_out(count, earlier)
    assert sum(numbers.values()) == count and min(numbers.values()) >= 0


def test_a_search_counts_what_the_cascade_accepts() -> None:
    found = search(CASCADE, always("[[Y]]"), SOLVED, {}, count=14, seed=0, round=3)
    assert found == dict.fromkeys(CHANGES, (2, 2))
    refusing = always("[[N]]")
    assert search(CASCADE, refusing, SOLVED, {}, count=14, seed=0, round=3) == dict.fromkeys(CHANGES, (2, 0))
    assert {(call.id.purpose, call.id.round) for call in refusing.calls} == {("search", 3)}
    blind = RulePolicy(lambda call: "[[Y]]" if "So the answer is 75." in call.messages[-1].content else "[[N]]")
    grading = Cascade(CASCADE.templates, settings_of([Stage.CORRECTNESS], votes=2))
    found = search(grading, blind, SOLVED, {}, count=14, seed=0, round=3)
    assert found["left_out"] == (2, 2) and found["conclusion"] == (2, 0)
    assert search(CASCADE, refusing, [], {}, count=14, seed=0, round=3) == {}
