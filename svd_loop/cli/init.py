"""`svd-loop init`: a starter folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from svd_loop.cli.commands import AsJson
from svd_loop.cli.output import print_json, stderr


def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A new folder; nothing is overwritten.")],
    as_json: AsJson = False,
) -> None:
    """Write a starter: a configuration, example prompts and held-out problems, and a domain with a scorer."""
    from svd_loop.nano.starter import write_starter

    commands = write_starter(folder)
    if as_json:
        print_json(
            {"folder": str(folder.resolve()), "commands": [line.partition(" #")[0].strip() for line in commands]}
        )
        return
    stderr().print(f"{folder} is ready; next:", markup=False, highlight=False)
    for line in commands:
        stderr().print(f"  {line}", markup=False, highlight=False)
