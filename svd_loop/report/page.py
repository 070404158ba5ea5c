"""Write `report.html`: one self-contained page per job, which can be mailed and opened years later."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from string import Template
from typing import Any

from svd_loop.contracts import Estimate, JobResult, JobState, RoundRecord
from svd_loop.loop.health_rule import explain, outcome
from svd_loop.report.summary import STOPPED, gain_sentence, votes_of

_PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; padding: 0 1rem; color: #222; }
table { border-collapse: collapse; margin: 1rem 0; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .8rem; text-align: right; border-bottom: 1px solid #ddd; white-space: nowrap; }
tr.best { font-weight: bold; background: #eef6fb; }
.wide { overflow-x: auto; }
svg { max-width: 100%; height: auto; }
pre { background: #f6f6f6; padding: 1rem; overflow-x: auto; }
</style>
</head>
<body>
<h1>$title</h1>
$summary
<h2>Rounds</h2>
<div class="wide">$table</div>
$figures
<h2>Configuration</h2>
<pre>$config</pre>
</body>
</html>
""")


def write_page(path: Path, state: JobState | JobResult, config: Mapping[str, Any]) -> Path:
    """Write the page of a job, finished (`JobResult`) or not, atomically over an older one; return `path`."""
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(page_html(state, config), encoding="utf-8")
    return temporary.replace(path)


def page_html(state: JobState | JobResult, config: Mapping[str, Any]) -> str:
    """Return the page as text.

    Args:
        state: the job; a `JobResult` adds the stop reason, the best round and test scores.
        config: the resolved configuration as plain data.
    """
    best = state.best.round if isinstance(state, JobResult) else None
    return _PAGE.substitute(
        title=escape(f"svd-loop job {state.job}"),
        summary="\n".join(f"<p>{escape(line)}</p>" for line in _summary(state)),
        table=_table(state.history, best),
        figures="\n".join(_figures(state.history, state.job)),
        config=escape(json.dumps(config, indent=2, sort_keys=True)),
    )


def _summary(state: JobState | JobResult) -> Iterable[str]:
    if isinstance(state, JobState):
        yield f"{len(state.history)} rounds recorded, the base model's included" + (
            f"; stopped because {STOPPED[state.stop]}." if state.stop else "; not finished."
        )
        yield from filter(None, map(explain, state.history))
        return
    yield f"Stopped because {STOPPED[state.stop]}."
    yield f"Best version: {state.best.version.name} ({state.best.version.fingerprint}), {gain_sentence(state)}."
    yield from state.notes
    for name, scores in state.test.items():
        yield f"Test split, {name}: pass@1 {_interval(scores.pass_at_1)}"


def _table(history: Sequence[RoundRecord], best: int | None) -> str:
    if not history:
        return "<p>No round is recorded yet.</p>"
    groups = [name for name, metrics in history[-1].scores.estimates.items() if "pass@1" in metrics]
    headings = ["round", *(f"{group} pass@1 %" for group in groups), "accepted", "rows", "votes", "tokens", "seconds"]
    alarmed = any(map(outcome, history))
    undecided = any(sum(record.scores.undecided) for record in history)
    headings += ["undecided"] if undecided else []
    headings += ["alarm"] if alarmed else []
    body = [
        _row(
            "td",
            [
                str(record.round),
                *(_interval(record.scores.estimates[group]["pass@1"]) for group in groups),
                f"{record.accepted_prompts:,} of {record.prompts:,}",
                f"{record.rows:,}",
                f"{votes_of(record):,}",
                f"{record.output_tokens:,}",
                ", ".join(f"{phase} {seconds:.1f}" for phase, seconds in record.seconds.items()),
                *([f"{sum(record.scores.undecided):,}"] if undecided else []),
                *([outcome(record) or "-"] if alarmed else []),
            ],
            best=record.round == best,
        )
        for record in history
    ]
    return "\n".join(["<table>", _row("th", headings), *body, "</table>"])


def _row(tag: str, cells: Iterable[str], best: bool = False) -> str:
    inside = "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells)
    return f'<tr class="best">{inside}</tr>' if best else f"<tr>{inside}</tr>"


def _figures(history: Sequence[RoundRecord], job: str) -> Iterable[str]:
    from svd_loop.report import figures

    if not history:
        return
    yield figures.to_svg(figures.pass_at_1_figure(history, job))
    played = [record for record in history if record.funnel]
    if played:
        yield figures.to_svg(figures.stages_figure(played, job))
        yield figures.to_svg(figures.funnel_figure(played[-1], job))


def _interval(estimate: Estimate) -> str:
    return f"{100 * estimate.value:.1f} ({100 * estimate.low:.1f}-{100 * estimate.high:.1f})"
