"""Write the results of a sweep as Markdown with plots, and as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from svd_loop.contracts import Estimate
from svd_loop.errors import DataError
from svd_loop.experiments.figures import GROUPS, ClaimFigures, Figures
from svd_loop.experiments.plots import draw
from svd_loop.experiments.results import TEST
from svd_loop.report.marked import put


def write_page(figures: Figures, path: Path) -> Path:
    """Write tables and plots; an existing page keeps everything outside the sweep's two markers.

    Plots are written into `images/` in the page's folder.

    Raises:
        DataError: the page cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        images = draw(figures, path.parent / "images")
        text = render(figures, images=[image.relative_to(path.parent) for image in images])
        put(path, f"sweep {figures.section.name}", text)
    except OSError as error:
        raise DataError(f"{path}: cannot be written: {error.strerror or error}") from None
    return path


def render(figures: Figures, images: Sequence[Path] | None) -> str:
    """Return the sweep as Markdown: its cost, its arms by group, its claims."""
    blocks = [_cost(figures)]
    blocks += [f"![{image.stem.replace('-', ' ')}]({image.as_posix()})" for image in images or ()]
    for group in dict.fromkeys(figures.section.arms[arm].group for arm in figures.results):
        arms = [arm for arm in figures.results if figures.section.arms[arm].group == group]
        blocks.append(f"### {(group or 'arms').capitalize()}\n\n{_arm_table(figures, arms)}")
        if any(len(result.rounds) > 2 for arm in arms for result in figures.results[arm].values()):
            blocks.append(_round_table(figures, arms))
    if claims := [claim for claim in figures.claims() if claim.verdict != "not played"]:
        blocks.append(f"### Claims\n\n{_claim_table(claims)}")
    if stages := _stage_table(figures):
        blocks.append(f"### How well the base judges\n\n{stages}")
    return "\n\n".join(blocks)


def sweep_json(figures: Figures) -> dict[str, Any]:
    """Return the sweep as JSON data; gains and differences are points of test pass@1 with their intervals."""
    return {
        "sweep": figures.section.name,
        "arms": {arm: _arm_json(figures, arm) for arm in figures.results},
        "claims": [
            {
                "claim": item.claim.claim,
                "on": item.group,
                "better": item.claim.better,
                "than": item.claim.than,
                "verdict": item.verdict,
                "difference": _plain(item.difference),
            }
            for item in figures.claims()
        ],
    }


def _arm_json(figures: Figures, arm: str) -> dict[str, Any]:
    return {
        "says": figures.section.arms[arm].says,
        "seeds": list(figures.results[arm]),
        "gain": {group: _plain(figures.gain(arm, group)) for group in GROUPS},
        "pass@1": {group: _plain(figures.level(arm, group)) for group in GROUPS},
        "lift": _plain(figures.lift(arm)),
        "share_of_ceiling": figures.share(arm),
        "right": figures.mean(arm, "right"),
        "tokens": figures.mean(arm, "tokens"),
        "calls": figures.mean(arm, "calls"),
        "seconds": figures.mean(arm, "seconds"),
    }


def _plain(estimate: Estimate | None) -> dict[str, float] | None:
    return None if estimate is None else {"value": estimate.value, "low": estimate.low, "high": estimate.high}


def _cost(figures: Figures) -> str:
    plays = [result for seeds in figures.results.values() for result in seeds.values()]
    seconds = sum(result.seconds for result in plays)
    taken = sum(result.taken for result in plays)
    seeds = sorted({result.seed for result in plays})
    return (
        f"{len(figures.results)} arms, {len(seeds)} seeds ({', '.join(map(str, seeds))}), {len(plays)} runs in "
        f"{seconds / 3600:.2f} process hours; {taken:,} answers were shared with another arm."
        f"{_start(figures)} Figures are points of pass@1 on the test split over an arm's base, mean and "
        f"{figures.section.confidence:.0%} interval over seeds and problems."
    )


def _start(figures: Figures) -> str:
    """Describe the base of the arms, or the range of several bases if arms differ in their model."""
    levels = [level for arm in figures.results if (level := figures.level(arm, base=True))]
    bases = {(seed, found.base[TEST]) for seeds in figures.results.values() for seed, found in seeds.items()}
    if len(bases) > len({seed for seed, _ in bases}):
        values = [level.value for level in levels]
        return f" The arms start from several bases, of {min(values):.1f} to {max(values):.1f}."
    return f" The base is at {_interval(levels[0])}." if levels else ""


_ARM_HEADINGS = (
    "arm",
    "seeds",
    "gain",
    "math",
    "science",
    "coding",
    "lift",
    "of gold",
    "pass@4",
    "right",
    "rows",
    "calls, k",
    "tokens, k",
)
_ARM_NOTE = (
    "*lift*: gain over the unverified control; *of gold*: share of the ceiling's gain (both over the seeds shared "
    "with that arm); *right*: share of the accepted solutions that are right, by gold, measured afterwards; "
    "*rows*: of an update, replay and anchors included; *calls* and *tokens*: requested and generated to sample "
    "and judge."
)


def _arm_table(figures: Figures, arms: Sequence[str]) -> str:
    """Return the table of some arms, its note, and a line for each further held-out set."""
    counts = {arm: str(len(seeds)) for arm, seeds in figures.results.items()}
    differ = len(set(counts.values())) > 1
    rows = []
    for arm in arms:
        share = figures.share(arm)
        rows.append(
            [
                figures.section.arms[arm].says,
                counts[arm] if differ else "",
                _interval(figures.gain(arm)),
                *(_value(figures.gain(arm, group)) for group in GROUPS[1:]),
                _interval(figures.lift(arm)),
                "" if share is None else f"{share:.0%}",
                _value(figures.gain(arm, metric="pass@4")),
                _share(figures.mean(arm, "right")),
                _number(figures.mean(arm, "rows")),
                *(_thousands(figures.mean(arm, cost)) for cost in ("calls", "tokens")),
            ]
        )
    lines = _held_out_lines(figures, arms)
    return "\n".join([_table(*_filled(_ARM_HEADINGS, rows)), "", _ARM_NOTE, *(["", *lines] if lines else [])])


def _held_out_lines(figures: Figures, arms: Sequence[str]) -> list[str]:
    """Return a line with the arms' gains for each further held-out set that any of them was measured on."""
    return [
        f"- on `{name}`: "
        + "; ".join(
            f"{figures.section.arms[arm].says} {_interval(gain)}"
            for arm in arms
            if name in figures.section.arms[arm].also and (gain := figures.gain(arm, metric=name)) is not None
        )
        for name in figures.section.held_out
        if any(figures.gain(arm, metric=name) is not None for arm in arms)
    ]


def _round_table(figures: Figures, arms: Sequence[str]) -> str:
    rows = []
    for arm in arms:
        scores, right = figures.by_round(arm, "development"), figures.by_round(arm, "right")
        if len(scores) < 3:
            continue
        others = (figures.by_round(arm, value) for value in ("accepted_share", "recall", "distinct"))
        rows.append(
            [
                figures.section.arms[arm].says,
                *(_percents(item) for item in (scores, right, *others)),
                _alarms(figures, arm),
            ]
        )
    headings = [
        "by round, %",
        "development pass@1 (from round 0)",
        "accepted that are right",
        "prompts with an accepted one",
        "judge's recall (from round 0)",
        "distinct among accepted",
        "alarms",
    ]
    return _table(headings, rows)


def _alarms(figures: Figures, arm: str) -> str:
    """Return the number of rounds with a judge health alarm, of the rounds of all seeds."""
    rounds = [item for result in figures.results[arm].values() for item in result.rounds[1:]]
    return f"{sum(bool(item.alarms) for item in rounds)} of {len(rounds)}"


def _claim_table(claims: Iterable[ClaimFigures]) -> str:
    rows = [
        [item.claim.claim, item.group, f"**{item.verdict}**", _interval(item.difference), item.claim.paper]
        for item in claims
    ]
    return _table(["claim", "on", "here", "difference, points", "the paper"], rows)


def _stage_table(figures: Figures) -> str:
    """Return the table of precision and recall by step of the base as judge, from the first arm that was audited."""
    for seeds in figures.results.values():
        audited = [result.stages for result in seeds.values() if result.stages]
        if audited:
            steps = list(dict.fromkeys(key.partition(".")[2] for stages in audited for key in stages))
            rows = []
            for step in steps:
                values = [[s[f"{kind}.{step}"] for s in audited if f"{kind}.{step}" in s] for kind in _KINDS]
                rows.append([step.replace("_", " "), *(_share(sum(v) / len(v) if v else None) for v in values)])
            return _table(["after", "right among those remaining", "right ones remaining"], rows)
    return ""


_KINDS = ("precision", "recall")


def _filled(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> tuple[list[str], list[list[str]]]:
    """Return the columns that have a value in at least one row; without a control, for example, there are no lifts."""
    places = [place for place in range(len(headings)) if any(row[place] for row in rows)]
    return [headings[place] for place in places], [[row[place] for place in places] for row in rows]


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _interval(estimate: Estimate | None) -> str:
    return "" if estimate is None else f"{estimate.value:.1f} ({estimate.low:.1f} to {estimate.high:.1f})"


def _value(estimate: Estimate | None) -> str:
    return "" if estimate is None else f"{estimate.value:.1f}"


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.0%}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}"


def _thousands(value: float | None) -> str:
    return "" if value is None else f"{value / 1000:,.0f}" if value >= 10_000 else f"{value / 1000:.1f}"


def _percents(by_round: dict[int, float]) -> str:
    return " ".join(f"{100 * value:.0f}" for value in by_round.values())
