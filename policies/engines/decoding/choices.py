"""Limit answers to a few token sequences (`GenerationRequest.choices`).

After the tokens written so far, only those with which some choice goes on are allowed. An engine of our own masks the
others at every step (`policies.engines.decoding.pool`). vLLM can limit a whole request to a set of tokens
(`allowed_token_ids`), on every runner of it and without a tokenizer or a grammar: `generate_with_choices` asks it for
one token where choices part, and writes the tokens between by itself. Two markers part once, so a verdict is one
request of one token.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace

from svd_loop.contracts import Choice, FinishReason, Generation, GenerationRequest, GenerationStream
from svd_loop.errors import EngineError


def allowed_next(choices: Sequence[Choice], written: Sequence[int]) -> list[int]:
    """The tokens with which some choice goes on after those written, in ascending order; empty after a whole choice."""
    done = len(written)
    fitting = [choice.token_ids for choice in choices if choice.token_ids[:done] == tuple(written)]
    return sorted({ids[done] for ids in fitting if len(ids) > done})


def next_tokens(request: GenerationRequest) -> list[int] | None:
    """The tokens to which the answer of a one-token request is limited; None if it is free."""
    return allowed_next(request.choices, ()) if request.choices else None


def generate_with_choices(
    generate: Callable[[Sequence[GenerationRequest]], list[Generation]], requests: Sequence[GenerationRequest]
) -> list[Generation]:
    """Answer requests by an engine that can limit the next token alone (`next_tokens`).

    Args:
        generate: answers requests; those with choices ask for one token.
        requests: any requests; those without choices are passed on as they are, with the first tokens of the others.

    Returns:
        The answers, in order.

    Raises:
        EngineError: an answer has a token that was not allowed.
    """
    limited = [LimitedAnswer(request) for request in requests if request.choices]
    free = [request for request in requests if not request.choices]
    asked = [row for row in limited if row.forks()]
    first = [*free, *(row.next_request() for row in asked)]
    answers = generate(first) if first else []
    done = iter(answers[: len(free)])
    answers = answers[len(free) :]
    while asked:
        for row, answer in zip(asked, answers, strict=True):
            row.take(answer)
        asked = [row for row in asked if row.forks()]
        answers = generate([row.next_request() for row in asked]) if asked else []
    whole = iter(limited)
    return [next(whole).generation() if request.choices else next(done) for request in requests]


@dataclass(slots=True)
class LimitedAnswer:
    """A request with choices, and the tokens written so far."""

    request: GenerationRequest
    written: list[int] = field(default_factory=list)

    def forks(self) -> bool:
        """Write tokens as long as there is one that is allowed; return whether several are then."""
        while len(allowed := allowed_next(self.request.choices, self.written)) == 1:
            self.written += allowed
        return bool(allowed)

    def next_request(self) -> GenerationRequest:
        """A request for the next token, with a seed of its own."""
        request, done = self.request, len(self.written)
        return replace(
            request,
            prompt_ids=(*request.prompt_ids, *self.written),
            sampling=replace(request.sampling, max_tokens=1),
            seed=request.seed + done,
            choices=tuple(Choice("", (token,)) for token in allowed_next(request.choices, self.written)),
        )

    def take(self, answer: Generation) -> None:
        """Write the token that was sampled."""
        (token,) = answer.token_ids[:1] or (-1,)
        if token not in allowed_next(self.request.choices, self.written):
            raise EngineError(f"the engine wrote token {token} where an answer was limited to others")
        self.written.append(token)

    def generation(self) -> Generation:
        """The whole answer, which ends with a stop token."""
        return Generation(tuple(self.written), FinishReason.STOP)


class ChoiceStream:
    """`generate_with_choices` for requests in flight: implements `svd_loop.contracts.GenerationStream`.

    Args:
        stream: of an engine that can limit the next token alone; closed with this one.
    """

    def __init__(self, stream: GenerationStream) -> None:
        self._stream = stream
        self._limited: dict[int, LimitedAnswer] = {}
        self._whole: list[int] = []

    @property
    def slots(self) -> int:
        """Those of the stream."""
        return self._stream.slots

    def put(self, requests: Sequence[tuple[int, GenerationRequest]]) -> None:
        """Queue requests, those with choices for their next token."""
        limited = {number: LimitedAnswer(request) for number, request in requests if request.choices}
        self._limited |= limited
        first = dict(self._next_tokens(list(limited)))
        asked = [(number, first.get(number, request)) for number, request in requests]
        self._stream.put([one for one in asked if one[0] in first or one[0] not in limited])

    def drop(self, numbers: Collection[int]) -> None:
        """Forget requests."""
        for number in numbers:
            self._limited.pop(number, None)
        self._stream.drop(numbers)

    def take(self, seconds: float | None = None) -> list[tuple[int, Generation]]:
        """Wait for whole answers; about `seconds` at most, and those of each of their tokens.

        Raises:
            EngineError: the engine failed, or an answer has a token that was not allowed.
        """
        while True:
            found = [
                (number, self._limited.pop(number).generation()) for number in self._whole if number in self._limited
            ]
            self._whole = []
            if found:
                return found
            answers = self._stream.take(seconds)
            for number, answer in answers:
                if (limited := self._limited.get(number)) is not None:
                    limited.take(answer)
            self._stream.put(self._next_tokens([number for number, _ in answers if number in self._limited]))
            found = [one for one in answers if one[0] not in self._limited]
            if found or not answers:
                return found

    def close(self) -> None:
        """Drop everything and close the stream."""
        self._limited.clear()
        self._stream.close()

    def _next_tokens(self, numbers: Sequence[int]) -> list[tuple[int, GenerationRequest]]:
        """What to ask next for requests with choices; those whose answer is whole are noted."""
        forking = {number for number in numbers if self._limited[number].forks()}
        self._whole += [number for number in numbers if number not in forking]
        return [(number, self._limited[number].next_request()) for number in numbers if number in forking]
