from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envs.spaces import CandidateBatchSpace, PromptBatchSpace
from svd_loop.contracts import Candidate

PROMPTS, CANDIDATES = PromptBatchSpace(3), CandidateBatchSpace(2, block=2)


@given(st.integers(1, 20), st.integers(1, 5), st.integers(0, 2**31 - 1))
def test_samples_are_members_and_follow_the_seed(size: int, block: int, seed: int) -> None:
    for make in (lambda: PromptBatchSpace(size, seed), lambda: CandidateBatchSpace(size, block, seed)):
        first, second = make(), make()
        samples = [first.sample() for _ in range(3)]
        assert all(first.contains(sample) for sample in samples)
        assert samples == [second.sample() for _ in range(3)]
        hash(samples[0])


def test_reseeding_repeats_and_other_seeds_differ() -> None:
    space = PromptBatchSpace(20)
    space.seed(1)
    first = space.sample()
    space.seed(1)
    assert space.sample() == first
    space.seed(2)
    assert space.sample() != first


@given(st.tuples(*[st.text(st.characters(exclude_categories=()))] * 3))
def test_any_text_is_a_prompt(texts: tuple[str, ...]) -> None:
    assert texts in PROMPTS and list(texts) in PROMPTS


@pytest.mark.parametrize("wrong", [(), ("a", "b"), ("a", "b", "c", "d"), "abc", ("a", "b", 3), None, {"a", "b", "c"}])
def test_what_is_no_prompt_batch(wrong: object) -> None:
    assert wrong not in PROMPTS


@pytest.mark.parametrize("right", [((), ()), (("a",), ("b", "c")), [["a"], []], ((Candidate("p", 0, "x"), "y"), ())])
def test_what_is_a_candidate_batch(right: object) -> None:
    assert right in CANDIDATES


@pytest.mark.parametrize("wrong", [(), ((),), ("a", "b"), (("a", "b", "c"), ()), ((1,), ()), ((), (), ()), None])
def test_what_is_no_candidate_batch(wrong: object) -> None:
    assert wrong not in CANDIDATES


def test_equality_hash_and_repr() -> None:
    assert PROMPTS == PromptBatchSpace(3, seed=9) != PromptBatchSpace(4)
    assert CANDIDATES == CandidateBatchSpace(2, 2) != CandidateBatchSpace(2, 3)
    assert PROMPTS != CANDIDATES
    assert len({PROMPTS, PromptBatchSpace(3), CANDIDATES, CandidateBatchSpace(2, 2)}) == 2
    assert repr(PROMPTS) == "PromptBatchSpace(3)" and repr(CANDIDATES) == "CandidateBatchSpace(2, block=2)"
    assert not PROMPTS.is_np_flattenable


@pytest.mark.parametrize("space", [PromptBatchSpace(4, seed=0), CandidateBatchSpace(4, 3, seed=0)])
def test_json_round_trip(space: PromptBatchSpace | CandidateBatchSpace) -> None:
    samples = [space.sample() for _ in range(3)]
    assert space.from_jsonable(json.loads(json.dumps(space.to_jsonable(samples)))) == samples


@pytest.mark.parametrize("space", [PROMPTS, CANDIDATES])
@pytest.mark.parametrize("argument", ["mask", "probability"])
def test_masks_are_refused(space: PromptBatchSpace | CandidateBatchSpace, argument: str) -> None:
    with pytest.raises(ValueError, match="neither mask nor probability"):
        space.sample(**{argument: [1]})
