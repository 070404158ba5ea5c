"""One tick: take in files, start or go on with a job, let the gate decide, tell how it ended.

Where a job stands is in the book, and each step may be repeated, so that a tick that was killed anywhere is made up
for by the next one:

- `running`: `run_job` goes on by itself; a job that has ended ends again at once;
- `ran`: the gate is asked, unless the champion is this job's version already;
- `decided`: hooks are called;
- `closed`: over.

A job keeps the configuration it was started with. The configuration file is read again at every tick and decides about
files, hooks, and the next job.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout

from envs.prompts import LeakIndex
from svd_loop.assembly.backends import refuse_foreign_anchors
from svd_loop.assembly.data import held_out
from svd_loop.config import Config, parse_config
from svd_loop.config.schedule import HookEvent
from svd_loop.contracts import JobResult, Problem, Prompt, RootPaths
from svd_loop.errors import JobInterrupted, LedgerError, RegistryError, ScheduleError, SvdError
from svd_loop.jobs import run_job
from svd_loop.ledger import LedgerReader
from svd_loop.ledger.identity import write_atomically
from svd_loop.promotion.gate import Decision
from svd_loop.promotion.lookup import configured_model
from svd_loop.schedule.health import ScheduleHealth, schedule_health
from svd_loop.schedule.hooks import call_hooks
from svd_loop.schedule.inbox import Inbox, Intake
from svd_loop.schedule.models import Models, starting_checkpoint, tokenizer_digest
from svd_loop.schedule.state_db import Book, JobRow, Outcome

log = logging.getLogger(__name__)

Action = Literal["busy", "waiting", "promoted", "refused", "nothing_gained", "failed", "stumbled"]
_EVENTS: dict[Outcome, HookEvent] = {
    "promoted": "success",
    "refused": "refusal",
    "nothing_gained": "refusal",
    "failed": "failure",
}


Gate = Callable[[Config, str], Decision]
"""`(job's configuration, model name)`: compares the job's best version with the champion, and promotes it or not."""


@dataclass(frozen=True, slots=True)
class TickReport:
    """What a tick did.

    `busy`: another tick was at work, nothing was done. `waiting`: too few prompts. `promoted`, `refused`,
    `nothing_gained`, `failed`: a job ended. `stumbled`: a job failed and will be tried again. `alarm`: with this job
    too many in a row have brought nothing.
    """

    action: Action
    intake: Intake = field(default_factory=Intake)
    account: Mapping[str, int] = field(default_factory=dict)
    job: JobRow | None = None
    unheard: tuple[str, ...] = ()
    health: ScheduleHealth | None = None

    @property
    def alarm(self) -> bool:
        """Whether a job ended in this tick that brought nothing, as several before it."""
        ended = self.job is not None and self.job.state == "closed"
        return ended and self.health is not None and self.health.alarm

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON; `unheard` are hooks that could not be told."""
        return {
            "action": self.action,
            "intake": self.intake.as_dict(),
            "prompts": dict(self.account),
            "job": self.job.as_dict() if self.job else None,
            "unheard": list(self.unheard),
            "health": self.health.as_dict() if self.health else None,
            "alarm": self.alarm,
        }


def schedule_folder(config: Config) -> Path:
    """Where a schedule's files lie; it is named as the configuration's job."""
    return RootPaths(config.job.root.resolve()).schedule(config.job.name)


class Schedule:
    """A schedule, ready to tick.

    Args:
        config: its configuration; `data.train` is replaced by what arrives.
        inbox: folder the prompts arrive in.
        gate: decides about a job's best version.
        models: where the champion is found.
        run: runs a job to its stop.
        clock: seconds since 1970.
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
        """Do whatever is due.

        Raises:
            JobInterrupted: a stop was asked for; the next tick goes on.
            SvdError: the inbox, the registry or the book cannot be used.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self._folder / "lock", timeout=0)
        try:
            lock.acquire()
        except Timeout:
            return TickReport("busy")
        try:
            with Book(self._folder) as book:
                book.note("last_tick", repr(self._clock()))
                return self._tick(book)
        finally:
            lock.release()

    def _tick(self, book: Book) -> TickReport:
        intake = Inbox(book, self._config, self._held_out).take_in(self._inbox, self._clock())
        job = book.unfinished() or self._start(book)
        if job is None:
            return TickReport("waiting", intake, book.account(), health=self._health(book))
        job = self._attempt(book, job)
        if job.state != "decided":
            unheard = self._tell(job, "failure")
            return TickReport("stumbled", intake, book.account(), job, unheard, self._health(book))
        assert job.outcome is not None
        unheard, health = self._tell(job, _EVENTS[job.outcome]), self._health(book)
        if health.alarm:  # it ended just now, so it is one of them
            log.warning("%s", health)
            unheard += self._tell(job, "idle", **health.as_dict())
        job = book.update_job(job.number, state="closed", ended_at=self._clock())
        return TickReport(job.outcome or "failed", intake, book.account(), job, unheard, health)

    def _attempt(self, book: Book, job: JobRow) -> JobRow:
        """Bring a job to its decision, or count why not; a process that is killed meanwhile is counted next time."""
        note = f"attempt/{job.number}"
        if (before := book.noted(note)) is not None and job.state in ("running", "ran"):
            job = self._was_killed(book, job, before)
        if job.state == "decided":
            return job
        book.note(note, _reached(job))
        try:
            job = self._advance(book, job)
        except (JobInterrupted, KeyboardInterrupt):
            book.forget_note(note)
            raise
        except Exception as error:
            job = self._failed(book, job, error)
            book.forget_note(note)
            if not isinstance(error, SvdError):  # a defect keeps its traceback, and was counted
                raise
        book.forget_note(note)
        return job

    def _was_killed(self, book: Book, job: JobRow, before: str) -> JobRow:
        """Count an attempt that ended without a word, unless it got further than the one before it."""
        if _reached(job) != before:
            log.warning("%s: the process that ran it was killed; going on", job.name)
            return job
        return self._failed(book, job, ScheduleError("the process that ran it was killed before it got any further"))

    # --------------------------------------------------------------------------------------- start

    def _start(self, book: Book) -> JobRow | None:
        """A new job in the book, if enough prompts wait."""
        settings = self._config.schedule
        if book.account()["waiting"] < settings.min_prompts:
            return None
        self._withdraw_leaks(book)
        chosen = book.waiting(settings.max_prompts)
        if len(chosen) < settings.min_prompts:
            return None
        number = len(book.jobs()) + 1
        name = f"{self._config.job.name}-{number:03d}"
        champion = self._models.champion()
        prompts = self._write_prompts(name, [prompt for _, prompt in chosen])
        config = self._job_config(book, name, champion, prompts)
        with book.writing():
            book.add_job(
                number,
                name,
                config=config.model_dump(mode="json"),
                tokenizer=tokenizer_digest(config),
                champion=str(champion) if champion else None,
                prompts=len(chosen),
                started_at=self._clock(),
            )
            for place, _ in chosen:
                book.settle(place, "used", job=number)
        log.info("%s: starts with %d new prompts from %s", name, len(chosen), champion or config.model.path)
        return book.unfinished()

    def _withdraw_leaks(self, book: Book) -> None:
        """Held-out problems may have changed since a prompt came in."""
        waiting = book.waiting()
        index = LeakIndex(self._held_out(), self._config.data.leak)
        found = index.find_each([prompt.text for _, prompt in waiting], [prompt.source for _, prompt in waiting])
        with book.writing():
            for (number, _), leaks in zip(waiting, found, strict=True):
                if leaks:
                    book.settle(number, "leaked", "; ".join(map(str, leaks)))

    def _write_prompts(self, name: str, prompts: Sequence[Prompt]) -> Path:
        path = self._folder / "prompts" / f"{name}.jsonl"
        path.parent.mkdir(exist_ok=True)
        rows = ({"prompt": p.text, "domain": p.domain, "id": p.source} for p in prompts)
        write_atomically(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
        return path

    def _job_config(self, book: Book, name: str, champion: Path | None, prompts: Path) -> Config:
        """The configuration of a job: the schedule's own with new prompts, the champion's weights, and its replay."""
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
                for job in book.jobs()
                if job.outcome == "promoted" and job.tokenizer == tokenizer
            ],
            "without": book.forgotten(),
        }
        config = parse_config(data, origin=name)
        refuse_foreign_anchors(config)  # before a job that cannot run is given prompts
        return config

    # ------------------------------------------------------------------------------------- advance

    def _advance(self, book: Book, job: JobRow) -> JobRow:
        """Bring a job to its decision."""
        config = parse_config(job.config, origin=job.name)
        if job.state == "running":
            job = self._play(book, job, config)
        if job.state == "ran":
            job = self._decide(book, job, config)
        return job

    def _play(self, book: Book, job: JobRow, config: Config) -> JobRow:
        result = self._run(config)
        best = result.best
        folder = config.job.paths.version(best.version.round)
        if best.version.round > 0 and not self._models.holds(folder):
            raise ScheduleError(
                f"{job.name}: its best version, {folder}, is not registered as {self._name}; see the "
                "log for what MLflow said. The next tick registers it"
            )
        return book.update_job(
            job.number,
            state="ran",
            stop=result.stop.value,
            best_round=best.version.round,
            score=best.scores.pass_at_1.value,
            score_before=result.history[0].scores.pass_at_1.value,
            accepted_fraction=_accepted_fraction(result),
            output_tokens=_output_tokens(result),
        )

    def _decide(self, book: Book, job: JobRow, config: Config) -> JobRow:
        assert job.best_round is not None
        version = config.job.paths.version(job.best_round)
        outcome: Outcome
        if job.best_round == 0:
            text = "no round was better than the weights the job started from"
            self._models.nothing_gained(f"{job.name}: {text}")
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
                text = (
                    "the gate said yes, but another version is champion: someone moved an alias of the model meanwhile"
                )
                outcome, findings = "refused", [*findings, _finding("champion", False, None, None, text)]
        return book.update_job(job.number, state="decided", outcome=outcome, findings=findings)

    def _failed(self, book: Book, job: JobRow, error: Exception) -> JobRow:
        """Count a failure; the last one decides the job. A registry that is away is no failure of the job's."""
        if isinstance(error, RegistryError):
            log.warning("%s: %s", job.name, error)
            return book.update_job(job.number, findings=[_finding("registry", False, None, None, str(error))])
        attempts, limit = job.attempts + 1, self._config.schedule.attempts
        text = f"{type(error).__name__}: {error}"
        log.warning("%s: attempt %d of %d failed: %s", job.name, attempts, limit, text)
        findings = [_finding("run", False, attempts, limit, text)]
        if attempts < limit:
            return book.update_job(job.number, attempts=attempts, findings=findings)
        return book.update_job(job.number, attempts=attempts, findings=findings, state="decided", outcome="failed")

    def _tell(self, job: JobRow, event: HookEvent, **more: Any) -> tuple[str, ...]:
        message = {"schedule": self._config.job.name, "model": self._name, "job": job.name, **job.as_dict(), **more}
        return tuple(call_hooks(self._config.schedule.hooks, event, message))

    def _health(self, book: Book) -> ScheduleHealth:
        return schedule_health(book.jobs(), self._config.schedule.idle_jobs)

    def _held_out(self) -> list[Problem]:
        if self._problems is None:
            self._problems = [problem for split in held_out(self._config).values() for problem in split]
        return self._problems


def _reached(job: JobRow) -> str:
    """How far a job has come: finished rounds, and answers that are paid for."""
    folder = RootPaths(Path(job.config["job"]["root"])).job(job.name).folder
    try:
        with LedgerReader.open_for_reading(folder) as reader:
            (row,) = reader.query("SELECT count(*) AS answers FROM replies")
            return f"{job.state} {len(reader.state().history)} {row['answers']}"
    except LedgerError:  # none yet, or a damaged one, which running the job will tell of
        return job.state


def _accepted_fraction(result: JobResult) -> float | None:
    played = sum(record.prompts for record in result.history)
    return sum(record.accepted_prompts for record in result.history) / played if played else None


def _output_tokens(result: JobResult) -> float | None:
    found = result.best.scores.estimates["overall"].get("output_tokens")
    return None if found is None else found.value


def _finding(rule: str, passed: bool, value: Any, limit: Any, text: str) -> dict[str, Any]:
    return {"rule": rule, "passed": passed, "value": value, "limit": limit, "text": text}
