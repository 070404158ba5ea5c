"""`svd-loop export`: what a job made, as a folder: a version as a checkpoint, or its judged solutions as data."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from svd_loop.cli.commands import AsJson
from svd_loop.cli.output import print_json, stderr


class What(StrEnum):
    """What is exported."""

    MODEL = "model"
    SFT = "sft"
    PREFERENCES = "preferences"
    KTO = "kto"


class Format(StrEnum):
    """File format of exported data."""

    JSONL = "jsonl"
    PARQUET = "parquet"


def export(
    job: Annotated[str, typer.Argument(help="Job name.")],
    to: Annotated[Path, typer.Option(metavar="DIR", help="A new folder; nothing is overwritten.")],
    what: Annotated[
        What, typer.Option("--as", help="A checkpoint, or data for TRL's SFT, DPO (preferences) or KTO trainer.")
    ] = What.MODEL,
    version: Annotated[str | None, typer.Option(help="Of a model: best (the default), last, or a round.")] = None,
    adapter: Annotated[
        bool, typer.Option("--adapter", help="Of a model: the adapter alone, as PEFT stores it.")
    ] = False,
    file_format: Annotated[Format | None, typer.Option("--format", help="Of data: jsonl (the default).")] = None,
    root: Annotated[Path, typer.Option(help="Folder of jobs (job.root).")] = Path("mlruns"),
    as_json: AsJson = False,
) -> None:
    """Write a version of a job as one checkpoint folder, or its judged solutions as a data set with a card."""
    if what is What.MODEL:
        if file_format is not None:
            raise typer.BadParameter(f"--format {file_format}: is for data; add --as sft, preferences or kto")
        _export_model(job, root, version or "best", to, adapter, as_json)
        return
    if version is not None or adapter:
        raise typer.BadParameter(f"--version and --adapter are for --as model, found --as {what}")
    from svd_loop.promotion.training_sets import SetKind, export_set

    written = export_set(job, root, SetKind(what), to, suffix=file_format or Format.JSONL).as_dict()
    if as_json:
        print_json(written)
        return
    left_out = ", ".join(f"{count:,} {reason.replace('_', ' ')}" for reason, count in written["left_out"].items())
    _say(f"{written['rows']:,} rows of {written['prompts']:,} prompts are in {to}; left out: {left_out or 'none'}")
    _say(f'datasets.load_dataset("{to}") reads them; the card is {to / "README.md"}')


def _export_model(job: str, root: Path, version: str, to: Path, adapter: bool, as_json: bool) -> None:
    from svd_loop.promotion.lookup import export_version

    written = export_version(job, root, version, to, adapter=adapter)
    if as_json:
        print_json({"version": written.name, "fingerprint": written.fingerprint, "path": str(to.resolve())})
    else:
        _say(f"{written.name} of {job} is in {to}")


def _say(line: str) -> None:
    stderr().print(line, markup=False, highlight=False, soft_wrap=True)
