r"""Finding the final answer in a solution, the same strict way in every domain.

1. The last `\boxed{...}` whose braces balance decides; an escaped brace does not count. A box left open (a truncated
   solution) is no answer, and earlier boxes are then taken: models box intermediate results rarely, and the last
   complete one is what they committed to.
2. Without any box, the rest of the line after the last `####`, `answer is` or `answer:` (any case).
3. Otherwise there is none. A number somewhere in the text is not an answer: guessing one rewards hedging.
"""

from __future__ import annotations

import re
from typing import Final

_BOX: Final = re.compile(r"\\boxed\s*\{")
_BRACE: Final = re.compile(r"\\.|[{}]", re.DOTALL)
_MARKER: Final = re.compile(r"(?:####|\banswer\s+is\b|\banswer\s*:)[ \t]*:?[ \t]*(?P<answer>[^\n]+)", re.IGNORECASE)


def final_answer(text: str) -> str | None:
    """The final answer by the rules above, stripped; None if there is none or it is empty."""
    boxes = [content for start in _BOX.finditer(text) if (content := _balanced(text, start.end())) is not None]
    if boxes:
        return boxes[-1].strip() or None
    markers = list(_MARKER.finditer(text))
    return (markers[-1]["answer"].strip(" \t\r*").rstrip(".").strip(" *") or None) if markers else None


def _balanced(text: str, start: int) -> str | None:
    """The text from `start` to the brace that closes the one before it."""
    depth = 1
    for brace in _BRACE.finditer(text, start):
        depth += {"{": 1, "}": -1}.get(brace[0], 0)
        if depth == 0:
            return text[start : brace.start()]
    return None
