"""How far to ask ahead, so that an engine is not kept waiting by a handful of rows.

Early exit and blocks ask little at a time, and what they ask late concerns few: a decoding step for five rows takes as
long as one for a hundred. So where fewer rows are open than the engine should hold, each is asked several of its next
questions at once: further votes about a candidate, further candidates of a prompt. Which questions these are, and with
which seeds, is fixed beforehand, hence nothing but the bill can change. An answer that turns out not to be needed was
paid for in vain, which is bounded: a row is asked at most one question more than it has answered (1, 2, 4, ...), so
that no more is wasted on it than was needed.
"""

from __future__ import annotations


def reach(fill_rows: int | None, open_rows: int, answered: int, left: int) -> int:
    """How many of its next questions each open row is asked at once.

    Args:
        fill_rows: rows that a batch should hold; None asks one question at a time.
        open_rows: candidates, or prompts, that are still open; at least 1.
        answered: questions that each of them has been asked already.
        left: questions that can still be asked; at least 1.

    Returns:
        From 1 to `left`; more than 1 only as long as `fill_rows` is not exceeded.
    """
    if fill_rows is None:
        return 1
    return max(1, min(fill_rows // open_rows, answered + 1, left))
