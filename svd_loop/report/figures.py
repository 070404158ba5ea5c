"""Figures of a job, drawn from its round records; used by the report page and by tracking.

They are drawn on `Figure` objects and not through pyplot, so no display, global state or limit of open figures is
involved. Colours are those of Okabe and Ito, which colour-blind readers can tell apart.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from svd_loop.contracts import Estimate, RoundRecord, StageName

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLOURS = {"overall": "#000000", "math": "#0072B2", "science": "#009E73", "coding": "#D55E00"}
_STEP_COLOURS = {"cycle_consistency": "#0072B2", "factuality": "#B87900", "correctness": "#A8407C"}
_GREY = "#666666"


def pass_at_1_figure(history: Sequence[RoundRecord], job: str) -> Figure:
    """Draw held-out pass@1 by round, overall and by domain, with intervals and round 0 as reference."""
    names = [name for name, metrics in history[-1].scores.estimates.items() if "pass@1" in metrics]
    figure = new_figure(width=1.2 + 2.6 * len(names), height=3.6)
    panels = figure.subplots(1, len(names), sharey=True, squeeze=False)[0]
    for axes, name in zip(panels, names, strict=True):
        _draw_panel(axes, name, {record.round: record.scores.estimates[name]["pass@1"] for record in history})
    panels[0].set_ylabel("held-out pass@1 (%)")
    problems = len(history[-1].scores.problem_ids)
    figure.suptitle(f"{job}: held-out pass@1 by round ({problems} problems; bands are confidence intervals)")
    return figure


def funnel_figure(record: RoundRecord, job: str) -> Figure:
    """Draw how many of a round's candidates were left after each step of the cascade."""
    steps = list(record.funnel)
    counts = [record.funnel[step] for step in steps]
    total = max(counts, default=0) or 1
    figure = new_figure(width=7.5, height=1.2 + 0.5 * max(len(steps), 1))
    axes = figure.subplots()
    bars = axes.barh([_spaced(step) for step in steps], counts, color="#0072B2", height=0.7)
    axes.bar_label(bars, [f"{count:,} ({count / total:.1%})" for count in counts], padding=4)
    axes.invert_yaxis()
    axes.set_xlim(0, total * 1.22)
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlabel("candidates left after the step")
    axes.set_title(f"{job}, round {record.round}: {total:,} candidates by step", loc="left")
    return figure


def stages_figure(history: Sequence[RoundRecord], job: str) -> Figure:
    """Draw the precision after each funnel step if there was an audit with labels, else the share each stage passed."""
    played = [record for record in history if record.funnel]
    audited = {step: points for step in _steps(played) if (points := _audited(played, step))}
    figure = new_figure(width=7.5, height=4.0)
    axes = figure.subplots()
    if audited:
        lines = audited
        title, label = "share of candidates that are right, after each step", "right among those left (%)"
    else:
        stages = dict.fromkeys(stage for record in played for stage in stages_of(record.funnel))
        lines = {stage: points for stage in stages if (points := _passed_shares(played, stage))}
        title, label = "share of candidates that each stage passed", "of those that reached the stage (%)"
    for step, points in lines.items():
        axes.plot(list(points), [100 * value for value in points.values()], marker="o", color=_line_colour(step))
    _label_ends(axes, lines)
    axes.set_ylim(0, 104)
    axes.set_ylabel(label)
    axes.set_title(f"{job}: {title}", loc="left")
    _round_axis(axes, [record.round for record in played])
    return figure


def to_svg(figure: Figure) -> str:
    """Return the figure as an `<svg>` element; the same figure gives the same bytes."""
    import matplotlib

    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "svd-loop", "svg.fonttype": "none"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure (size in inches) that needs no display."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=120, layout="constrained")


def _draw_panel(axes: Axes, name: str, estimates: Mapping[int, Estimate]) -> None:
    rounds = list(estimates)
    value, low, high = (
        [100 * getattr(estimate, part) for estimate in estimates.values()] for part in ("value", "low", "high")
    )
    colour = _COLOURS.get(name, _GREY)
    axes.axhline(value[0], color=_GREY, linewidth=0.8, linestyle="--")
    axes.fill_between(rounds, low, high, color=colour, alpha=0.18, linewidth=0)
    axes.vlines(rounds, low, high, color=colour, alpha=0.35, linewidth=2)
    axes.plot(rounds, value, marker="o", color=colour)
    for place, offset in {0: (6, -13), len(rounds) - 1: (-6, 7)}.items():
        axes.annotate(
            f"{value[place]:.1f}",
            (rounds[place], value[place]),
            xytext=offset,
            textcoords="offset points",
            ha="left" if offset[0] > 0 else "right",
        )
    change = f" ({value[-1] - value[0]:+.1f} points)" if len(rounds) > 1 else ""
    axes.set_title(f"{name}{change}", color=colour)
    _round_axis(axes, rounds)


def _round_axis(axes: Axes, rounds: Sequence[int]) -> None:
    axes.set_xlabel("round (0 is the base model)" if 0 in rounds else "round")
    axes.set_xticks(rounds[:: 1 + len(rounds) // 12])
    if rounds:
        axes.set_xlim(min(rounds) - 0.4, max(rounds) + 0.4)
    axes.grid(axis="y", linewidth=0.4, alpha=0.6)
    axes.spines[["top", "right"]].set_visible(False)


def _label_ends(axes: Axes, lines: Mapping[str, Mapping[int, float]], gap: float = 6.0) -> None:
    """Write each line's name at its right end, moved apart where lines end close together."""
    lowest = float("inf")
    for name, points in sorted(lines.items(), key=lambda item: -list(item[1].values())[-1]):
        last_round, value = list(points.items())[-1]
        lowest = min(100 * value, lowest - gap)
        axes.annotate(
            f"{_spaced(name)} {100 * value:.0f}%",
            (last_round, 100 * value),
            xytext=(1.02, lowest),
            textcoords=("axes fraction", "data"),
            va="center",
            annotation_clip=False,
            color=_line_colour(name),
        )


def _steps(history: Sequence[RoundRecord]) -> list[str]:
    return list(dict.fromkeys(step for record in history for step in record.funnel))


def _audited(history: Sequence[RoundRecord], step: str) -> dict[int, float]:
    audited = {record.round: record.audit[step].precision for record in history if step in record.audit}
    return {round: precision for round, precision in audited.items() if precision is not None}


def _passed_shares(history: Sequence[RoundRecord], stage: StageName) -> dict[int, float]:
    return {record.round: share for record in history if (share := pass_share(record.funnel, stage)) is not None}


def stages_of(funnel: Mapping[str, int]) -> list[StageName]:
    """Return the stages among the steps of a funnel; the other steps are `generated`, `complete` and `accepted`."""
    return [step for step in funnel if step not in ("generated", "complete", "accepted")]


def pass_share(funnel: Mapping[str, int], step: str) -> float | None:
    """Return passed over reached candidates of a step; None if none reached it or there is no such step."""
    steps = list(funnel)
    if step not in funnel or steps.index(step) == 0:
        return None
    reached = funnel[steps[steps.index(step) - 1]]
    return funnel[step] / reached if reached else None


def _line_colour(step: str) -> str:
    return _STEP_COLOURS.get(step, _GREY)


def _spaced(step: str) -> str:
    return step.replace("_", " ")
