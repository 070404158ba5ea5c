"""The command line with a death wish: `python -m tests.svd_loop.kill_cli PLACE ARGUMENT...`.

Runs `svd-loop ARGUMENT...`, prints READY when the job's ledger is open, and sends itself SIGKILL the first time it
reaches PLACE (`PLACE*3`: the third time), such as `1/judged`, or never for a place that does not exist. Places of a
round: `sampled`, `judged`, `updated`, `chosen`, `evaluated`, `committed`, `tracked`; `sample/asked` and
`sample/recorded` around the writing of a chunk, likewise `judge`, `canary`, `judge_rows`, `choice` and `evaluate`;
`step-3`, after so many steps of training. Then `stopped` and `finished`. The product has no hooks for this: methods of
the parts are wrapped from outside.
"""

from __future__ import annotations

import functools
import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any

from envs.round_env import SelfVerificationEnv
from envs.solving import SolverAgent
from policies.training import run
from svd_loop import cli
from svd_loop.assembly.backends import ModelBackend
from svd_loop.assembly.scripted_backend import ScriptedBackend
from svd_loop.assembly.step_choice import Checkpoints
from svd_loop.contracts import JobState, Role
from svd_loop.evaluation.evaluation import Evaluator
from svd_loop.ledger import Ledger
from svd_loop.loop.controller import Controller
from svd_loop.mlflow_store.trackers import Trackers

READY = "working"


class Moment:
    """Where the job is; dies where it was told to."""

    def __init__(self, last: str) -> None:
        self.round = 0
        self._place, _, times = last.partition("*")
        self._left = int(times or 1)

    def reached(self, place: str) -> None:
        if place == self._place:
            self._left -= 1
            if not self._left:
                os.kill(os.getpid(), signal.SIGKILL)

    def reached_in_round(self, phase: str) -> None:
        self.reached(f"{self.round}/{phase}")


def watch(moment: Moment) -> None:
    """Wrap the parts so that they tell `moment` what they have done."""
    play, record, opening = Controller.play_round, Ledger.record, Ledger.open

    def play_round(self: Controller, state: JobState) -> JobState:
        moment.round = state.next_round
        return play(self, state)

    def record_chunk(self: Ledger, items: Sequence[Any]) -> None:
        call = items[0][1].id
        playing = "sample" if call.role == Role.SOLVER else "judge"
        known = {"train": playing, "canary": "canary", "judge_rows": "judge_rows", "choice": "choice"}
        phase = known.get(call.purpose, "evaluate")
        moment.reached_in_round(f"{phase}/asked")
        record(self, items)
        moment.reached_in_round(f"{phase}/recorded")

    def open_ledger(*arguments: Any) -> Ledger:
        ledger = opening(*arguments)
        sys.stdout.write(READY + "\n")
        sys.stdout.flush()
        return ledger

    vars_of: Any = Controller
    vars_of.play_round = play_round
    vars_of = Ledger
    vars_of.record, vars_of.open = record_chunk, staticmethod(open_ledger)
    _after(SelfVerificationEnv, "step", lambda options: moment.reached_in_round("judged"))
    _after(SolverAgent, "sample", lambda options: "purpose" in options or moment.reached_in_round("sampled"))
    for backend in (ScriptedBackend, ModelBackend):
        _after(backend, "update", lambda options: moment.reached_in_round("updated"))
    _after(Checkpoints, "keep", lambda options: moment.reached_in_round("chosen"))
    _after(Evaluator, "evaluate", lambda options: moment.reached_in_round("evaluated"))
    _after(Ledger, "commit_round", lambda options: moment.reached_in_round("committed"))
    _after(Ledger, "commit_stop", lambda options: moment.reached("stopped"))
    _after(Trackers, "sync", lambda options: moment.reached_in_round("tracked"))
    _after(Trackers, "finish", lambda options: moment.reached("finished"))
    _watch_training(moment)


def _after(owner: Any, name: str, told: Callable[[dict[str, Any]], object]) -> None:
    original = getattr(owner, name)

    @functools.wraps(original)
    def watched(*arguments: Any, **options: Any) -> Any:
        outcome = original(*arguments, **options)
        told(options)
        return outcome

    setattr(owner, name, watched)


def _watch_training(moment: Moment) -> None:
    keep = run.keep

    def watched(trainer: Any, task: Any, items: int, step: int, on_step: Callable[[int], None]) -> None:
        keep(trainer, task, items, step, on_step)
        moment.reached_in_round(f"step-{step}")

    module: Any = run  # before `preference_run` is imported, which takes the function from here
    module.keep = watched


if __name__ == "__main__":
    watch(Moment(sys.argv.pop(1)))
    cli.main()
