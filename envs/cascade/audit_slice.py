"""A random slice of candidates that gets every vote, to measure the judge where early exit hides it.

With early exit, late votes are cast on survivors only, so the yes rates of the cast votes are biased. The slice is
drawn by a hash of seed, round and candidate, independent of text and votes, and gets every vote of every stage. Its
verdicts stay what they would have been; only the cost is higher. The rates are unbiased for the complete candidates
that were judged; with `sampling.block`, these come more often from hard prompts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

from svd_loop.contracts import StageName, Verdict, VoteValue
from svd_loop.support.statistics import wilson


def in_slice(share: float, seed: int, round: int, prompt_id: str, candidate: int) -> bool:
    """Whether a candidate gets every vote: true for a `share` of them, the same result at every call."""
    digest = hashlib.sha256(f"audit slice\x1f{seed}\x1f{round}\x1f{prompt_id}\x1f{candidate}".encode()).digest()
    return int.from_bytes(digest[:6], "big") < share * 2**48


def audit_metrics(
    verdicts: Sequence[Verdict], stages: Sequence[StageName], needed_of: Callable[[StageName], int]
) -> dict[str, float]:
    """Yes rates by stage of the slice, with Wilson intervals at 95%.

    Args:
        verdicts: Verdicts of the slice with every vote; those without votes (truncated, empty) are left out.
        stages: The stages of the cascade.
        needed_of: Yes votes that let a candidate through a stage.

    Returns:
        `audit.candidates`, and for each stage `audit.<stage>.yes`, the share of candidates whose first vote said yes
        (of a single vote, because the v votes of a candidate are not independent), and `audit.<stage>.passes`,
        the share the stage would let through; each with `.low` and `.high`. Without candidates there are no rates.
    """
    votes = [verdict.votes for verdict in verdicts if verdict.votes]
    metrics = {"audit.candidates": float(len(votes))}
    for stage in stages if votes else ():
        values_C_V = [[vote.value is VoteValue.YES for vote in cast if vote.stage == stage] for cast in votes]
        counts = {
            "yes": sum(values[0] for values in values_C_V),
            "passes": sum(sum(values) >= needed_of(stage) for values in values_C_V),
        }
        for name, count in counts.items():
            rate = wilson(count, len(votes))
            figures = {"": rate.value, ".low": rate.low, ".high": rate.high}
            metrics |= {f"audit.{stage}.{name}{end}": value for end, value in figures.items()}
    return metrics
