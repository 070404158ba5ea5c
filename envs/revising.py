"""Critique and revise: which rejected candidate gets another try, and with whose words.

A prompt of which nothing was accepted gets one more candidate, written in sight of the rejected one that came furthest
and of the vote that rejected it. It is judged like any other, as a candidate of its own, and what is learned from it is
the plain prompt with the revised solution. So its tokens were sampled from another prompt than they are trained on:
off-policy, unlike every other row.

Left out: revising a revision, and candidates that no vote rejected (cut off, empty), on which nobody said anything.
"""

from __future__ import annotations

from collections.abc import Sequence

from envs.cascade.votes import answer_of
from svd_loop.contracts import Candidate, Prompt, Revision, Verdict, VoteValue


def revision_of(prompt: Prompt, candidates: Sequence[Candidate], verdicts: Sequence[Verdict]) -> Revision | None:
    """The candidate to revise: of those that a vote rejected, the one with the most yes votes, the first of equals.

    Args:
        prompt: the prompt.
        candidates: its candidates.
        verdicts: on them, aligned; none accepts.

    Returns:
        None where no vote rejected any.
    """
    best: tuple[int, Revision] | None = None
    for candidate, verdict in zip(candidates, verdicts, strict=True):
        critique = _critique(verdict)
        yes = sum(vote.value is VoteValue.YES for vote in verdict.votes)
        if critique is not None and (best is None or yes > best[0]):
            best = yes, Revision(prompt, candidate, critique)
    return best[1] if best else None


def _critique(verdict: Verdict) -> str | None:
    """The words of the vote that rejected, without reasoning."""
    for vote in verdict.votes:
        if verdict.stage is not None and (vote.stage, vote.vote) == (verdict.stage, verdict.vote):
            return answer_of(vote.text).strip()
    return None
