"""The prompts of a round with what was written and judged, and where the texts of settled ones go."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from svd_loop.contracts import Candidate, Prompt, Selection, Shelf, Verdict
from svd_loop.support.shelved import ShelvedCandidates

BATCH = 2048
"""Votes and candidates whose texts are shelved together, in one transaction."""


@dataclass(slots=True)
class PromptState:
    """One prompt of the round with its candidates and verdicts."""

    prompt: Prompt
    candidates: list[Candidate] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)
    has_accepted: bool = False

    def record(self, candidate: Candidate, verdict: Verdict) -> bool:
        """Store a verdict; return whether it is the prompt's first acceptance."""
        is_first = verdict.accepted and not self.has_accepted
        self.has_accepted |= verdict.accepted
        self.candidates.append(candidate)
        self.verdicts.append(verdict)
        return is_first

    def beyond_first(self) -> int:
        """Number of candidates after the first accepted one."""
        accepted = [verdict.accepted for verdict in self.verdicts]
        return len(accepted) - 1 - accepted.index(True) if self.has_accepted else 0

    def selected(self, selection: Selection) -> list[Candidate]:
        """The candidates that become training rows."""
        accepted = [c for c, verdict in zip(self.candidates, self.verdicts, strict=True) if verdict.accepted]
        return accepted[:1] if selection is Selection.FIRST_VALID else accepted


class Shelving:
    """Takes the texts of settled prompts out of memory.

    Args:
        shelf: stores them; None leaves them in memory.
        selection: which candidates are selected: their texts stay in memory.
    """

    def __init__(self, shelf: Shelf | None, selection: Selection) -> None:
        self._shelf = shelf
        self._selection = selection
        self._settled: list[PromptState] = []
        self._size = 0

    def settle(self, states: Sequence[PromptState]) -> None:
        """Shelve prompts whose candidates are all judged, as soon as enough have come together."""
        if self._shelf is None:
            return
        self._settled += states
        self._size += sum(1 + len(verdict.votes) for state in states for verdict in state.verdicts)
        if self._size >= BATCH:
            self._write(self._shelf)

    def candidates(self, states: Sequence[PromptState]) -> Sequence[Candidate]:
        """All candidates of a finished round."""
        if self._shelf is None:
            return tuple(candidate for state in states for candidate in state.candidates)
        self._write(self._shelf)
        return ShelvedCandidates([candidate for state in states for candidate in state.candidates], self._shelf)

    def _write(self, shelf: Shelf) -> None:
        chosen = {(one.prompt_id, one.index) for state in self._settled for one in state.selected(self._selection)}
        pairs = [pair for state in self._settled for pair in zip(state.candidates, state.verdicts, strict=True)]
        shelved = iter(shelf.shelve(pairs, chosen))
        for state in self._settled:
            own = [next(shelved) for _ in state.candidates]
            state.candidates = [candidate for candidate, _ in own]
            state.verdicts = [verdict for _, verdict in own]
        self._settled, self._size = [], 0
