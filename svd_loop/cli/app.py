"""The Typer application and the one place where errors become messages and exit codes."""

from __future__ import annotations

import logging
import sys

import typer

from svd_loop import __version__
from svd_loop.cli import commands
from svd_loop.cli.data import data
from svd_loop.cli.explain import explain
from svd_loop.cli.export import export
from svd_loop.cli.init import init
from svd_loop.cli.jobs import jobs
from svd_loop.cli.models import models
from svd_loop.cli.output import StderrHandler, stderr
from svd_loop.cli.samples import samples
from svd_loop.cli.schedule import forget, schedule
from svd_loop.cli.sweep import sweep
from svd_loop.cli.view import view
from svd_loop.errors import SvdError
from svd_loop.support.allocator import let_threads_sleep
from svd_loop.support.open_files import allow_open_files

app = typer.Typer(
    name="svd-loop",
    help="A language model that improves on its own verified work: no labels, no teacher, no tools.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
nano = typer.Typer(help="The embedded checkpoint.", no_args_is_help=True)
app.add_typer(jobs, name="jobs")
app.add_typer(models, name="models")
app.add_typer(data, name="data")
app.add_typer(nano, name="nano")

app.command()(init)
app.command()(commands.run)
app.command()(commands.check)
app.command(name="eval")(commands.evaluate)
app.command()(commands.verify)
app.command()(commands.judge)
app.command()(commands.report)
app.command()(schedule)
app.command()(forget)
app.command()(explain)
app.command()(samples)
app.command()(view)
app.command()(sweep)
app.command()(export)
nano.command(name="build")(commands.nano_build)


@app.callback(invoke_without_command=True)
def _top(version: bool = typer.Option(False, "--version", help="Print the version and exit.")) -> None:
    if version:
        typer.echo(f"svd-loop {__version__}")
        raise typer.Exit


def main() -> None:
    """Run the command line. Exit codes: 0 done, 1 failed, 2 bad usage or configuration, 3 blocked by a gate."""
    let_threads_sleep()
    logging.basicConfig(level=logging.WARNING, format="%(message)s", handlers=[StderrHandler()])
    for package in ("svd_loop", "envs", "policies"):
        logging.getLogger(package).setLevel(logging.INFO)
    try:
        allow_open_files()
        app()
    except SvdError as error:
        stderr().print(f"[bold red]{type(error).__name__}[/]", highlight=False)
        stderr().print(str(error), markup=False, highlight=False)
        sys.exit(error.exit_code)
