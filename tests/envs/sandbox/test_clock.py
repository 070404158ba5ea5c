from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from envs.sandbox.clock import Clock


@contextmanager
def process(work: Callable[[], object]) -> Iterator[int]:
    child = os.fork()
    if child == 0:
        try:
            work()
        finally:
            os._exit(0)
    try:
        yield child
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def spin() -> None:
    while True:
        pass


def test_a_process_that_sleeps_is_idle_and_spends_nothing() -> None:
    proc = os.open("/proc", os.O_RDONLY)
    with process(lambda: time.sleep(60)) as child:
        clock = Clock(proc, [child])
        time.sleep(0.5)
        assert clock.idle() > 0.3 and clock.processor(child) < 0.2
    os.close(proc)


def test_a_process_that_works_or_waits_for_a_processor_is_not_idle() -> None:
    proc = os.open("/proc", os.O_RDONLY)
    with process(spin) as child, process(spin), process(spin), process(spin):
        clock = Clock(proc, [child])
        while clock.processor(child) < 0.3:
            time.sleep(0.05)
        assert clock.idle() < 0.3 * clock.wall + 0.1
    os.close(proc)


def test_without_proc_nothing_is_said_about_waiting() -> None:
    with process(lambda: time.sleep(60)) as child:
        clock = Clock(None, [child])
        time.sleep(0.1)
        assert clock.idle() == 0.0 and clock.threads == 1


def test_a_process_that_has_ended_keeps_what_it_spent() -> None:
    with process(lambda: None) as child:
        clock = Clock(None, [child])
        time.sleep(0.05)
        assert clock.processor(child) >= 0.0
    assert clock.processor(child) >= 0.0
