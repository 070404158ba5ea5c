"""`svd-loop jobs list|show`: the jobs of a root."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from svd_loop.cli.commands import AsJson
from svd_loop.cli.output import print_json, stderr

if TYPE_CHECKING:
    from svd_loop.contracts import Estimate
    from svd_loop.ledger.jobs import JobSummary

jobs = typer.Typer(help="The jobs of a root: list, show.", no_args_is_help=True)
Root = Annotated[Path, typer.Option(help="Folder of jobs (job.root).")]
_ROOT = Path("mlruns")


@jobs.command("list")
def list_jobs(root: Root = _ROOT, as_json: AsJson = False) -> None:
    """List all jobs with their rounds, pass@1 and state."""
    from svd_loop.ledger.jobs import list_jobs as find_jobs

    found = find_jobs(root)
    if as_json:
        print_json({"root": str(root), "jobs": [_plain(one) for one in found]})
        return
    if not found:
        stderr().print(f"{root} has no job; svd-loop run CONFIG starts one", markup=False, highlight=False)
        return
    from rich.table import Table

    from svd_loop.report.tables import print_whole

    table = Table(title=f"jobs in {root}", title_justify="left")
    for heading in ("job", "state", "rounds", "base %", "best %", "at round", "accepted", "hours"):
        table.add_column(heading, justify="left" if heading in ("job", "state") else "right")
    for one in found:
        best = one.best or (None, None)
        table.add_row(
            one.name,
            one.state,
            f"{one.rounds}/{one.limit}",
            _percent(one.base),
            _percent(best[1]),
            "" if best[0] is None else str(best[0]),
            f"{one.accepted:,}",
            f"{one.hours:.2f}",
        )
    print_whole(stderr(), table)


@jobs.command()
def show(job: Annotated[str, typer.Argument(help="Job name.")], root: Root = _ROOT, as_json: AsJson = False) -> None:
    """Show one job: its state, rounds, folder, and what can be asked of it next."""
    from svd_loop.contracts import RootPaths
    from svd_loop.ledger import LedgerReader
    from svd_loop.ledger.jobs import summarise_job
    from svd_loop.report import history_json, render_rounds
    from svd_loop.report.summary import gain_sentence

    paths = RootPaths(root).job(job)
    with LedgerReader.open_for_reading(paths.folder) as reader:
        state, result = reader.state(), reader.result()
    summary = summarise_job(paths.folder)
    if as_json:
        print_json({**_plain(summary), "folder": str(paths.folder.resolve()), **history_json(state)})
        return
    say = stderr().print
    say(f"{job}: {summary.state}, round {summary.rounds} of {summary.limit}, {summary.hours:.2f} hours", markup=False)
    if state.history:
        render_rounds(stderr(), state.history)
    for line in (gain_sentence(result), *result.notes) if result else ():
        say(line, markup=False, highlight=False)
    say(f"folder: {paths.folder}", markup=False, highlight=False)
    for command in (f"samples {job}", f"explain {job} PROMPT_ID", f"report {job}", f"export {job} --to DIR"):
        say(f"  svd-loop {command}", markup=False, highlight=False)


def _plain(one: JobSummary) -> dict[str, Any]:
    from dataclasses import asdict

    best = {"round": one.best[0], **asdict(one.best[1])} if one.best else None
    return {**asdict(one), "best": best}


def _percent(found: Estimate | None) -> str:
    return "" if found is None else f"{100 * found.value:.1f}"
