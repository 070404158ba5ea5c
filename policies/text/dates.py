"""The date that chat templates see: always the same one.

Some templates (Llama 3, Granite, Command R) write today's date into a system turn. The same question then had other
token ids on another day, under the same key: a job that ran over midnight changed its prompts, and a round's answers
came from two of them. So `strftime_now` always returns the same date.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

DAY = datetime(2024, 7, 26, 12)
"""The date that Llama 3's templates fall back to if they are given none."""
OTHER_DAY = datetime(2031, 11, 5, 3, 41, 7)
"""Differs from `DAY` in everything a format can show, to find out whether a template shows any of it."""


def strftime_on(day: datetime) -> Callable[[str], str]:
    """What templates call `strftime_now`, on a given day."""
    return day.strftime
