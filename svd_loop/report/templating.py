"""The Jinja environment of the report page and the viewer: one set of templates, filters and styles.

Everything is escaped unless it is `Markup`, and an undefined name is an error. The style sheet and the scripts are
files in `static`, so that a page can be served without any inline code; `inlined` gives a file as an element, with its
hash, for pages that have to be one file.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import math
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from svd_loop.contracts import Estimate

TEMPLATES = Path(__file__).with_name("templates")
STATIC = Path(__file__).with_name("static")
_UNITS = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


@functools.cache
def environment(*folders: Path) -> Environment:
    """Return the environment; `folders` hold further templates, looked at first."""
    loader = FileSystemLoader([*folders, TEMPLATES])
    made = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    made.filters |= {
        "percent": percent,
        "interval": interval,
        "count": count,
        "compact": compact,
        "seconds": seconds,
        "spaced": spaced,
        "signed": signed,
    }
    return made


def inlined(text: str, tag: str = "style") -> tuple[Markup, str]:
    """Return a style sheet or script as an element, and its source expression for a Content-Security-Policy."""
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return Markup(f"<{tag}>{text}</{tag}>"), f"'sha256-{digest}'"


def percent(share: float | None, digits: int = 1) -> str:
    """A fraction as per cent without the sign; an en dash if it is unknown."""
    return "–" if share is None or math.isnan(share) else f"{100 * share:.{digits}f}"


def interval(estimate: Estimate | None, unit: float = 100, digits: int = 1) -> str:
    """`60.0 (55.0–65.0)`: the value with its interval, in per cent unless another unit is given."""
    if estimate is None or math.isnan(estimate.value):
        return "–"
    low, high = (f"{unit * end:.{digits}f}" for end in (estimate.low, estimate.high))
    return f"{unit * estimate.value:.{digits}f} ({low}–{high})"


def count(number: float) -> str:
    """A number with thousands separators."""
    return f"{number:,.0f}"


def compact(number: float) -> str:
    """A number in three digits and a unit: 950, 12.3k, 4.56M."""
    for size, unit in _UNITS:
        if number >= size:
            value = number / size
            return f"{value:.{2 if value < 10 else 1 if value < 100 else 0}f}{unit}"
    return f"{number:.0f}"


def seconds(value: float) -> str:
    """A time as `8.1 s`, `4 min 05 s` or `3 h 20 min`."""
    if value < 60:
        return f"{value:.1f} s"
    whole = round(value)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600:,} h {whole % 3600 // 60:02d} min"


def spaced(name: str) -> str:
    """A name of the code as words."""
    return name.replace("_", " ").replace(".", " · ")


def signed(points: float) -> str:
    """A difference with its sign."""
    return f"{points:+.1f}"
