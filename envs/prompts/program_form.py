"""Add the wanted form of program to a coding question, if the row states it.

A judge needs this as much as the solver, so it is part of the stored text. It is not part of the compared form
(`normalise.compared`): a task with and without these words is the same task.
"""

from __future__ import annotations

from typing import Final

_SCRIPT: Final = "\n\nWrite a complete program that reads standard input and writes standard output."
_STARTER: Final = "\n\nComplete this starter code, keeping its names and parameters:\n```python\n"
_FUNCTION: Final = "\n\nWrite a function with the name "


def with_form(text: str, *, starter: str | None, function: str = "") -> str:
    """The question with the wanted form of program appended.

    Args:
        text: the question.
        starter: starter code; empty for a whole program, None if nothing is known.
        function: the name of the wanted function, if there is no starter code.
    """
    if function and not starter:
        return f"{text}{_FUNCTION}`{function}`."
    if starter is None:
        return text
    return f"{text}{_STARTER}{starter}\n```" if starter.strip() else text + _SCRIPT


def without_form(text: str) -> str:
    """The question as it was before `with_form`."""
    if text.endswith(_SCRIPT):
        return text.removesuffix(_SCRIPT)
    for mark, end in ((_STARTER, "\n```"), (_FUNCTION, "`.")):
        before, found, _ = text.rpartition(mark)
        if found and text.endswith(end):
            return before
    return text
