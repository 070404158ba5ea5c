"""Gymnasium spaces for batches of texts.

`gymnasium.spaces.Text` has a fixed alphabet and a largest length; questions and solutions have neither. Both spaces
here hold tuples of strings of any length and any characters. Sampling exists so that tools which explore an
environment at random work; the samples have no meaning.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gymnasium import Space

from svd_loop.contracts import Candidate

_ALPHABET = "abcdefghijklmnopqrstuvwxyz ABCXYZ 0123456789 +-*/=?!.,()[]{}$\\\n äß漢√∑→🙂"
_LONGEST_SAMPLE = 16


class _TextSpace(Space[Any]):
    """Shared code of both spaces: drawing random texts."""

    def __init__(self, size: int, seed: int | None) -> None:
        self.size = size
        super().__init__(shape=None, dtype=None, seed=seed)

    @property
    def is_np_flattenable(self) -> bool:
        """False: texts of any length have no fixed-size array form."""
        return False

    def _draw_text(self) -> str:
        length = int(self.np_random.integers(1, _LONGEST_SAMPLE + 1))
        return "".join(_ALPHABET[i] for i in self.np_random.integers(0, len(_ALPHABET), size=length))

    def _refuse_masks(self, mask: Any, probability: Any) -> None:
        if mask is not None or probability is not None:
            raise ValueError(f"{type(self).__name__}.sample takes neither mask nor probability")


class PromptBatchSpace(_TextSpace):
    """Tuples of `size` texts, one per prompt of the round; "" means that no candidate is wanted for that prompt."""

    def __init__(self, size: int, seed: int | None = None) -> None:
        super().__init__(size, seed)

    def sample(self, mask: Any = None, probability: Any = None) -> tuple[str, ...]:
        """Random texts, about a quarter of them empty."""
        self._refuse_masks(mask, probability)
        return tuple("" if self.np_random.random() < 0.25 else self._draw_text() for _ in range(self.size))

    def contains(self, x: Any) -> bool:
        """Whether `x` is a tuple or list of `size` strings."""
        return isinstance(x, tuple | list) and len(x) == self.size and all(isinstance(text, str) for text in x)

    def from_jsonable(self, sample_n: list[Any]) -> list[tuple[str, ...]]:
        """Undo `to_jsonable`: JSON has no tuples."""
        return [tuple(sample) for sample in sample_n]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PromptBatchSpace) and self.size == other.size

    def __hash__(self) -> int:
        return hash((PromptBatchSpace, self.size))

    def __repr__(self) -> str:
        return f"PromptBatchSpace({self.size})"


class CandidateBatchSpace(_TextSpace):
    """Tuples of `size` tuples, each of at most `block` candidates: plain text, or `Candidate` with its token ids."""

    def __init__(self, size: int, block: int, seed: int | None = None) -> None:
        self.block = block
        super().__init__(size, seed)

    def sample(self, mask: Any = None, probability: Any = None) -> tuple[tuple[str, ...], ...]:
        """Random texts, a random number of them per prompt."""
        self._refuse_masks(mask, probability)
        counts = self.np_random.integers(0, self.block + 1, size=self.size)
        return tuple(tuple(self._draw_text() for _ in range(count)) for count in counts)

    def contains(self, x: Any) -> bool:
        """Whether `x` is a tuple or list of `size` tuples or lists of at most `block` candidates."""
        return isinstance(x, tuple | list) and len(x) == self.size and all(map(self._is_slot, x))

    def from_jsonable(self, sample_n: list[Any]) -> list[tuple[tuple[str, ...], ...]]:
        """Undo `to_jsonable`: JSON has no tuples."""
        return [tuple(tuple(slot) for slot in sample) for sample in sample_n]

    def _is_slot(self, slot: Sequence[Any]) -> bool:
        if not isinstance(slot, tuple | list) or len(slot) > self.block:
            return False
        return all(isinstance(candidate, str | Candidate) for candidate in slot)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CandidateBatchSpace) and (self.size, self.block) == (other.size, other.block)

    def __hash__(self) -> int:
        return hash((CandidateBatchSpace, self.size, self.block))

    def __repr__(self) -> str:
        return f"CandidateBatchSpace({self.size}, block={self.block})"
