"""Plots of a sweep: every arm's gain, gain over n and v, and figures over several rounds.

As in `svd_loop.report.figures`: `Figure` objects without pyplot, and the colours of Okabe and Ito.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from svd_loop.experiments.figures import Figures
from svd_loop.report.figures import new_figure, to_svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#666666")
_N_AND_V = re.compile(r"n = (\d+), v = (\d+)")


def draw(figures: Figures, folder: Path) -> list[Path]:
    """Write the plots that have data as SVG files; return their paths."""
    drawn = {"gains": _gains(figures), "n-and-v": _n_and_v(figures), "rounds": _rounds(figures)}
    paths = []
    for name, figure in drawn.items():
        if figure is not None:
            folder.mkdir(parents=True, exist_ok=True)
            path = folder / f"{figures.section.name}-{name}.svg"
            path.write_text(to_svg(figure), encoding="utf-8")
            paths.append(path)
    return paths


def _gains(figures: Figures) -> Figure | None:
    """Draw one point with its interval per arm, arms from best to worst within their groups."""
    arms = [arm for arm in figures.results if figures.gain(arm) is not None]
    if not arms:
        return None
    groups = list(dict.fromkeys(figures.section.arms[arm].group for arm in arms))
    ordered = [arm for group in groups for arm in _from_best(figures, arms, group)]
    figure = new_figure(9.0, 1.2 + 0.27 * len(ordered))
    axes = figure.subplots()
    for place, arm in enumerate(ordered):
        gain = figures.gain(arm)
        assert gain is not None
        colour = _COLOURS[groups.index(figures.section.arms[arm].group) % len(_COLOURS)]
        axes.plot([gain.low, gain.high], [place, place], color=colour, linewidth=2, alpha=0.5)
        axes.plot([gain.value], [place], marker="o", color=colour)
    axes.set_yticks(range(len(ordered)), [figures.section.arms[arm].says for arm in ordered])
    axes.invert_yaxis()
    axes.axvline(0.0, color="#666666", linewidth=0.8, linestyle="--")
    axes.set_xlabel("gain over the base in test pass@1, points (intervals over seeds and problems)")
    _plain(axes, "x")
    return figure


def _n_and_v(figures: Figures) -> Figure | None:
    """Draw the gain over n, one line for each v."""
    points: dict[int, dict[int, str]] = {}
    for arm in figures.results:
        if match := _N_AND_V.search(figures.section.arms[arm].says):
            points.setdefault(int(match[2]), {})[int(match[1])] = arm
    if sum(map(len, points.values())) < 3:
        return None
    figure = new_figure(6.0, 4.0)
    axes = figure.subplots()
    for (votes, by_n), colour in zip(sorted(points.items()), _COLOURS, strict=False):
        found = [(n, gain) for n, arm in sorted(by_n.items()) if (gain := figures.gain(arm)) is not None]
        ns = [n for n, _ in found]
        axes.plot(ns, [gain.value for _, gain in found], marker="o", color=colour, label=f"v = {votes}")
        axes.fill_between(ns, [g.low for _, g in found], [g.high for _, g in found], color=colour, alpha=0.12)
    axes.set_xscale("log", base=2)
    ticks = sorted({n for by_n in points.values() for n in by_n})
    axes.set_xticks(ticks, list(map(str, ticks)))
    axes.set_xlabel("candidates a prompt (n)")
    axes.set_ylabel("gain, points")
    axes.legend(frameon=False)
    _plain(axes, "y")
    return figure


def _rounds(figures: Figures) -> Figure | None:
    """Draw development pass@1 and the precision of accepted solutions by round, for arms of several rounds."""
    arms = [arm for arm in figures.results if len(figures.by_round(arm, "development")) > 2]
    if not arms:
        return None
    figure = new_figure(9.0, 6.5)
    above, below = figure.subplots(2, 1, sharex=True)
    styles = ("-", "--", ":")
    for place, arm in enumerate(arms):
        colour, style = _COLOURS[place % len(_COLOURS)], styles[place // len(_COLOURS) % len(styles)]
        says = figures.section.arms[arm].says
        for axes, value in ((above, "development"), (below, "right")):
            points = figures.by_round(arm, value)
            axes.plot(
                list(points),
                [100 * item for item in points.values()],
                color=colour,
                linestyle=style,
                marker="o",
                markersize=3,
                label=says,
            )
    above.set_ylabel("development pass@1 (%)")
    below.set_ylabel("accepted that are right (%)")
    below.set_xlabel("round (0 is the base)")
    above.legend(frameon=False, fontsize=7, loc="center left", bbox_to_anchor=(1.0, 0.5))
    for axes in (above, below):
        _plain(axes, "y")
    return figure


def _from_best(figures: Figures, arms: Sequence[str], group: str) -> list[str]:
    def gain(arm: str) -> float:
        found = figures.gain(arm)
        return found.value if found else 0.0

    return sorted((arm for arm in arms if figures.section.arms[arm].group == group), key=gain, reverse=True)


def _plain(axes: Axes, grid: str) -> None:
    axes.grid(axis=grid, linewidth=0.4, alpha=0.6)  # type: ignore[arg-type]
    axes.spines[["top", "right"]].set_visible(False)
