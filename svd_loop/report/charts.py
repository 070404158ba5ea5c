"""Small charts as SVG whose colours are those of the style sheet, so that they follow dark mode.

Widths and places are attributes and never styles, since a strict Content-Security-Policy forbids style attributes.
Every chart has its figures as text: in a title that is read out and shown on hover, or beside it in a table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from markupsafe import Markup, escape

from svd_loop.contracts import Estimate

_WIDTH, _HEIGHT = 320, 180
_LEFT, _RIGHT, _TOP, _BOTTOM = 34, 14, 12, 24


def curve(estimates: Mapping[int, Estimate], best: int | None = None) -> Markup:
    """A line over rounds with a band for the intervals, and round 0 as a dashed reference; values are fractions."""
    rounds = list(estimates)
    low = min(estimate.low for estimate in estimates.values())
    high = max(estimate.high for estimate in estimates.values())
    bottom, top = _range(low, high)

    def x(round: int) -> float:
        span = max(rounds[-1] - rounds[0], 1)
        middle = len(rounds) == 1
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * (0.5 if middle else (round - rounds[0]) / span)

    def y(share: float) -> float:
        return _TOP + (_HEIGHT - _TOP - _BOTTOM) * (1 - (share - bottom) / (top - bottom))

    upper = " ".join(f"{x(round):.1f},{y(one.high):.1f}" for round, one in estimates.items())
    lower = " ".join(f"{x(round):.1f},{y(one.low):.1f}" for round, one in reversed(list(estimates.items())))
    line = " ".join(f"{x(round):.1f},{y(one.value):.1f}" for round, one in estimates.items())
    parts = [*_grid(bottom, top, y), *_round_labels(rounds, x)]
    parts.append(f'<polygon class="band" points="{upper} {lower}"/>')
    first = y(estimates[rounds[0]].value)
    parts.append(f'<line class="base" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{first:.1f}" y2="{first:.1f}"/>')
    parts.append(f'<polyline class="line" points="{line}"/>')
    for round, one in estimates.items():
        told = f"round {round}: {100 * one.value:.1f}% ({100 * one.low:.1f} to {100 * one.high:.1f})"
        size = 4.5 if round == best else 3
        kind = "point best" if round == best else "point"
        parts.append(
            f'<circle class="{kind}" cx="{x(round):.1f}" cy="{y(one.value):.1f}" r="{size}">'
            f"<title>{told}</title></circle>"
        )
    label = "; ".join(f"round {round} {100 * one.value:.1f}%" for round, one in estimates.items())
    body = "".join(parts)
    return Markup(
        f'<svg class="curve" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(label)}">{body}</svg>'
    )


def whisker(estimate: Estimate, limit: float | None = None) -> Markup:
    """A share with its interval on a scale from 0 to 1, and a mark at its limit."""
    low, value, high = (
        f"{100 * min(max(one, 0.0), 1.0):.1f}%" for one in (estimate.low, estimate.value, estimate.high)
    )
    mark = (
        "" if limit is None else f'<line class="limit" x1="{100 * limit:.1f}%" x2="{100 * limit:.1f}%" y1="0" y2="12"/>'
    )
    return Markup(
        '<svg class="whisker" height="12" aria-hidden="true">'
        '<line class="axis" x1="0" x2="100%" y1="6" y2="6"/>'
        f'<line class="range" x1="{low}" x2="{high}" y1="6" y2="6"/>{mark}'
        f'<circle class="point" cx="{value}" cy="6" r="3.5"/></svg>'
    )


def stacked(parts: Sequence[tuple[str, float]], whole: float) -> Markup:
    """A bar of parts of a whole; each part is a class of the style sheet and a size."""
    drawn, start = [], 0.0
    for kind, size in parts:
        share = 100 * size / whole if whole else 0.0
        drawn.append(f'<rect class="{escape(kind)}" x="{start:.2f}%" width="{share:.2f}%" height="10"/>')
        start += share
    return Markup(f'<svg class="stacked" height="10" aria-hidden="true">{"".join(drawn)}</svg>')


def _range(low: float, high: float) -> tuple[float, float]:
    """A range in steps of 10 or 20 points that holds both."""
    step = 0.1 if high - low <= 0.5 else 0.2
    bottom = max(0.0, int(low / step) * step)
    top = min(1.0, (int(high / step - 1e-9) + 1) * step)
    return bottom, max(top, bottom + step)


def _grid(bottom: float, top: float, y: Callable[[float], float]) -> list[str]:
    step = 0.1 if top - bottom <= 0.5 else 0.2
    lines = []
    for number in range(round((top - bottom) / step) + 1):
        share = bottom + number * step
        place = y(share)
        lines.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{place:.1f}" y2="{place:.1f}"/>')
        lines.append(f'<text x="{_LEFT - 6}" y="{place + 3.5:.1f}" text-anchor="end">{100 * share:.0f}</text>')
    return lines


def _round_labels(rounds: Sequence[int], x: Callable[[int], float]) -> list[str]:
    every = 1 + len(rounds) // 10
    return [
        f'<text x="{x(round):.1f}" y="{_HEIGHT - 7}" text-anchor="middle">{round}</text>' for round in rounds[::every]
    ]
