"""Tables and closing lines for the terminal."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from svd_loop.contracts import Estimate, JobResult, JobState, RootPaths, RoundRecord, Scores, StopReason
from svd_loop.loop.health_rule import explain, outcome
from svd_loop.report.steps import HEADINGS, explain_choice, step_rows
from svd_loop.report.summary import STOPPED, gain_sentence, votes_of
from svd_loop.support.sqlite_uri import sqlite_uri

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

PHASES = ("play", "sample", "judge", "canaries", "judge rows", "update", "choose", "evaluate")
"""Phases in the order of their columns; other phases follow."""

_DEFAULT_ROOT = Path("mlruns")
_COUNTS = ("output_tokens",)
"""Held-out metrics that are means, not shares; shown without conversion to per cent."""


def render_rounds(console: Console, history: Sequence[RoundRecord], best: int | None = None) -> None:
    """Print the table by round, with `best` marked, and the one by checkpoint; nothing for an empty history."""
    if history:
        print_whole(console, rounds_table(history, best))
    if rows := step_rows(history):
        print_whole(console, _steps_table(rows))


def render_round(console: Console, record: RoundRecord) -> None:
    """Print one line for a committed round, one about its checkpoints, and one if its judge raised an alarm."""
    name = f"round {record.round}" if record.round else "baseline"
    took = f"{sum(record.seconds.values()):.0f} s"
    played = f", {record.accepted_prompts}/{record.prompts} prompts accepted, {votes_of(record):,} votes"
    line = f"{name}: pass@1 {_interval(record.scores.pass_at_1)}{played if record.prompts else ''}, {took}"
    forecast = record.verifiers.recommended if record.verifiers else ""
    for text in filter(None, (line, explain_choice(record), explain(record), forecast)):
        console.print(text, markup=False, highlight=False, soft_wrap=True)


def render_resumed(console: Console, state: JobState) -> None:
    """Print the rounds that a resumed job has played, one line each."""
    console.print(f"{state.job}: continuing after round {state.last.round}", markup=False, highlight=False)
    for record in state.history:
        render_round(console, record)


def render_result(
    console: Console,
    result: JobResult,
    config: Path,
    *,
    root: Path = _DEFAULT_ROOT,
    overrides: Sequence[str] = (),
    store: str | None = None,
) -> None:
    """Print how a job ended: the table, the stop reason, the best version, and the next commands."""
    render_rounds(console, result.history, result.best.round)
    lines = [f"{result.job} stopped because {STOPPED[result.stop]} ({result.stop.value})."]
    lines += [f"  {note}" for note in result.notes]
    lines.append(
        f"Best version: {result.best.version.name} ({result.best.version.fingerprint[:12]}), {gain_sentence(result)}"
    )
    lines += [f"Test split, {name}: {_interval(scores.pass_at_1)}" for name, scores in result.test.items()]
    lines.append("Next:")
    following = next_commands(result, config, root, overrides, store)
    lines += [f"  {command:<64}  {purpose}" for command, purpose in following]
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def next_commands(
    result: JobResult, config: Path, root: Path, overrides: Sequence[str] = (), store: str | None = None
) -> list[tuple[str, str]]:
    """Return the commands to run next, each with its purpose; they include the user's own overrides.

    `store` is `tracking.uri`; for a server its URL is returned instead of a command.
    """
    best = f"{result.job}@{result.best.version.round}"
    file = shlex.quote(str(config))
    kept = [item for item in overrides if not item.startswith(("job.rounds=", "job.name="))]
    options = "".join(f" -o {shlex.quote(item)}" for item in kept)
    elsewhere = f" --root {shlex.quote(str(root))}" if root != _DEFAULT_ROOT else ""
    commands = [
        (f"svd-loop eval {file} --model {best}{options}", "measure the best version again"),
        (f"svd-loop view {result.job}{elsewhere}", "read its prompts, candidates and votes in a browser"),
        (f"svd-loop report {result.job}{elsewhere}", "show this again and write report.html"),
        (_browse(root, store), "see the runs in a browser"),
    ]
    if result.stop in (StopReason.ROUND_LIMIT, StopReason.INTERRUPTED, StopReason.BUDGET):
        more = f" -o job.rounds={result.history[-1].round + 4}" if result.stop is StopReason.ROUND_LIMIT else ""
        commands.insert(0, (f"svd-loop run {file} --job {result.job}{options}{more}", "continue where it stopped"))
    if result.stop is StopReason.JUDGE_UNHEALTHY:
        frozen = f"svd-loop run {file} --job {result.job}-2 --fork {result.job}@{result.best.round}{options}"
        commands.insert(
            0, (f"{frozen} -o cascade.frozen_judge=true", "continue from the best round, judged by the base")
        )
    if result.stop is StopReason.NO_VERIFIER:
        anyway = f"svd-loop run {file} --job {result.job}{options} -o health.useful_j=null"
        commands.insert(0, (anyway, "continue all the same"))
    return commands


def render_scores(console: Console, scores: Scores) -> None:
    """Print the scores of one version on one split, with intervals."""
    from rich.table import Table

    count = len(scores.problem_ids)
    table = Table(title=f"{scores.split}: {count} problems, {scores.samples} samples each", title_justify="left")
    names = list(dict.fromkeys(name for metrics in scores.estimates.values() for name in metrics))
    table.add_column("")
    for name in names:
        table.add_column(f"{name} (interval)" if name in _COUNTS else f"{name} % (interval)", justify="right")
    for group, metrics in scores.estimates.items():
        cells = (_interval(metrics[name], 1 if name in _COUNTS else 100) if name in metrics else "" for name in names)
        table.add_row(group, *cells)
    print_whole(console, table)


def rounds_table(history: Sequence[RoundRecord], best: int | None = None) -> Table:
    """Return a table with one row per round: pass@1 in per cent with interval, accepted prompts, votes, seconds.

    A job with an alarm has a further column with the alarm's action; one with undecided samples has their number.
    """
    from rich import box
    from rich.table import Table

    groups = [name for name, metrics in history[-1].scores.estimates.items() if "pass@1" in metrics]
    present = dict.fromkeys(phase for record in history for phase in record.seconds)
    phases = [*(phase for phase in PHASES if phase in present), *(phase for phase in present if phase not in PHASES)]
    title = "by round: held-out pass@1 in % (interval), prompts with an accepted answer, votes, seconds per phase"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    judge_of = {record.round: outcome(record) for record in history}
    alarmed = any(judge_of.values())
    undecided = any(sum(record.scores.undecided) for record in history)
    extra = [*(["undecided"] if undecided else []), *(["alarm"] if alarmed else [])]
    for heading in ("round", *groups, "accepted", "votes", *phases, *extra):
        table.add_column(heading, justify="right", no_wrap=True)
    for record in history:
        table.add_row(
            f"{record.round}{' best' if record.round == best else ''}",
            *(_interval(record.scores.estimates[group]["pass@1"]) for group in groups),
            f"{record.accepted_prompts}/{record.prompts}" if record.prompts else "-",
            f"{votes_of(record):,}" if record.prompts else "-",
            *(f"{record.seconds[phase]:.1f}" if phase in record.seconds else "-" for phase in phases),
            *((f"{sum(record.scores.undecided):,}",) if undecided else ()),
            *((judge_of[record.round] or "-",) if alarmed else ()),
            style="bold" if record.round == best else "",
        )
    return table


def _steps_table(rows: Sequence[Sequence[str]]) -> Table:
    from rich import box
    from rich.table import Table

    title = "by checkpoint: pass@1 on the choosing half of the development problems, and what the other half confirmed"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    for heading in HEADINGS:
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    return table


def _browse(root: Path, store: str | None) -> str:
    if store is not None and store.startswith(("http://", "https://")):
        return store
    return f"mlflow ui --backend-store-uri {shlex.quote(store or sqlite_uri(RootPaths(root).mlflow_store))}"


def _interval(estimate: Estimate, unit: int = 100) -> str:
    return f"{unit * estimate.value:.1f} ({unit * estimate.low:.0f}-{unit * estimate.high:.0f})"


def print_whole(console: Console, table: Table) -> None:
    """Print a table so that no line wraps and no cell is cut, however narrow the console.

    On a terminal, a table that is too wide continues below with the remaining columns, and the first column is
    repeated. Elsewhere (a log, a pipe) lines have no maximum width, and each row stays one line.
    """
    from rich.segment import Segments

    for block in _blocks(console, table) if console.is_terminal else [table]:
        wide = console.options.update(max_width=10_000)
        width = console.measure(block, options=wide).maximum
        width = (
            min(width, console.width) if console.is_terminal else width
        )  # a cell that is too wide is folded, not cut
        segments = console.render(block, wide.update(width=width))
        console.print(Segments(segments), crop=False, no_wrap=True, overflow="ignore")


def _blocks(console: Console, table: Table) -> list[Table]:
    """Split the table into tables that fit the console, each with the first column and at least one other."""
    wide = console.options.update(max_width=10_000)
    if console.measure(table, options=wide).maximum <= console.width:
        return [table]
    blocks: list[Table] = []
    chosen = [0]
    for place in range(1, len(table.columns)):
        fits = console.measure(_part(table, [*chosen, place]), options=wide).maximum <= console.width
        if not fits and len(chosen) > 1:
            blocks.append(_part(table, chosen))
            chosen = [0]
        chosen.append(place)
    blocks.append(_part(table, chosen))
    blocks[0].title = table.title
    return blocks


def _part(table: Table, places: Sequence[int]) -> Table:
    """Return some columns of a table as a table without a title."""
    from rich.table import Table as RichTable

    part = RichTable(title_justify="left", box=table.box)
    cells = [list(table.columns[place].cells) for place in places]
    for place in places:
        column = table.columns[place]
        part.add_column(column.header, justify=column.justify, overflow="fold")
    for row, *values in zip(table.rows, *cells, strict=True):
        part.add_row(*values, style=row.style)
    return part
