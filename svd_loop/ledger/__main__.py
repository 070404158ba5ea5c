"""`python -m svd_loop.ledger`: export, repair and query a ledger when the job itself cannot run."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import typer

from svd_loop.contracts import JobPaths
from svd_loop.errors import LedgerError, SvdError
from svd_loop.ledger.export import export_parquet
from svd_loop.ledger.reader import LedgerReader
from svd_loop.ledger.salvage import copy_readable, salvage

app = typer.Typer(help="Ledgers of jobs: export, salvage, query.", no_args_is_help=True, add_completion=False)


@app.command(name="export")
def _export(folder: Path, directory: Path) -> None:
    """Write the ledger of the job in FOLDER to Parquet files; of a damaged ledger, all readable rows."""
    try:
        with LedgerReader.open_for_reading(folder) as reader:
            written = export_parquet(reader, directory)
    except LedgerError as error:
        typer.echo(f"{error}\nexporting all readable rows", err=True)
        with tempfile.TemporaryDirectory() as scratch:
            copy_readable(JobPaths(folder).ledger, JobPaths(Path(scratch)).ledger)
            with LedgerReader.open_for_reading(Path(scratch)) as reader:
                written = export_parquet(reader, directory)
    typer.echo(json.dumps(written))


@app.command(name="salvage")
def _salvage(folder: Path) -> None:
    """Replace a damaged ledger by a valid one with its readable rows; the damaged file is kept in the same folder."""
    typer.echo(json.dumps(salvage(folder)))


@app.command(name="query")
def _query(folder: Path, sql: str) -> None:
    """Print the rows of an SQL query as JSON Lines; content_text(id) decodes a text column."""
    with LedgerReader.open_for_reading(folder) as reader:
        for row in reader.query(sql):
            typer.echo(json.dumps(row, default=bytes.hex))


def main() -> None:
    """Run the commands; exit codes are those of svd-loop."""
    try:
        app()
    except SvdError as error:
        typer.echo(str(error), err=True)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
