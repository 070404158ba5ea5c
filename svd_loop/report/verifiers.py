"""The verifier test as JSON and as tables. The names in the JSON are stable, see docs/reference/json.md."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from svd_loop.contracts import Estimate, GainForecast, VerifierRates, VerifierReport

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

_MOST_OPTIONS = 8
"""Options in the table; the JSON has all of them."""


def verifiers_json(report: VerifierReport | None) -> dict[str, Any]:
    """`verifiers`, `forecast` and what else the test found; empty and null without a test. Unknown figures are null."""
    if report is None:
        return {"verifiers": [], "forecast": None, "stage_votes": {}, "canaries": {}}
    return {
        "verifiers": [_rates_json(one) for one in report.rates],
        "forecast": _forecast_json(report),
        "stage_votes": {stage: _finite(asdict(figures)) for stage, figures in report.votes.items()},
        "canaries": {kind: asdict(share) for kind, share in report.canaries.items()},
    }


def render_verifiers(console: Console, report: VerifierReport) -> None:
    """The rates, the best options of the forecast, and the recommendation."""
    from svd_loop.report.tables import print_whole

    if report.rates:
        print_whole(console, _rates_table(report.rates))
    for line in _vote_lines(report):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    if report.forecasts:
        print_whole(console, _options_table(report.forecasts))
    for line in closing_lines(report):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def closing_lines(report: VerifierReport) -> list[str]:
    """The recommendation, and what the development problems can show at all."""
    told = f"The development problems can show differences of {100 * report.detectable:.1f} points and more."
    return [report.recommended, told] if report.recommended else []


def _rates_json(one: VerifierRates) -> dict[str, Any]:
    return _finite(
        {
            "name": one.name,
            "tpr": one.tpr.value,
            "tpr_low": one.tpr.low,
            "tpr_high": one.tpr.high,
            "fpr": one.fpr.value,
            "fpr_low": one.fpr.low,
            "fpr_high": one.fpr.high,
            "j": one.j.value,
            "j_low": one.j.low,
            "j_high": one.j.high,
            "labelled": one.labelled,
            "right": one.right,
            "wrong": one.wrong,
        }
    )


def _forecast_json(report: VerifierReport) -> dict[str, Any]:
    """The forecast of the configured job; its figures are null where nothing can be forecast."""
    gain = report.forecasts[0].gain if report.forecasts else Estimate(math.nan, math.nan, math.nan)
    found = {"gain": gain.value, "low": gain.low, "high": gain.high}
    return {
        **_finite(found),
        "recommended": report.recommended,
        "detectable": report.detectable,
        "options": [_option_json(one) for one in report.forecasts],
    }


def _option_json(one: GainForecast) -> dict[str, Any]:
    data = asdict(one)
    gain = data.pop("gain")
    return {**data, "gain": gain["value"], "low": gain["low"], "high": gain["high"]}


def _finite(data: dict[str, Any]) -> dict[str, Any]:
    """The data with null in place of NaN, which JSON does not have."""
    return {key: None if isinstance(value, float) and math.isnan(value) else value for key, value in data.items()}


def _rates_table(rates: Sequence[VerifierRates]) -> Table:
    from rich.table import Table

    table = Table(title="verifiers: right candidates accepted (TPR), wrong ones accepted (FPR)", title_justify="left")
    table.add_column("verifier", no_wrap=True)
    table.add_column("labels")
    for name in ("TPR %", "FPR %", "J = TPR - FPR", "right, wrong"):
        table.add_column(name, justify="right")
    for one in rates:
        counts = f"{one.right:.0f}, {one.wrong:.0f}"
        shown = [_words(figure) for figure in (one.tpr, one.fpr, one.j)]
        table.add_row(one.name, "yes" if one.labelled else "no", *shown, counts)
    return table


def _options_table(forecasts: Sequence[GainForecast]) -> Table:
    from rich.table import Table

    table = Table(title="forecast of the first round; the first line is the job as configured", title_justify="left")
    table.add_column("verifier", no_wrap=True)
    for name in ("n", "v", "precision %", "recall %", "prompts %", "tokens a prompt", "gain, points"):
        table.add_column(name, justify="right")
    best = sorted(forecasts[1:], key=lambda one: (-round(one.gain.low, 3), one.tokens))
    for one in (forecasts[0], *best[: _MOST_OPTIONS - 1]):
        shares = [f"{100 * share:.0f}" for share in (one.precision, one.recall, one.accepted)]
        table.add_row(one.verifier, str(one.n), str(one.v or "-"), *shares, f"{one.tokens:,.0f}", _points(one.gain))
    return table


def _vote_lines(report: VerifierReport) -> list[str]:
    """What is unusual about a stage's votes."""
    return [
        f"{stage}: {figures.votes} votes, {figures.invalid:.0%} invalid, {figures.bare:.0%} without a reason before "
        f"the verdict, {figures.characters:.0f} characters each; yes shares spread by {figures.spread:.2f}"
        for stage, figures in report.votes.items()
        if figures.votes
    ]


def _words(figure: Estimate) -> str:
    if math.isnan(figure.value):
        return "unknown"
    return f"{100 * figure.value:.0f} ({100 * figure.low:.0f} to {100 * figure.high:.0f})"


def _points(gain: Estimate) -> str:
    return f"{100 * gain.value:+.1f} ({100 * gain.low:+.1f} to {100 * gain.high:+.1f})"
