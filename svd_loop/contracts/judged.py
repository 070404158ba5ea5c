"""A candidate as the verifier test sees it."""

from __future__ import annotations

from dataclasses import dataclass

from svd_loop.contracts.records import Vote


@dataclass(frozen=True, slots=True)
class JudgedCandidate:
    """A complete candidate with every vote of every stage.

    Attributes:
        prompt_id: candidates of one prompt are not independent.
        votes: on it.
        right: None where no label says so.
        agreeing: candidates of its prompt with its final answer, itself included; None if they were not compared.
        compared: candidates of its prompt that were compared.
    """

    prompt_id: str
    votes: tuple[Vote, ...]
    right: bool | None = None
    agreeing: int | None = None
    compared: int = 0
