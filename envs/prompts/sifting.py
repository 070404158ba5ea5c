"""The order-independent checks of a prompt: the held-out problems it holds, and its duplicate keys.

Everything here is a pure function of the text and the settings; the order-dependent checks are in `pool`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from envs.prompts.dedup import KeyMaker, Keys
from envs.prompts.leak import Leak, LeakIndex
from envs.prompts.normalise import compared
from envs.prompts.similarity import sketches
from svd_loop.config.data import DedupSection, LeakSection
from svd_loop.contracts import Problem, Prompt


@dataclass(frozen=True, slots=True)
class Sifted:
    """The results for one prompt: held-out problems in it, and its duplicate keys."""

    leaks: Sequence[Leak]
    keys: Keys


class Sifter:
    """Checks batches of prompts: each text is normalised once, and sketches are made together."""

    def __init__(self, held_out: Sequence[Problem], dedup: DedupSection, leak: LeakSection) -> None:
        self._index = LeakIndex(held_out, leak)
        self._key_maker = KeyMaker(dedup)

    def sift(self, prompts: Sequence[Prompt]) -> list[Sifted]:
        """Return the results, one per prompt."""
        texts = [prompt.text for prompt in prompts]
        forms = [compared(text) for text in texts]
        needs_sketches = self._index.needs_sketches or self._key_maker.needs_sketches
        sketched = sketches(forms) if needs_sketches else None
        sources = [prompt.source or prompt.id for prompt in prompts]
        leaks = self._index.find_each(texts, sources, forms, sketched)
        return list(map(Sifted, leaks, self._key_maker.keys(texts, forms, sketched)))
