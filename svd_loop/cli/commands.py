"""The commands: each reads a configuration, calls one function of the library, and prints the result.

The library is imported inside the commands, so that `--help` does not wait for torch.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from svd_loop.cli.output import print_json, stderr

if TYPE_CHECKING:
    from svd_loop.config import Config

ConfigFile = Annotated[Path, typer.Argument(metavar="CONFIG", help="YAML file, or the name of a shipped one: nano.")]
Overrides = Annotated[
    list[str] | None, typer.Option("--override", "-o", metavar="KEY=VALUE", help="Set a dotted key; repeatable.")
]
JobName = Annotated[str | None, typer.Option("--job", help="Job name; the same name resumes the same job.")]
ModelName = Annotated[
    str | None,
    typer.Option(help="Checkpoint folder, JOB@ROUND, or models:/name@alias; default is the configuration's own."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]


def run(
    config: ConfigFile,
    override: Overrides = None,
    job: JobName = None,
    as_json: AsJson = False,
    record: Annotated[Path | None, typer.Option(help="Append every reply to this JSON Lines file.")] = None,
    fork: Annotated[str | None, typer.Option(metavar="JOB@ROUND", help="Start from a round of another job.")] = None,
) -> None:
    """Play rounds until held-out pass@1 stops rising; resumes a job of the same name."""
    from svd_loop.jobs import run_job
    from svd_loop.report import render_result, render_resumed, render_round, result_json

    settings = load(config, override, job)
    result = run_job(
        settings,
        record=record,
        fork_from=fork,
        on_resume=lambda state: render_resumed(stderr(), state),
        on_round=lambda state: render_round(stderr(), state.last),
    )
    if as_json:
        print_json(result_json(result))
    else:
        render_result(
            stderr(), result, config, root=settings.job.root, overrides=override or (), store=settings.tracking.uri
        )


def check(
    config: ConfigFile,
    override: Overrides = None,
    as_json: AsJson = False,
    candidates: Annotated[
        int | None,
        typer.Option("--probe", min=1, help="Candidates to sample and judge; default by their price, 4 to 64."),
    ] = None,
    no_probe: Annotated[bool, typer.Option("--no-probe", help="Sample nothing; no estimate of the work.")] = False,
    gpu_memory: Annotated[
        float | None,
        typer.Option(metavar="GIB", min=0.1, help="Compare memory with a GPU of this size that is not here."),
    ] = None,
) -> None:
    """Check that a job can run here, estimate its cost, test its verifiers, and forecast the gain."""
    from svd_loop.cli.checking import preflight_json, render_preflight
    from svd_loop.preflight.checks import preflight

    found = preflight(load(config, override), probe=0 if no_probe else candidates, gpu_memory=gpu_memory)
    if as_json:
        print_json(preflight_json(found))
    else:
        render_preflight(stderr(), str(config), found)
    if not found.ok:
        raise typer.Exit(2)


def evaluate(
    config: ConfigFile,
    override: Overrides = None,
    model: ModelName = None,
    solutions: Annotated[
        Path | None, typer.Option(help="JSON Lines file of solutions to score instead of a model.")
    ] = None,
    split: Annotated[str, typer.Option(help="development or test.")] = "development",
    as_json: AsJson = False,
) -> None:
    """Measure pass@k of a model, or of solutions from a file, on a held-out split; the same command resumes."""
    from svd_loop.jobs import evaluate_model, evaluate_solutions, held_out_origins
    from svd_loop.report import outcomes_json, render_scores, scores_json

    settings = load(config, override)
    if model is not None and solutions is not None:
        raise typer.BadParameter("give --model or --solutions, not both")
    scores = (
        evaluate_solutions(settings, solutions, split)
        if solutions is not None
        else evaluate_model(settings, model, split)
    )
    if as_json:
        print_json({**scores_json(scores), "outcomes": outcomes_json(scores, held_out_origins(settings, split))})
    else:
        render_scores(stderr(), scores)


def verify(
    config: ConfigFile,
    override: Overrides = None,
    model: ModelName = None,
    candidates: Annotated[int, typer.Option(min=1, help="Development problems whose first sample is judged.")] = 64,
    as_json: AsJson = False,
) -> None:
    """Measure how well the job's verifiers tell right from wrong, and forecast the gain; the same command resumes."""
    from svd_loop.jobs import verify_model
    from svd_loop.report import render_verifiers, verifiers_json

    found = verify_model(load(config, override), model, candidates)
    if as_json:
        print_json({**verifiers_json(found), "candidates": found.candidates, "tokens": found.tokens})
    else:
        render_verifiers(stderr(), found)


def judge(
    config: ConfigFile,
    source: Annotated[Path, typer.Option("--input", help='JSON Lines of {"prompt", "solution"}.')],
    output: Annotated[Path, typer.Option("--output", help="JSON Lines of verdicts with their votes.")],
    override: Overrides = None,
    job: JobName = None,
    as_json: AsJson = False,
) -> None:
    """Judge the solutions of a file by the cascade, and report; the same command resumes."""
    from svd_loop.jobs import judge_file, judging_job
    from svd_loop.report import render_judged

    settings = load(config, override, job)
    summary = judge_file(settings if job else judging_job(settings, source), source, output)
    if as_json:
        print_json(summary)
    else:
        render_judged(stderr(), summary)
        stderr().print(f"verdicts in {output}", markup=False, highlight=False, soft_wrap=True)


def report(
    job: Annotated[str, typer.Argument(help="Job name.")],
    root: Annotated[Path, typer.Option(help="Folder of jobs (job.root).")] = Path("mlruns"),
    as_json: AsJson = False,
) -> None:
    """Show a job's rounds from its ledger, and write its report.html again."""
    from svd_loop.jobs import report_job
    from svd_loop.report import history_json, render_rounds

    state, page = report_job(job, root)
    if as_json:
        print_json(history_json(state))
    else:
        render_rounds(stderr(), state.history)
        stderr().print(f"report: {page}", markup=False)


def nano_build(
    output: Annotated[Path, typer.Option(help="Folder for the checkpoint; must not exist or be empty.")],
    size: Annotated[str, typer.Option(help="small, nano or large.")] = "nano",
    seed: int = 0,
    steps: Annotated[int | None, typer.Option(help="Training steps; default is the recipe's.")] = None,
) -> None:
    """Rebuild the embedded checkpoint from its generators, and measure it."""
    from svd_loop.errors import ConfigError
    from svd_loop.nano.build import build
    from svd_loop.nano.train import SIZES

    if size not in SIZES:
        raise ConfigError(f"--size {size}: is one of {', '.join(SIZES)}")
    if steps is not None and steps < 1:
        raise ConfigError(f"--steps {steps}: must be at least 1")
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise ConfigError(f"--output {output}: is not an empty folder; choose a new one")
    build(output, size=size, seed=seed, steps=steps)
    stderr().print(f"checkpoint and model card in {output}", markup=False)


def load(path: Path, override: list[str] | None, job: str | None = None) -> Config:
    """Read a command's configuration: the file, its overrides, and `--job`."""
    from svd_loop.config import load_config

    return load_config(path, override or [], name=job)
