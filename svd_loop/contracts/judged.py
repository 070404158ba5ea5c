"""A candidate as the verifier test sees it."""

from __future__ import annotations

from dataclasses import dataclass

from svd_loop.contracts.records import Vote


@dataclass(frozen=True, slots=True)
class JudgedCandidate:
    """A candidate with every vote of every stage.

    Attributes:
        prompt_id: candidates of one prompt are not independent.
        votes: on it; none if it is not complete.
        right: None where no label says so.
        agreeing: candidates of its prompt with its final answer, itself included; None if they were not compared.
        compared: candidates of its prompt that were compared.
        largest: most candidates of its prompt with one final answer.
        solved: share of the samples of its prompt that are right; None where no label says so.
        complete: whether it is neither truncated nor empty.
    """

    prompt_id: str
    votes: tuple[Vote, ...] = ()
    right: bool | None = None
    agreeing: int | None = None
    compared: int = 0
    largest: int = 0
    solved: float | None = None
    complete: bool = True
