"""Output of `svd-loop check`: a table with the estimate below it, or one JSON object."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from svd_loop.report.verifiers import render_verifiers, verifiers_json

if TYPE_CHECKING:
    from rich.console import Console

    from svd_loop.preflight.checks import Preflight
    from svd_loop.preflight.work import Forecast, Range

_NAMES = {
    "candidates": "candidates",
    "judge_calls": "judge calls",
    "prompt_tokens": "tokens read",
    "output_tokens": "tokens written",
    "panel_tokens": "tokens written for the judge's panel",
    "accepted": "accepted prompts",
    "hours": "hours",
}


def preflight_json(found: Preflight) -> dict[str, Any]:
    """The checks and the estimate as plain data; see docs/reference/json.md."""
    forecast = found.forecast
    return {
        "ok": found.ok,
        "checks": [item.as_dict() for item in found.checks],
        "estimate": None if forecast is None else forecast.as_dict(),
        **verifiers_json(found.verifiers),
    }


def render_preflight(console: Console, title: str, found: Preflight) -> None:
    """Print a line for each check, and the estimate."""
    from rich.markup import escape
    from rich.table import Table

    from svd_loop.report.tables import print_whole

    table = Table(title=f"check {title}", title_justify="left")
    for heading in ("", "what"):
        table.add_column(heading, no_wrap=True)
    table.add_column("found", overflow="fold")
    for item in found.checks:
        sign = "[yellow]!![/]" if item.warning else "[green]ok[/]" if item.ok else "[red]no[/]"
        table.add_row(sign, item.name, escape(item.detail))
    console.print(table)
    if found.forecast is not None:
        print_whole(console, _forecast_table(found.forecast))
        console.print(
            "In brackets the least and the most to be expected of so small a sample. Early exit, first-valid "
            "and blocks are counted in; answers that grow over the rounds are not. Hours are generating, and "
            "training by the speed of reading.",
            markup=False,
        )
    if found.verifiers is not None:
        render_verifiers(console, found.verifiers)


def _forecast_table(forecast: Forecast) -> Any:
    from rich.table import Table

    table = Table(title=f"estimate from {forecast.measured.candidates} candidates", title_justify="left")
    for heading in ("", "a round", f"the job, {forecast.rounds} rounds, with evaluation"):
        table.add_column(heading)
    for key, name in _NAMES.items():
        if key in forecast.round:
            table.add_row(name, _words(forecast.round[key]), _words(forecast.job[key]))
    return table


def _words(figure: Range) -> str:
    return f"{_number(figure.value)} ({_number(figure.low)} to {_number(figure.high)})"


def _number(value: float) -> str:
    """A number with three significant digits."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if value >= size:
            return f"{value / (size if unit != 'k' else 1e3):.3g}{unit}"
    return f"{value:.3g}" if value < 100 else f"{value:,.0f}"
