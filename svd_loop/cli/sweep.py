"""`svd-loop sweep`: compares the arms of an experiment over seeds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from svd_loop.cli.commands import AsJson
from svd_loop.cli.output import print_json, stderr


def sweep(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="A sweep's YAML file, see configs/experiments/.")],
    quick: Annotated[bool, typer.Option("--quick", help="Run the short form that the file declares.")] = False,
    jobs: Annotated[int, typer.Option(min=1, help="Parallel processes, at most one a seed.")] = 1,
    arm: Annotated[list[str] | None, typer.Option(help="Only this arm and what it depends on; repeatable.")] = None,
    seed: Annotated[list[int] | None, typer.Option(help="Only this seed; repeatable.")] = None,
    root: Annotated[
        Path | None, typer.Option(help="Folder in which results are written; default is the file's.")
    ] = None,
    results: Annotated[
        Path | None, typer.Option(help="Run nothing; show the results stored in this file (a results.json).")
    ] = None,
    report: Annotated[
        Path | None, typer.Option(help="Write tables and plots into this Markdown page; default is the sweep's own.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Run every arm with every seed and compare them: a table, plots, and whether each claim holds."""
    from rich.markdown import Markdown

    from svd_loop.experiments.figures import Figures
    from svd_loop.experiments.page import render, sweep_json, write_page
    from svd_loop.experiments.plan import Plan
    from svd_loop.experiments.results import ArmResult, read_collection
    from svd_loop.experiments.runner import run_sweep

    plan = Plan.load(config, quick=quick, arms=arm or (), seeds=seed or (), root=root)
    started = 0

    def tell(result: ArmResult) -> None:
        nonlocal started
        started += 1
        stderr().print(
            f"{started}/{len(plan.plays)}  {result.arm}, seed {result.seed}: {result.seconds:,.0f} s",
            markup=False,
            highlight=False,
        )

    found = read_collection(results) if results else run_sweep(plan, jobs=jobs, on_result=tell)
    figures = Figures.of(plan.section, found)
    page = write_page(figures, report or plan.folder / "report.md")
    if as_json:
        print_json(sweep_json(figures))
    else:
        stderr().print(Markdown(render(figures, images=None)))
        stderr().print(f"page: {page}", markup=False)
