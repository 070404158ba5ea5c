"""Limit answers to a few token sequences (`GenerationRequest.choices`).

After the tokens written so far, only those with which some choice goes on are allowed. An engine of our own masks the
others at every step (`policies.engines.decoding.pool`). vLLM can limit a whole request to a set of tokens
(`allowed_token_ids`), on every runner of it and without a tokenizer or a grammar: `generate_with_choices` asks it for
one token where choices part, and writes the tokens between by itself. Two markers part once, so a verdict is one
request of one token.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from svd_loop.contracts import Choice, FinishReason, Generation, GenerationRequest
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
