"""Data about a version for engines in other processes, and the prompts of the comparison with transformers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from policies.text.chat import ChatCodec
from policies.versions.checkpoints import foundation
from policies.versions.stored import StoredVersion
from svd_loop.contracts import Message

_PROBE_QUESTIONS = (
    "What is 17 * 23? Work it out step by step, then write the answer alone on the last line.",
    "Write a Python function `reverse(items)` that returns a reversed copy of a list.",
    "Why does ice float on water?",
)
"""About a hundred tokens; must never change."""


@dataclass(frozen=True, slots=True)
class Served:
    """What to load: a complete checkpoint, and an adapter on top of it, if any.

    `name` and `number` identify the version (`round-003-1f2e3d4c5b6a`, 3).
    """

    checkpoint: Path
    name: str
    number: int
    adapter: Path | None = None


@dataclass(slots=True)
class PrefixCache:
    """Counts prompt tokens, and how many of them came from the prefix cache."""

    prompt_tokens: int = 0
    cached_tokens: int = 0

    @property
    def hit_rate(self) -> float:
        """Share of prompt tokens that came from the cache; 0 before the first row."""
        return self.cached_tokens / self.prompt_tokens if self.prompt_tokens else 0.0


def served_version(stored: StoredVersion) -> Served:
    """A stored version as a server loads it; an adapter stays separate from its base."""
    version = stored.version
    name = f"{version.name}-{version.fingerprint[:12]}"
    return Served(foundation(stored), name, version.round, stored.path if stored.kind == "lora" else None)


def probe_prompts_of(codec: ChatCodec) -> list[tuple[int, ...]]:
    """Token ids of the prompts on which log probabilities are compared after every load."""
    return list(codec.encode([(Message("user", text),) for text in _PROBE_QUESTIONS]))
