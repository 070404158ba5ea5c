"""Every error a user can cause, as one small family.

The command line turns an `SvdError` into one readable message and its `exit_code`; anything else that
escapes is a defect of ours and keeps its traceback. A message states the rule, the value seen, and the
file, line or configuration key to change.
"""

from __future__ import annotations

from typing import ClassVar


class SvdError(Exception):
    """Base of all expected failures. `exit_code` is what the command line exits with."""

    exit_code: ClassVar[int] = 1


class ConfigError(SvdError):
    """A configuration value is missing, unknown or contradicts another one."""

    exit_code = 2


class DataError(SvdError):
    """A data file or row cannot be used; the message names the file and the line."""

    exit_code = 2


class LeakError(DataError):
    """Held-out problems were found among training prompts."""

    exit_code = 3


class ModelError(SvdError):
    """A checkpoint or tokenizer cannot be used as it is."""

    exit_code = 2


class EngineError(SvdError):
    """An engine raised, hung, or returned something other than what was asked of it."""


class ActionError(SvdError, ValueError):
    """An action or a reset option does not fit the environment."""

    exit_code = 2


class TrainingError(SvdError):
    """An update could not be carried out (no usable rows, a loss that is not finite, out of memory)."""


class SandboxError(SvdError):
    """Programs cannot be contained on this machine, so none is run."""


class LedgerError(SvdError):
    """The job's ledger cannot be read or written."""


class NoSuchJobError(LedgerError):
    """A job was named that has no ledger where jobs live."""

    exit_code = 2


class WeightsError(SvdError):
    """A stored policy version is missing or damaged."""


class JobConflictError(SvdError):
    """The job exists under another configuration, or another process is running it."""

    exit_code = 2


class ScheduleError(SvdError):
    """A schedule's own records cannot be read or written, or a scheduled job could not be completed."""


class RegistryError(SvdError):
    """The model registry cannot be reached or used, or does not hold what was asked for."""


class RegistryConflictError(RegistryError):
    """An alias was moved while something was decided about it; nothing was overwritten."""


class GateError(SvdError):
    """An operation was refused by a gate (exit code 3), not by a defect."""

    exit_code = 3


class JobInterrupted(SvdError):
    """The user requested a stop; everything so far is written and the same command continues."""

    exit_code = 130


def first_line(error: BaseException) -> str:
    """The first line of what an error says, at most 500 characters of it; its type where it says nothing."""
    lines = str(error).strip().splitlines()
    return lines[0][:500] if lines else type(error).__name__
