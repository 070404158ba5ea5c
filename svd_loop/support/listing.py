"""List what there is in the error about a name that there is not: near matches first."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_MOST = 12


def listing(wanted: str, known: Iterable[str], *, most: int = _MOST) -> str:
    """Return the known names in a row, those like `wanted` first, at most `most` of them; `none` if there are none."""
    names = list(dict.fromkeys(map(str, known)))
    folded = {name.casefold(): name for name in reversed(names)}
    near = [folded[name] for name in difflib.get_close_matches(wanted.casefold(), folded, n=3, cutoff=0.6)]
    ordered = [*near, *(name for name in names if name not in near)]
    shown = ", ".join(ordered[:most]) + (f", … ({len(ordered)} in all)" if len(ordered) > most else "")
    return shown or "none"
