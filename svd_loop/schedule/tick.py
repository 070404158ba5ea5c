"""One tick of a schedule: import files, start or continue a job, run the gate, call the hooks.

The state of a job is in the state database, and each step may be repeated, so that a tick continues where a killed one
stopped:

- `running`: `run_job` is called and continues by itself; for a job that has ended it returns at once;
- `ran`: the gate is run, unless this job's version is the champion already;
- `decided`: hooks are called;
- `closed`: nothing is left to do.

A job keeps the configuration it was started with. The configuration file is read again at every tick and applies to
files, hooks and the next job.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout

from envs.prompts import LeakIndex
from svd_loop.assembly.backends import refuse_foreign_anchors
from svd_loop.assembly.data import held_out
from svd_loop.config import Config, parse_config
from svd_loop.config.schedule import HookEvent
from svd_loop.contracts import JobResult, Problem, RootPaths
from svd_loop.errors import JobInterrupted, LedgerError, RegistryError, ScheduleError, SvdError
from svd_loop.jobs import run_job
from svd_loop.ledger import LedgerReader
from svd_loop.promotion.gate import Decision
from svd_loop.promotion.lookup import configured_model
from svd_loop.schedule.health import ScheduleHealth, schedule_health
from svd_loop.schedule.hooks import call_hooks
from svd_loop.schedule.inbox import Inbox, Intake
from svd_loop.schedule.models import Models, starting_checkpoint, tokenizer_digest
from svd_loop.schedule.prompt_files import record_prompts, restore_prompts, write_prompts
from svd_loop.schedule.state_db import JobRow, Outcome, StateDb

log = logging.getLogger(__name__)

Action = Literal["busy", "waiting", "promoted", "refused", "nothing_gained", "failed", "stumbled"]
_EVENTS: dict[Outcome, HookEvent] = {
    "promoted": "success",
    "refused": "refusal",
    "nothing_gained": "refusal",
    "failed": "failure",
}


Gate = Callable[[Config, str], Decision]
"""`(job's configuration, model name)`: compares the job's best version with the champion and promotes it if it wins."""


@dataclass(frozen=True, slots=True)
class TickReport:
    """Result of a tick.

    Attributes:
        action: `busy`: another tick was running, nothing was done. `waiting`: too few prompts. `promoted`, `refused`,
            `nothing_gained`, `failed`: a job ended. `stumbled`: a job failed and the next tick tries it again.
        intake: result of the import from the inbox.
        counts: number of prompts by state.
        job: the job of this tick, if any.
        unheard: failures of hooks, one sentence each.
        health: health of the schedule; None if `busy`.
    """

    action: Action
    intake: Intake = field(default_factory=Intake)
    counts: Mapping[str, int] = field(default_factory=dict)
    job: JobRow | None = None
    unheard: tuple[str, ...] = ()
    health: ScheduleHealth | None = None

    @property
    def alarm(self) -> bool:
        """Whether a job ended in this tick, and too many jobs in a row have brought no new champion."""
        ended = self.job is not None and self.job.state == "closed"
        return ended and self.health is not None and self.health.alarm

    def as_dict(self) -> dict[str, Any]:
        """Return JSON data."""
        return {
            "action": self.action,
            "intake": self.intake.as_dict(),
            "prompts": dict(self.counts),
            "job": self.job.as_dict() if self.job else None,
            "unheard": list(self.unheard),
            "health": self.health.as_dict() if self.health else None,
            "alarm": self.alarm,
        }


def schedule_folder(config: Config) -> Path:
    """Return the folder of a schedule's files; a schedule is named after the configuration's job."""
    return RootPaths(config.job.root.resolve()).schedule(config.job.name)


class Schedule:
    """A schedule whose ticks can be run.

    Args:
        config: configuration of the schedule; `data.train` is replaced by the imported prompts.
        inbox: folder in which prompt files arrive.
        gate: decides whether a job's best version is promoted.
        models: the registered versions of the model.
        run: runs a job until it stops.
        clock: returns seconds since 1970.
    """

    def __init__(
        self,
        config: Config,
        inbox: Path,
        *,
        gate: Gate,
        models: Models,
        run: Callable[[Config], JobResult] = run_job,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._config = config
        self._inbox = inbox
        self._gate = gate
        self._models = models
        self._run = run
        self._clock = clock
        self._folder = schedule_folder(config)
        self._name = configured_model(config)
        self._problems: list[Problem] | None = None

    def tick(self) -> TickReport:
        """Perform the steps that are due.

        Raises:
            JobInterrupted: a stop was requested; the next tick continues.
            SvdError: the inbox, the registry or the state database cannot be used.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self._folder / "lock", timeout=0)
        try:
            lock.acquire()
        except Timeout:
            return TickReport("busy")
        try:
            with StateDb(self._folder) as db:
                db.set_meta("last_tick", repr(self._clock()))
                return self._tick(db)
        finally:
            lock.release()

    def _tick(self, db: StateDb) -> TickReport:
        intake = Inbox(db, self._config, self._held_out).take_in(self._inbox, self._clock())
        job = db.unfinished() or self._start(db)
        if job is None:
            return TickReport("waiting", intake, db.counts(), health=self._health(db))
        job = self._attempt(db, job)
        if job.state != "decided":
            unheard = self._call_hooks(job, "failure")
            return TickReport("stumbled", intake, db.counts(), job, unheard, self._health(db))
        assert job.outcome is not None
        unheard, health = self._call_hooks(job, _EVENTS[job.outcome]), self._health(db)
        if health.alarm:  # this job has just ended, so it counts
            log.warning("%s", health)
            unheard += self._call_hooks(job, "idle", **health.as_dict())
        job = db.update_job(job.number, state="closed", ended_at=self._clock())
        return TickReport(job.outcome or "failed", intake, db.counts(), job, unheard, health)

    def _attempt(self, db: StateDb, job: JobRow) -> JobRow:
        """Continue a job up to its decision, or count a failed attempt.

        The progress before an attempt is stored until the attempt ends. If it is still there at the next tick, the
        process was killed.
        """
        key = f"attempt/{job.number}"
        if (before := db.meta(key)) is not None and job.state in ("running", "ran"):
            job = self._count_killed_attempt(db, job, before)
        if job.state == "decided":
            return job
        db.set_meta(key, _progress_mark(job))
        try:
            job = self._advance(db, job)
        except (JobInterrupted, KeyboardInterrupt):
            db.delete_meta(key)
            raise
        except Exception as error:
            job = self._count_failure(db, job, error)
            db.delete_meta(key)
            if not isinstance(error, SvdError):  # a defect is counted too, and raised with its traceback
                raise
        db.delete_meta(key)
        return job

    def _count_killed_attempt(self, db: StateDb, job: JobRow, before: str) -> JobRow:
        """Count an attempt whose process was killed, unless it made progress."""
        if _progress_mark(job) != before:
            log.warning("%s: the process that ran it was killed after it made progress; continuing", job.name)
            return job
        error = ScheduleError("the process that ran it was killed before it made any progress")
        return self._count_failure(db, job, error)

    # --------------------------------------------------------------------------------------- start

    def _start(self, db: StateDb) -> JobRow | None:
        """Record a new job if enough prompts are waiting, and return it."""
        settings = self._config.schedule
        if db.counts()["waiting"] < settings.min_prompts:
            return None
        self._withdraw_leaks(db)
        chosen = db.waiting(settings.max_prompts)
        if len(chosen) < settings.min_prompts:
            return None
        number = len(db.jobs()) + 1
        name = f"{self._config.job.name}-{number:03d}"
        champion = self._models.champion()
        prompts = [prompt for _, prompt in chosen]
        config = self._job_config(db, name, champion, write_prompts(self._folder, name, prompts))
        with db.writing():
            db.add_job(
                number,
                name,
                config=config.model_dump(mode="json"),
                tokenizer=tokenizer_digest(config),
                champion=str(champion) if champion else None,
                prompts=len(chosen),
                started_at=self._clock(),
            )
            record_prompts(db, name, prompts)
            for prompt_number, _ in chosen:
                db.set_prompt_state(prompt_number, "used", job=number)
        log.info("%s: starts with %d new prompts from %s", name, len(chosen), champion or config.model.path)
        return db.unfinished()

    def _withdraw_leaks(self, db: StateDb) -> None:
        """Check waiting prompts for leaks again: held-out problems may have changed since the import."""
        waiting = db.waiting()
        index = LeakIndex(self._held_out(), self._config.data.leak)
        found = index.find_each([prompt.text for _, prompt in waiting], [prompt.source for _, prompt in waiting])
        with db.writing():
            for (number, _), leaks in zip(waiting, found, strict=True):
                if leaks:
                    db.set_prompt_state(number, "leaked", "; ".join(map(str, leaks)))

    def _job_config(self, db: StateDb, name: str, champion: Path | None, prompts: Path) -> Config:
        """Return a job's configuration: the schedule's with the new prompts, the champion's weights and the replay."""
        data = self._config.model_dump(mode="json")
        own = self._config.schedule
        budget = {"rounds": own.rounds, "hours": own.hours, "tokens": own.tokens}
        data["job"] |= {"name": name, "root": str(self._config.job.root.resolve())}
        data["job"] |= {key: value for key, value in budget.items() if value is not None}
        if champion is not None:
            data["model"]["path"] = str(starting_checkpoint(champion, self._folder / "start"))
        data["data"]["train"] = {"type": "files", "paths": [str(prompts)]}
        data["tracking"]["register_as"] = self._name
        data["schedule"] = {}
        tokenizer = tokenizer_digest(parse_config(data, origin=name))
        data["schedule"]["replay"] = {
            "jobs": [
                f"{job.name}@{job.best_round}"
                for job in db.jobs()
                if job.outcome == "promoted" and job.tokenizer == tokenizer
            ],
            "without": db.forgotten(),
        }
        config = parse_config(data, origin=name)
        refuse_foreign_anchors(config)  # before prompts are assigned to a job that cannot run
        return config

    # ------------------------------------------------------------------------------------- advance

    def _advance(self, db: StateDb, job: JobRow) -> JobRow:
        """Run a job and decide on its best version, from the state it is in."""
        config = parse_config(job.config, origin=job.name)
        if job.state == "running":
            job = self._run_to_stop(db, job, config)
        if job.state == "ran":
            job = self._decide(db, job, config)
        return job

    def _run_to_stop(self, db: StateDb, job: JobRow, config: Config) -> JobRow:
        restore_prompts(self._folder, db, job)
        result = self._run(config)
        best = result.best
        folder = config.job.paths.version(best.version.round)
        if best.version.round > 0 and not self._models.is_registered(folder):
            raise ScheduleError(
                f"{job.name}: its best version, {folder}, is not registered as {self._name}; MLflow's error is in the "
                "log. The next tick registers it"
            )
        return db.update_job(
            job.number,
            state="ran",
            stop=result.stop.value,
            best_round=best.version.round,
            score=best.scores.pass_at_1.value,
            score_before=result.history[0].scores.pass_at_1.value,
            accepted_fraction=_accepted_fraction(result),
            output_tokens=_output_tokens(result),
        )

    def _decide(self, db: StateDb, job: JobRow, config: Config) -> JobRow:
        assert job.best_round is not None
        version = config.job.paths.version(job.best_round)
        outcome: Outcome
        if job.best_round == 0:
            text = "no round was better than the weights the job started from"
            self._models.record_nothing_gained(f"{job.name}: {text}")
            outcome, findings = "nothing_gained", [_finding("gain", False, 0, 1, text)]
        elif self._models.is_champion(version):
            text = (
                "it was promoted before the tick was interrupted"
                if job.champion
                else "it is the first champion; there was none to compare it with"
            )
            outcome, findings = "promoted", [_finding("champion", True, None, None, text)]
        else:
            decision = self._gate(config, self._name)
            outcome = "promoted" if decision.passed else "refused"
            findings = [_finding(f.rule, f.passed, f.value, f.limit, f.text) for f in decision.findings]
            if decision.passed and not self._models.is_champion(version):
                text = "the version passed the gate, but another version is champion: the alias was moved meanwhile"
                outcome, findings = "refused", [*findings, _finding("champion", False, None, None, text)]
        return db.update_job(job.number, state="decided", outcome=outcome, findings=findings)

    def _count_failure(self, db: StateDb, job: JobRow, error: Exception) -> JobRow:
        """Count a failed attempt; the last one ends the job. A registry error does not count as the job's failure."""
        if isinstance(error, RegistryError):
            log.warning("%s: %s", job.name, error)
            return db.update_job(job.number, findings=[_finding("registry", False, None, None, str(error))])
        attempts, limit = job.attempts + 1, self._config.schedule.attempts
        text = f"{type(error).__name__}: {error}"
        log.warning("%s: attempt %d of %d failed: %s", job.name, attempts, limit, text)
        findings = [_finding("run", False, attempts, limit, text)]
        if attempts < limit:
            return db.update_job(job.number, attempts=attempts, findings=findings)
        return db.update_job(job.number, attempts=attempts, findings=findings, state="decided", outcome="failed")

    def _call_hooks(self, job: JobRow, event: HookEvent, **more: Any) -> tuple[str, ...]:
        message = {"schedule": self._config.job.name, "model": self._name, "job": job.name, **job.as_dict(), **more}
        return tuple(call_hooks(self._config.schedule.hooks, event, message))

    def _health(self, db: StateDb) -> ScheduleHealth:
        return schedule_health(db.jobs(), self._config.schedule.idle_jobs)

    def _held_out(self) -> list[Problem]:
        if self._problems is None:
            self._problems = [problem for split in held_out(self._config).values() for problem in split]
        return self._problems


def _progress_mark(job: JobRow) -> str:
    """Return a text that changes when a job makes progress: its state, finished rounds and stored answers."""
    folder = RootPaths(Path(job.config["job"]["root"])).job(job.name).folder
    try:
        with LedgerReader.open_for_reading(folder) as reader:
            (row,) = reader.query("SELECT count(*) AS answers FROM replies")
            return f"{job.state} {len(reader.state().history)} {row['answers']}"
    except LedgerError:  # there is none yet, or it is damaged, which running the job will report
        return job.state


def _accepted_fraction(result: JobResult) -> float | None:
    played = sum(record.prompts for record in result.history)
    return sum(record.accepted_prompts for record in result.history) / played if played else None


def _output_tokens(result: JobResult) -> float | None:
    found = result.best.scores.estimates["overall"].get("output_tokens")
    return None if found is None else found.value


def _finding(rule: str, passed: bool, value: Any, limit: Any, text: str) -> dict[str, Any]:
    return {"rule": rule, "passed": passed, "value": value, "limit": limit, "text": text}
