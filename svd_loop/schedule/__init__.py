"""Scheduled retraining: prompts arrive in a folder, a job starts when there are enough, a gate decides on promotion.

`inbox` imports files, `state_db` records the state of every prompt and job, `tick` performs the steps that are due,
`cron` runs ticks at given times. A process may be killed at any point; the next tick continues.
"""

from svd_loop.schedule.cron import run_on_cron
from svd_loop.schedule.forgetting import Forgotten, forget
from svd_loop.schedule.health import ScheduleHealth, schedule_health
from svd_loop.schedule.inbox import Inbox, Intake
from svd_loop.schedule.models import Models, RegisteredModels
from svd_loop.schedule.state_db import JobRow, StateDb
from svd_loop.schedule.tick import Schedule, TickReport, schedule_folder

__all__ = [
    "Forgotten",
    "Inbox",
    "Intake",
    "JobRow",
    "Models",
    "RegisteredModels",
    "Schedule",
    "ScheduleHealth",
    "StateDb",
    "TickReport",
    "forget",
    "run_on_cron",
    "schedule_folder",
    "schedule_health",
]
