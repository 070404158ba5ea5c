"""How many questions to ask ahead, so that an engine's batch does not run nearly empty.

Early exit and blocks ask little at a time, and their late questions concern few rows: a decoding step for five rows
takes as long as one for a hundred. So if fewer rows are open than the engine can hold, each row is asked several of its
next questions at once: further votes about a candidate, further candidates of a prompt. The questions and their seeds
are fixed in advance, so only the cost can change. An answer that is not needed is wasted, but the waste is bounded: a
row is asked at most one question more than it has answered (1, 2, 4, ...), so it wastes no more than was needed.
"""

from __future__ import annotations


def reach(fill_rows: int | None, open_rows: int, answered: int, left: int) -> int:
    """How many of its next questions to ask each open row at once.

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
