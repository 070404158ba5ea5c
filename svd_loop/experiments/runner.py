"""All plays of a sweep, several seeds side by side, resumable at any point.

The arms of a seed share answers, so they are played one after the other, and what runs side by side are seeds: this
way nothing is ever paid for twice. More processes than seeds stay idle.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context, parent_process

from svd_loop.errors import JobInterrupted, SvdError
from svd_loop.experiments.plan import Plan, Play
from svd_loop.experiments.play import RESULTS, play
from svd_loop.experiments.results import ArmResult, collect, stored

log = logging.getLogger(__name__)

COLLECTION = "results.json"
"""All results of a sweep, within its folder."""


def run_sweep(
    plan: Plan, *, jobs: int = 1, on_result: Callable[[ArmResult], None] = lambda result: None
) -> list[ArmResult]:
    """Play what has not been played yet; returns all results of the plan, in its order.

    Args:
        plan: what to play.
        jobs: processes at a time.
        on_result: called after each play, on any thread, one at a time.

    Raises:
        JobInterrupted: Ctrl-C; what is finished is kept and the same command goes on.
        SvdError: plays that failed, each named; all others are finished and kept.
    """
    runner = _Runner(on_result)
    with _pool(plan, jobs) as pool, ThreadPoolExecutor(len(plan.seeds)) as threads:
        by_seed = [[item for item in plan.plays if item.seed == seed] for seed in plan.seeds]
        done = [threads.submit(runner.seed, pool, items) for items in by_seed]
        try:
            for future in done:
                future.result()
        except KeyboardInterrupt:  # the workers got the signal too and stop after their batch
            runner.stop.set()
    if runner.stop.is_set():
        raise JobInterrupted("stopped on request; everything so far is written, the same command goes on from here")
    results = [found for item in plan.plays if (found := stored(item.folder / RESULTS, item.name)) is not None]
    if results:
        collect(results, plan.folder / COLLECTION)
    if runner.failures:
        failed = "\n".join(f"  {name}: {error}" for name, error in runner.failures)
        raise SvdError(
            f"{len(runner.failures)} of {len(plan.plays)} plays failed; the others are kept, and the same "
            f"command plays these again:\n{failed}"
        )
    return results


class _Runner:
    """What the threads of a run share."""

    def __init__(self, on_result: Callable[[ArmResult], None]) -> None:
        self.stop = threading.Event()
        self.failures: list[tuple[str, str]] = []
        self._on_result = on_result
        self._lock = threading.Lock()

    def seed(self, pool: ProcessPoolExecutor, items: Sequence[Play]) -> None:
        """The plays of one seed, one after the other; one that waits for a play that failed fails with it."""
        failed: set[str] = set()
        for item in items:
            if self.stop.is_set():
                return
            if item.section.accepts_as in failed:
                self._fail(item, f"waits for {item.section.accepts_as}", failed)
                continue
            try:
                result = pool.submit(play, item).result()
            except JobInterrupted:
                self.stop.set()
            except SvdError as error:
                self._fail(item, f"{type(error).__name__}: {error}", failed)
            except BrokenProcessPool:
                self._fail(item, "its process died (out of memory, or killed)", failed)
            else:
                with self._lock:
                    self._on_result(result)

    def _fail(self, item: Play, reason: str, failed: set[str]) -> None:
        failed.add(item.arm)
        with self._lock:
            self.failures.append((item.name, reason))


@contextmanager
def _pool(plan: Plan, jobs: int) -> Iterator[ProcessPoolExecutor]:
    """Worker processes, started afresh: they hold engines and signal handlers of their own."""
    workers = max(1, min(jobs, len(plan.seeds)))
    threads = str(plan.section.threads)
    saved = {name: os.environ.get(name) for name in _THREADS}
    os.environ.update(dict.fromkeys(_THREADS, threads))  # read when a worker loads its libraries
    try:
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_prepare) as pool:
            yield pool
    finally:
        for name, value in saved.items():
            os.environ.pop(name, None) if value is None else os.environ.__setitem__(name, value)


_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")


def _prepare() -> None:
    """In a worker: quiet, deaf to Ctrl-C between plays (a play listens itself), and gone when its parent is."""
    from svd_loop.support.allocator import let_threads_sleep

    threading.Thread(target=_end_with_parent, name="end-with-parent", daemon=True).start()

    let_threads_sleep()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logging.getLogger("svd_loop").setLevel(logging.ERROR)


def _end_with_parent() -> None:
    """A worker whose parent was killed would play on beside the command that goes on."""
    parent = parent_process()
    assert parent is not None, "called in a worker"
    parent.join()
    os._exit(1)
