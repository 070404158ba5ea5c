"""`accelerate launch` whose training processes are its forks: `python -m tests.policies.training.forking_launcher ...`.

The launcher starts each as a new interpreter, which imports torch and the training libraries again: eight seconds of
processor time. Here a process becomes the same command in a fork, in a session of its own, with the variables the
launcher gives it. Nothing else of the launcher is changed.
"""

from __future__ import annotations

import atexit
import os
import runpy
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from accelerate.commands.launch import main
from torch.distributed.elastic.multiprocessing.subprocess_handler import SubprocessHandler


class Forked:
    """The part of `subprocess.Popen` that the launcher uses, for `python [-u] -m MODULE ARGUMENT... FOLDER`.

    Its process id is in the folder, in the file `pid-` with its rank, or `pid-launcher`.

    Args:
        command: the command line.
        environment: its environment variables.
        redirect: called in the fork, before it becomes the command.
    """

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        redirect: Callable[[], None] = lambda: None,
    ) -> None:
        _, module, *arguments = command[command.index("-m") :]
        self.returncode: int | None = None
        self.pid = os.fork()
        if self.pid == 0:
            redirect()
            os._exit(_become(module, arguments, environment))
        Path(arguments[-1], f"pid-{environment.get('RANK', 'launcher')}").write_text(str(self.pid))

    def poll(self) -> int | None:
        """Its exit code, or minus the signal that ended it; None while it runs."""
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.returncode = os.waitstatus_to_exitcode(status) if pid else None
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end.

        Raises:
            subprocess.TimeoutExpired: it still runs.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while (code := self.poll()) is None:
            if deadline is not None and time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(str(self.pid), timeout or 0.0)
            time.sleep(0.02)
        return code


def _become(module: str, arguments: Sequence[str], environment: Mapping[str, str]) -> int:
    os.setsid()
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = [module, *arguments]
    code: object = 0
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
        atexit._run_exitfuncs()
    except SystemExit as end:
        code = end.code
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    return code if isinstance(code, int) else int(code is not None)


if __name__ == "__main__":
    SubprocessHandler._popen = lambda self, args, env: Forked(args, env)
    main()
