"""Scheduled retraining: prompts arrive in a folder, a job starts when enough have come, a gate decides what goes live.

`inbox` takes files in, `book` remembers what became of every prompt and job, `tick` does whatever is due, `cron` calls
it at the given times. Everything can be killed anywhere and goes on at the next tick.
"""

from svd_loop.schedule.cron import run_on_cron
from svd_loop.schedule.forgetting import Forgotten, forget
from svd_loop.schedule.health import ScheduleHealth, schedule_health
from svd_loop.schedule.inbox import Inbox, Intake
from svd_loop.schedule.models import Models, RegisteredModels
from svd_loop.schedule.state_db import Book, JobRow
from svd_loop.schedule.tick import Schedule, TickReport, schedule_folder

__all__ = [
    "Book",
    "Forgotten",
    "Inbox",
    "Intake",
    "JobRow",
    "Models",
    "RegisteredModels",
    "Schedule",
    "ScheduleHealth",
    "TickReport",
    "forget",
    "run_on_cron",
    "schedule_folder",
    "schedule_health",
]
