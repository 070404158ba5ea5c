"""A few candidates judged to the end: what the judge says of candidates at large, where early exit hides it.

A judge that stops at the first no casts late votes on survivors alone, so the yes rates of what it cast say little
about the judge. The slice is drawn by a hash of seed, round and candidate, blind to text and votes, and gets every
vote of every stage. Its verdicts are what they would have been, only its bill is longer. The rates are unbiased for
the complete candidates that were judged; with `sampling.block` these are more often those of hard prompts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from svd_loop.contracts import Stage, Verdict, VoteValue
from svd_loop.support.statistics import wilson


def in_slice(share: float, seed: int, round: int, prompt_id: str, candidate: int) -> bool:
    """Whether a candidate is judged to the end: true for a `share` of them, the same at every call."""
    digest = hashlib.sha256(f"audit slice\x1f{seed}\x1f{round}\x1f{prompt_id}\x1f{candidate}".encode()).digest()
    return int.from_bytes(digest[:6], "big") < share * 2**48


def audit_metrics(verdicts: Sequence[Verdict], stages: Sequence[Stage], needed: int) -> dict[str, float]:
    """Yes rates by stage of the slice, with Wilson intervals at 95%.

    Args:
        verdicts: Of the slice's candidates, with every vote; those without votes (cut off, empty) are left out.
        stages: The cascade's.
        needed: Yes votes that let a candidate through a stage.

    Returns:
        `audit.candidates`, and for each stage `audit.<stage>.yes`, the share of candidates whose first vote said yes
        (the rate of a single vote: the v votes of a candidate are no independent trials), and `audit.<stage>.passes`,
        the share the stage would let through; each with `.low` and `.high`. No candidates, no rates.
    """
    votes = [verdict.votes for verdict in verdicts if verdict.votes]
    metrics = {"audit.candidates": float(len(votes))}
    for stage in stages if votes else ():
        values_C_V = [[vote.value is VoteValue.YES for vote in cast if vote.stage is stage] for cast in votes]
        counts = {
            "yes": sum(values[0] for values in values_C_V),
            "passes": sum(sum(values) >= needed for values in values_C_V),
        }
        for name, count in counts.items():
            rate = wilson(count, len(votes))
            figures = {"": rate.value, ".low": rate.low, ".high": rate.high}
            metrics |= {f"audit.{stage}.{name}{end}": value for end, value in figures.items()}
    return metrics
