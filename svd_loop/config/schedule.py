"""The `schedule` section: retraining on prompts that arrive over time."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from svd_loop.config.base import ModelName, Positive, Section

HookEvent = Literal["success", "refusal", "failure", "idle"]


class HookSection(Section):
    """Someone to tell how a scheduled job ended: a command or a web address."""

    on: Annotated[tuple[HookEvent, ...], Field(min_length=1)] = ("success", "refusal", "failure", "idle")
    """Which ends to tell of: promoted, refused (or nothing gained), failed; and that `idle_jobs` in a row brought
    nothing."""
    command: tuple[str, ...] | None = None
    """Program and arguments, started without a shell; it gets one JSON object on standard input."""
    url: str | None = None
    """Address that gets the same object as a POST."""
    seconds: Annotated[float, Field(gt=0.0)] = 30.0
    """Time limit of one try."""
    tries: Positive = 4
    """How often an address is tried, with growing pauses; a command is started once."""

    @model_validator(mode="after")
    def _one_of_two(self) -> HookSection:
        if (self.command is None) == (self.url is None) or self.command == ():
            raise ValueError(
                f"schedule.hooks: a hook has either a command or a url (command: {self.command}, url: {self.url})"
            )
        return self


class EarlierSection(Section):
    """What a job takes over from earlier jobs of its schedule; the schedule itself fills this in."""

    jobs: tuple[Annotated[str, Field(pattern=r"^[^@/]+@\d+$")], ...] = ()
    """`JOB@ROUND`: rows this job accepted in rounds 1 to ROUND are replayed, and count as rows of round 0."""
    without: tuple[str, ...] = ()
    """Ids of prompts whose rows are left out."""


class ScheduleSection(Section):
    """Retraining on prompts that arrive over time (`svd-loop schedule`). A plain `svd-loop run` needs none of it."""

    min_prompts: Positive = 1000
    """A job starts when so many new prompts wait."""
    max_prompts: Positive | None = None
    """At most so many go into one job, oldest first, and the rest wait for the next; null means all."""
    model: ModelName | None = None
    """Registered model whose champion is trained further; null is `tracking.register_as`, or else the job's name."""
    settle_seconds: Annotated[float, Field(ge=0.0)] = 60.0
    """A file in the inbox that changed within so many seconds may still be written to and is left for later."""
    attempts: Positive = 3
    """A job that fails so often is given up. A process that was killed before the job got any further counts as a
    failure, one that was interrupted (Ctrl-C, SIGTERM) does not."""
    idle_jobs: Positive | None = 3
    """When so many jobs in a row made no champion, an alarm is raised: the hooks' event `idle`, and exit code 3 of
    `--once`; null never raises it."""
    rounds: Positive | None = None
    """Largest number of rounds of one scheduled job; null is `job.rounds`."""
    hours: Annotated[float, Field(gt=0.0)] | None = None
    """Wall-clock budget of one scheduled job; null is `job.hours`."""
    tokens: Positive | None = None
    """Budget of generated tokens of one scheduled job; null is `job.tokens`."""
    hooks: tuple[HookSection, ...] = ()
    """Who is told how a job ended."""
    replay: EarlierSection = EarlierSection()
    """What a job takes over from earlier ones; written by the schedule, not by hand."""
