"""`svd-loop view`: the samples of a job in a browser, or written to files that can be shared."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from svd_loop.cli.output import stderr

if TYPE_CHECKING:
    from svd_loop.contracts import Outcome


def view(
    job: Annotated[str, typer.Argument(help="Job name.")],
    root: Annotated[Path, typer.Option(help="Folder of jobs (job.root).")] = Path("mlruns"),
    host: Annotated[
        str, typer.Option(help="Address to listen on; other machines are let in by 0.0.0.0.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 8765,
    browse: Annotated[bool, typer.Option("--open", help="Open the browser.")] = False,
    export: Annotated[
        Path | None,
        typer.Option(metavar="FILE|DIR", help="Write the pages instead: FILE.html is one file, else a folder."),
    ] = None,
    programs: Annotated[
        bool, typer.Option("--programs", help="Run held-out programs again, in the sandbox, to tell which were right.")
    ] = False,
    samples: Annotated[int, typer.Option(min=1, help="With --export: prompts of each round in it.")] = 100,
) -> None:
    """Show a job's rounds, prompts, candidates and votes in a browser, also while it runs."""
    from svd_loop.contracts import RootPaths
    from svd_loop.ledger import LedgerReader

    folder = RootPaths(root).job(job).folder
    LedgerReader.open_for_reading(folder).close()  # a wrong name is told before anything starts
    if export is not None:
        from svd_loop.viewer.export import export_pages

        written = export_pages(folder, export, samples=samples)
        stderr().print(written.told, markup=False, highlight=False, soft_wrap=True)
        return
    from svd_loop.viewer.serve import serve

    def ready(address: str) -> None:
        stderr().print(f"{job}: {address}  (Ctrl-C ends it)", markup=False, highlight=False, soft_wrap=True)
        if browse:
            typer.launch(address)

    serve(folder, host=host, port=port, outcomes=_scoring(folder, programs=programs), ready=ready)


def _scoring(folder: Path, *, programs: bool = False) -> Callable[[str, str, Sequence[str]], Sequence[Outcome] | None]:
    """Scoring of held-out samples by evaluation, where the job's data is here; programs run only if that is asked."""
    from functools import cache

    from svd_loop.config import Config
    from svd_loop.contracts import Problem
    from svd_loop.errors import SvdError

    @cache
    def settings() -> Config:
        from svd_loop.config import parse_config
        from svd_loop.ledger import LedgerReader

        with LedgerReader.open_for_reading(folder) as reader:
            return parse_config(reader.config())

    @cache
    def problems(split: str) -> dict[str, Problem]:
        from svd_loop.assembly.data import held_out

        return {problem.id: problem for problem in held_out(settings()).get(split, [])}

    def outcomes(split: str, id: str, texts: Sequence[str]) -> Sequence[Outcome] | None:
        from svd_loop.config.domains import section_of
        from svd_loop.evaluation.evaluation import score_pairs

        try:
            problem = problems(split).get(id)
            if problem is None or (section_of(problem.domain).gold == "tests" and not programs):
                return None
            evaluation = settings().evaluation
            return score_pairs([(text, problem) for text in texts], evaluation.test_seconds, evaluation.domains)
        except (SvdError, OSError):  # the data was moved, no sandbox; the counts in the ledger are shown alone
            return None

    return outcomes
