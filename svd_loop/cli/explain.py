"""`svd-loop explain`: where a training row comes from, and which versions it was used for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from svd_loop.cli.commands import AsJson
from svd_loop.cli.output import print_json, stderr

if TYPE_CHECKING:
    from svd_loop.promotion.lineage import Explanation, TrainedVersion


def explain(
    job: Annotated[str, typer.Argument(help="Job name.")],
    example: Annotated[str, typer.Argument(metavar="EXAMPLE", help="PROMPT_ID or PROMPT_ID:CANDIDATE.")],
    root: Annotated[Path, typer.Option(help="Folder of jobs (job.root).")] = Path("mlruns"),
    as_json: AsJson = False,
) -> None:
    """Show why the model was trained on a solution: its prompt, its votes, and the versions trained on it."""
    from svd_loop.promotion.lineage import explain as explain_rows

    rows = explain_rows(job, root, example)
    if as_json:
        print_json({"job": job, "rows": [asdict(row) for row in rows]})
        return
    for row in rows:
        for line in _lines(row):
            stderr().print(line, markup=False, highlight=False)


def _lines(row: Explanation) -> list[str]:
    return [
        f"accepted in round {row.round}: candidate {row.candidate} of prompt {row.prompt_id} ({row.domain})",
        f"prompt ({row.source or 'generated'}):",
        *_indented(row.text),
        f"solution by {row.written_by['name']} ({row.written_by['fingerprint'][:12]}):",
        *_indented(row.solution),
        f"votes ({len(row.votes)}):" if row.votes else "no votes: it was not judged by the policy",
        *(
            line
            for vote in row.votes
            for line in (f"  {vote['stage']} {vote['vote']}: {vote['value']}", *_indented(vote["words"], "    "))
        ),
        f"trained on it: {_names(row.trained)}",
        f"built on those: {_names(row.inherited)}",
        "",
    ]


def _indented(text: str, indent: str = "  ") -> list[str]:
    return [f"{indent}{line}" for line in text.splitlines()]


def _names(versions: Sequence[TrainedVersion]) -> str:
    return ", ".join(f"{v.name} ({v.fingerprint[:12]})" for v in versions) or "none"
