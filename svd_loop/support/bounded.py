"""Run third-party Python code, such as a chat template, with a time limit."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from typing import TypeVar

Result = TypeVar("Result")


class OverrunError(Exception):
    """The code did not end in time."""


def run_bounded(function: Callable[[], Result], seconds: float) -> Result:
    """Return the result of `function`; stop it between two bytecode instructions when it takes too long.

    A second thread raises the error in this one, which works in any thread and for code that runs as Python bytecode
    (a compiled template does); a single call into a C library is not interrupted.

    Args:
        function: takes no arguments.
        seconds: wall time; must be far longer than the work takes on a busy machine.

    Raises:
        OverrunError: it did not end.
    """
    caller = threading.get_ident()
    done = threading.Lock()
    over = False

    def stop() -> None:
        nonlocal over
        with done:
            if not over:
                over = True
                ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(caller), ctypes.py_object(OverrunError))

    timer = threading.Timer(seconds, stop)
    timer.daemon = True
    timer.start()
    try:
        return function()
    finally:
        with done:
            over = True
        timer.cancel()
