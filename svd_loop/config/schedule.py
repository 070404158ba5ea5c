"""The `schedule` section: retraining on prompts that arrive over time."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from svd_loop.config.base import ModelName, Positive, Section

HookEvent = Literal["success", "refusal", "failure", "idle"]


class HookSection(Section):
    """A command or web address that is called when a scheduled job has ended."""

    on: Annotated[tuple[HookEvent, ...], Field(min_length=1)] = ("success", "refusal", "failure", "idle")
    """Which events it gets: promoted, refused (or nothing gained), failed, and `idle_jobs` in a row without a
    champion."""
    command: tuple[str, ...] | None = None
    """Program and arguments, run without a shell, with one JSON object on standard input."""
    url: str | None = None
    """Address to which the same object is posted."""
    seconds: Annotated[float, Field(gt=0.0)] = 30.0
    """Time limit of one try."""
    tries: Positive = 4
    """Tries for an address, with growing pauses; a command is started once."""

    @model_validator(mode="after")
    def _one_of_two(self) -> HookSection:
        if (self.command is None) == (self.url is None) or self.command == ():
            raise ValueError(
                f"schedule.hooks: a hook has either a command or a url (command: {self.command}, url: {self.url})"
            )
        return self


class EarlierSection(Section):
    """What a job takes over from earlier jobs of its schedule. Written by the schedule, not by hand."""

    jobs: tuple[Annotated[str, Field(pattern=r"^[^@/]+@\d+$")], ...] = ()
    """`JOB@ROUND`: rows this job accepted in rounds 1 to ROUND are replayed, and count as rows of round 0."""
    without: tuple[str, ...] = ()
    """Ids of prompts whose rows are left out."""


class ScheduleSection(Section):
    """Retraining on prompts that arrive over time (`svd-loop schedule`). `svd-loop run` does not use it."""

    min_prompts: Positive = 1000
    """A job starts when this many new prompts are waiting."""
    max_prompts: Positive | None = None
    """At most this many go into one job, oldest first; the rest wait for the next one. null means all."""
    model: ModelName | None = None
    """Registered model whose champion is trained further; null is `tracking.register_as`, or else the job's name."""
    settle_seconds: Annotated[float, Field(ge=0.0)] = 60.0
    """A file in the inbox that changed within this time may still be written to, and is left for later."""
    attempts: Positive = 3
    """Failures after which a job is given up. A kill before the job made any progress counts as a failure, an
    interruption (Ctrl-C, SIGTERM) does not."""
    idle_jobs: Positive | None = 3
    """Jobs in a row without a champion that raise an alarm: the hooks' event `idle`, and exit code 3 of `--once`. null
    never raises it."""
    rounds: Positive | None = None
    """Largest number of rounds of one scheduled job; null is `job.rounds`."""
    hours: Annotated[float, Field(gt=0.0)] | None = None
    """Wall-clock budget of one scheduled job; null is `job.hours`."""
    tokens: Positive | None = None
    """Budget of generated tokens of one scheduled job; null is `job.tokens`."""
    hooks: tuple[HookSection, ...] = ()
    """Commands and web addresses that are called when a job has ended."""
    replay: EarlierSection = EarlierSection()
    """What a job takes over from earlier ones. Written by the schedule, not by hand."""
