"""`svd-loop schedule`: retraining on prompts that arrive in a folder; `svd-loop forget`: remove one of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from svd_loop.cli.commands import AsJson, ConfigFile, Overrides
from svd_loop.cli.output import print_json, stderr

if TYPE_CHECKING:
    from svd_loop.config import Config
    from svd_loop.promotion.gate import Decision
    from svd_loop.schedule import Schedule, TickReport

_WORDS = {
    "busy": "another tick is running",
    "waiting": "too few new prompts for a job",
    "promoted": "promoted",
    "refused": "refused",
    "nothing_gained": "nothing gained",
    "failed": "failed in all its attempts",
    "stumbled": "failed; the next tick tries again",
}


def schedule(
    config: ConfigFile,
    inbox: Annotated[Path | None, typer.Option(help="Folder in which prompt files arrive.")] = None,
    cron: Annotated[
        str | None, typer.Option(metavar="EXPR", help="Run a tick at these times, e.g. '0 3 * * 1'.")
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="Run one tick: for cron, Kubernetes, Airflow, systemd.")] = False,
    status: Annotated[bool, typer.Option("--status", help="Show the state of files, prompts and jobs.")] = False,
    timezone: Annotated[str | None, typer.Option(help="Time zone of --cron; default is the machine's.")] = None,
    override: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Import prompts; if enough are waiting, train the champion on them and promote the result if it passes the gate.

    Exit codes of `--once`: 0 done, whatever the gate decided; 1 the job failed; 3 too many jobs in a row brought no new
    champion (`schedule.idle_jobs`).
    """
    from svd_loop.config import load_config

    if [once, cron is not None, status].count(True) != 1:
        raise typer.BadParameter("give one of --once, --cron EXPR and --status")
    settings = load_config(config, override or ())
    if status:
        _show_status(settings, as_json)
        return
    if inbox is None:
        raise typer.BadParameter("--inbox DIR is required: the folder in which prompt files arrive")
    if once:
        report = _schedule(settings, inbox).tick()
        _show(report, as_json)
        raise typer.Exit(1 if report.action in ("failed", "stumbled") else 3 if report.alarm else 0)
    _run_on_cron(config, override, inbox, str(cron), timezone, as_json)


def forget(
    config: ConfigFile,
    prompt: Annotated[str, typer.Option(help="Id of the prompt, as in the ledger.")],
    override: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Remove a prompt from a schedule: no later job uses it. Lists the versions that were trained on it."""
    from svd_loop.config import load_config
    from svd_loop.schedule import forget as forget_prompt

    done = forget_prompt(load_config(config, override or ()), prompt)
    if as_json:
        print_json(done.as_dict())
        return
    out = stderr()
    out.print(f"{done.prompt} is forgotten; its sources: {', '.join(done.sources)}", markup=False)
    out.print(f"versions trained on it: {', '.join(done.learned) or 'none'}", markup=False)
    out.print(
        f"versions that started from those or may have replayed it: {', '.join(done.descended) or 'none'}",
        markup=False,
    )
    if done.running:
        out.print(f"{done.running} is unfinished and still uses it", markup=False)


def _run_on_cron(
    config: Path, override: list[str] | None, inbox: Path, expression: str, timezone: str | None, as_json: bool
) -> None:
    from svd_loop.config import load_config
    from svd_loop.schedule import StateDb, run_on_cron, schedule_folder
    from svd_loop.schedule.cron import cron_trigger

    trigger = cron_trigger(expression, timezone)
    with StateDb(schedule_folder(load_config(config, override or ()))) as db:
        last = db.meta("last_tick")

    def tick() -> None:  # the file is read again at every tick, so that it may be changed in between
        _show(_schedule(load_config(config, override or ()), inbox).tick(), as_json)

    try:
        run_on_cron(tick, trigger, last=None if last is None else float(last))
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


def _schedule(settings: Config, inbox: Path) -> Schedule:
    from svd_loop.errors import ConfigError
    from svd_loop.promotion.lookup import configured_model
    from svd_loop.schedule import RegisteredModels, Schedule

    if settings.data.test is None:
        raise ConfigError("data.test: null, but the gate needs a test split to compare a new version with the champion")

    def gate(job: Config, name: str) -> Decision:
        from svd_loop.promotion.promotion import consider  # imported only when a job has ended

        return consider(job, name)

    return Schedule(settings, inbox, gate=gate, models=RegisteredModels(settings, configured_model(settings)))


def _show(report: TickReport, as_json: bool) -> None:
    if as_json:
        print_json(report.as_dict())
        return
    job = report.job
    out = stderr()
    for name in report.intake.quarantined:
        out.print(f"{name}: cannot be used; the reason is in quarantine/", markup=False)
    out.print(f"{job.name if job else 'no job'}: {_WORDS[report.action]}", markup=False)
    for finding in job.findings if job else ():
        out.print(f"  {'ok' if finding['passed'] else 'no'}  {finding['rule']}: {finding['text']}", markup=False)
    out.print(", ".join(f"{count} {name}" for name, count in report.counts.items()), markup=False)
    if report.health is not None and report.health.alarm:
        out.print(f"alarm: {report.health}", markup=False)


def _show_status(settings: Config, as_json: bool) -> None:
    from svd_loop.errors import ScheduleError
    from svd_loop.schedule import StateDb, schedule_folder, schedule_health

    folder = schedule_folder(settings)
    if not folder.exists():
        raise ScheduleError(f"{folder}: this schedule has never run a tick; job.root and job.name give its folder")
    with StateDb(folder) as db:
        account, files, jobs = db.counts(), db.files(), db.jobs()
    health = schedule_health(jobs, settings.schedule.idle_jobs)
    if as_json:
        print_json(
            {"prompts": account, "files": files, "jobs": [job.as_dict() for job in jobs], "health": health.as_dict()}
        )
        return
    from rich.table import Table

    from svd_loop.report.tables import print_whole

    table = Table(title="jobs", title_justify="left")
    for heading in ("job", "prompts", "accepted", "tokens", "pass@1 before", "pass@1", "stopped", "outcome", "reason"):
        table.add_column(heading)
    for job in jobs:
        scores = ["" if score is None else f"{100 * score:.1f}%" for score in (job.score_before, job.score)]
        reason = "; ".join(str(finding["text"]) for finding in job.findings if not finding["passed"])
        drifting = [
            "" if job.accepted_fraction is None else f"{100 * job.accepted_fraction:.1f}%",
            "" if job.output_tokens is None else f"{job.output_tokens:.1f}",
        ]
        outcome = _WORDS.get(job.outcome or "", job.state)
        table.add_row(job.name, str(job.prompts), *drifting, *scores, job.stop or "", outcome, reason)
    out = stderr()
    out.print(", ".join(f"{count} {name}" for name, count in account.items()), markup=False)
    for row in files:
        if row["state"] == "quarantined":
            out.print(f"quarantined: {row['place']}: {row['reason']}", markup=False)
    print_whole(out, table)
    if health.alarm:
        out.print(f"alarm: {health}", markup=False)
