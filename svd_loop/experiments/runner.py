"""Run all plays of a sweep, several seeds in parallel; can be resumed at any point.

The arms of a seed share answers, so they run one after the other, and different seeds run in parallel. So no answer is
generated twice. Processes beyond the number of seeds stay idle.
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
"""Name of the file with all results, in the sweep's folder."""


def run_sweep(
    plan: Plan, *, jobs: int = 1, on_result: Callable[[ArmResult], None] = lambda result: None
) -> list[ArmResult]:
    """Run the plays that have no result yet; return all results of the plan, in its order.

    Args:
        plan: what to play.
        jobs: number of parallel processes.
        on_result: called after each play, on any thread, never concurrently.

    Raises:
        JobInterrupted: Ctrl-C; finished plays are stored and the same command continues.
        SvdError: some plays failed, each is listed; all others are finished and stored.
    """
    runner = _Runner(on_result)
    with _pool(plan, jobs) as pool, ThreadPoolExecutor(len(plan.seeds)) as threads:
        by_seed = [[item for item in plan.plays if item.seed == seed] for seed in plan.seeds]
        done = [threads.submit(runner.seed, pool, items) for items in by_seed]
        try:
            for future in done:
                future.result()
        except KeyboardInterrupt:  # the workers get the signal too and stop after their chunk
            runner.stop.set()
    if runner.stop.is_set():
        raise JobInterrupted("stopped on request; everything so far is written; the same command continues from here")
    results = [found for item in plan.plays if (found := stored(item.folder / RESULTS, item.name)) is not None]
    if results:
        collect(results, plan.folder / COLLECTION)
    if runner.failures:
        failed = "\n".join(f"  {name}: {error}" for name, error in runner.failures)
        raise SvdError(
            f"{len(runner.failures)} of {len(plan.plays)} plays failed; the others are stored, and the same "
            f"command plays these again:\n{failed}"
        )
    return results


class _Runner:
    """State that the threads of a run share."""

    def __init__(self, on_result: Callable[[ArmResult], None]) -> None:
        self.stop = threading.Event()
        self.failures: list[tuple[str, str]] = []
        self._on_result = on_result
        self._lock = threading.Lock()

    def seed(self, pool: ProcessPoolExecutor, items: Sequence[Play]) -> None:
        """Run the plays of one seed in order; one that depends on a failed play fails too."""
        failed: set[str] = set()
        for item in items:
            if self.stop.is_set():
                return
            if item.section.accepts_as in failed:
                self._fail(item, f"depends on {item.section.accepts_as}", failed)
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
    """Start worker processes by spawning, because they hold engines and signal handlers of their own."""
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
    """Prepare a worker: log errors only, ignore Ctrl-C between plays (a play handles it), end with the parent."""
    from svd_loop.support.allocator import let_threads_sleep

    threading.Thread(target=_end_with_parent, name="end-with-parent", daemon=True).start()

    let_threads_sleep()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logging.getLogger("svd_loop").setLevel(logging.ERROR)


def _end_with_parent() -> None:
    """End the process when its parent ends; otherwise it would continue next to a repeated command."""
    parent = parent_process()
    assert parent is not None, "called in a worker"
    parent.join()
    os._exit(1)
