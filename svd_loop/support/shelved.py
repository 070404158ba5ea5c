"""Candidates whose texts and token ids are in a ledger and not in memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import overload

from svd_loop.contracts import Candidate, Shelf

_CHUNK = 256
"""Candidates that are read together."""


@dataclass(frozen=True, slots=True)
class ShelvedCandidates(Sequence[Candidate]):
    """A sequence whose items are read when they are asked for, and not kept.

    Attributes:
        held: the candidates as they are in memory, most of them without text and token ids.
        shelf: has these.
    """

    held: Sequence[Candidate]
    shelf: Shelf

    def __len__(self) -> int:
        return len(self.held)

    @overload
    def __getitem__(self, place: int) -> Candidate: ...

    @overload
    def __getitem__(self, place: slice) -> Sequence[Candidate]: ...

    def __getitem__(self, place: int | slice) -> Candidate | Sequence[Candidate]:
        if isinstance(place, slice):
            return ShelvedCandidates(self.held[place], self.shelf)
        return self.shelf.complete([self.held[place]])[0]

    def __iter__(self) -> Iterator[Candidate]:
        for start in range(0, len(self.held), _CHUNK):
            yield from self.shelf.complete(self.held[start : start + _CHUNK])


def by_prompt(candidates: Sequence[Candidate]) -> dict[str, Sequence[Candidate]]:
    """The candidates of each prompt, in their order; shelved ones stay shelved."""
    groups: dict[str, list[Candidate]] = {}
    for candidate in held(candidates):
        groups.setdefault(candidate.prompt_id, []).append(candidate)
    if isinstance(candidates, ShelvedCandidates):
        return {prompt_id: ShelvedCandidates(group, candidates.shelf) for prompt_id, group in groups.items()}
    return dict(groups)


def held(candidates: Sequence[Candidate]) -> Sequence[Candidate]:
    """The candidates as they are in memory."""
    return candidates.held if isinstance(candidates, ShelvedCandidates) else candidates
