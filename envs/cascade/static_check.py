"""Checks of a candidate's form that need no model: a closed thought, a boxed answer.

The source's pipeline makes the same two checks before any vote (docs/guides/models.md). Left out: whether the answer
can be read by the domain's scorer. A judge should see a wrong answer, but not one that was never given.
"""

from __future__ import annotations

from envs.cascade.votes import answer_of, is_blank
from svd_loop.config.sections import StaticSection
from svd_loop.contracts import THOUGHT_MARKS, DomainName, Rejection

_BOX = "\\boxed{"


def malformed(required: StaticSection, domain: DomainName, text: str) -> Rejection | None:
    """The reason to reject a candidate for its form, or None.

    Args:
        required: what its text must contain.
        domain: of its prompt.
        text: the candidate's whole text, with its thought.
    """
    if required.thought and THOUGHT_MARKS[1] not in text:
        return Rejection.STATIC
    if domain in required.boxed and not _has_box(answer_of(text)):
        return Rejection.STATIC
    return None


def _has_box(answer: str) -> bool:
    """Whether any box has a content that is not blank; linear in the text."""
    return any(not is_blank(content.partition("}")[0]) for content in answer.split(_BOX)[1:])
