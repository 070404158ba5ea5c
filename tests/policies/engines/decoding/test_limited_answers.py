"""Answers limited to a few sequences, by an engine that can limit one token at a time."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.engines.decoding.choices import allowed_next, generate_with_choices, next_tokens
from svd_loop.contracts import Choice, FinishReason, Generation, GenerationRequest, Sampling
from svd_loop.errors import EngineError

STOP = 0
SEQUENCES = st.lists(st.lists(st.integers(1, 3), max_size=3).map(tuple), min_size=1, max_size=4, unique=True)


def choices_of(sequences: Sequence[tuple[int, ...]]) -> tuple[Choice, ...]:
    return tuple(Choice(str(ids), (*ids, STOP)) for ids in sequences)


class OneToken:
    """Takes the allowed token that the seed picks, and answers free rows with their prompt."""

    def __init__(self) -> None:
        self.batches: list[list[GenerationRequest]] = []

    def generate(self, requests: Sequence[GenerationRequest]) -> list[Generation]:
        self.batches.append(list(requests))
        return [self.answer(request) for request in requests]

    def answer(self, request: GenerationRequest) -> Generation:
        allowed = next_tokens(request)
        if allowed is None:
            return Generation(request.prompt_ids, FinishReason.STOP)
        assert len(allowed) > 1 and request.sampling.max_tokens == 1
        return Generation((allowed[request.seed % len(allowed)],), FinishReason.LENGTH)


@given(rows=st.lists(st.one_of(st.none(), SEQUENCES), max_size=6), seeds=st.lists(st.integers(0, 99), min_size=6))
def test_every_answer_is_a_choice_and_free_rows_pass_through(
    rows: list[list[tuple[int, ...]] | None], seeds: list[int]
) -> None:
    engine = OneToken()
    requests = [
        GenerationRequest((7, place), Sampling(9), seeds[place], choices_of(sequences or ()))
        for place, sequences in enumerate(rows)
    ]
    found = generate_with_choices(engine.generate, requests)
    for request, answer in zip(requests, found, strict=True):
        assert answer.finish_reason is FinishReason.STOP
        wanted = {choice.token_ids for choice in request.choices} or {request.prompt_ids}
        assert answer.token_ids in wanted
    for place, request in enumerate(requests):  # a row's answer does not depend on its batch
        assert generate_with_choices(OneToken().generate, [request]) == found[place : place + 1]


def test_two_markers_are_one_request_of_one_token() -> None:
    engine = OneToken()
    row = GenerationRequest((7,), Sampling(9), 2, choices_of([(1, 2, 3), (1, 3, 3)]))
    assert generate_with_choices(engine.generate, [row])[0].token_ids == (1, 3, 3, STOP)
    assert [[request.prompt_ids for request in batch] for batch in engine.batches] == [[(7, 1)]]
    assert generate_with_choices(engine.generate, [GenerationRequest((7,), Sampling(9), 1, choices_of([(2,)]))])
    assert len(engine.batches) == 1  # a single choice asks nothing


@pytest.mark.parametrize("wrong", [(9,), ()])
def test_a_token_that_was_not_allowed_is_an_error(wrong: tuple[int, ...]) -> None:
    row = GenerationRequest((7,), Sampling(9), 1, choices_of([(1,), (2,)]))
    with pytest.raises(EngineError, match="limited to others"):
        generate_with_choices(lambda requests: [Generation(wrong, FinishReason.LENGTH)], [row])


def test_allowed_tokens_follow_what_is_written() -> None:
    choices = choices_of([(1, 2), (1, 3), (2,)])
    assert [allowed_next(choices, written) for written in ((), (1,), (2,), (1, 2), (1, 2, STOP), (9,))] == [
        [1, 2],
        [2, 3],
        [STOP],
        [STOP],
        [],
        [],
    ]
    assert next_tokens(GenerationRequest((7,), Sampling(9), 1)) is None
