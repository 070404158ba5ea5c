"""The tests' own processes: what they say of a command is what the command did, and none outlives the tests."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

import pytest

from tests.processes import Process, run

ROOT = Path(__file__).parents[1]


def test_a_command_has_its_own_output_arguments_and_exit_code(tmp_path: Path) -> None:
    code = "import os, sys; print(sys.argv[1:], os.getcwd()); print('no', file=sys.stderr); sys.exit(3)"
    done = run([sys.executable, "-c", code, "a", "b"], cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (3, f"['a', 'b'] {tmp_path}\n", "no\n")


def test_an_error_nobody_catches_is_a_failure_with_a_traceback() -> None:
    done = run([sys.executable, "-c", "raise ValueError('why')"])
    assert done.returncode == 1 and "Traceback" in done.stderr and "ValueError: why" in done.stderr


def test_what_is_to_be_done_at_the_end_is_done() -> None:
    done = run([sys.executable, "-c", "import atexit; atexit.register(print, 'last')"])
    assert (done.returncode, done.stdout) == (0, "last\n")


def test_a_module_is_run_as_the_main_one() -> None:
    assert run([sys.executable, "-m", "svd_loop.cli", "--version"]).stdout.startswith("svd-loop ")


def test_it_can_be_read_while_it_runs_and_killed() -> None:
    code = "import signal; print('there', flush=True); signal.pause()"
    with Process([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == "there\n"
        assert process.returncode is None and os.getsid(process.pid) == process.pid
        process.send_signal(signal.SIGKILL)
        assert process.wait(60) == -signal.SIGKILL


def test_one_that_takes_too_long_is_killed() -> None:
    with pytest.raises(subprocess.TimeoutExpired):
        run([sys.executable, "-c", "import signal; signal.pause()"], timeout=0.1)


SERVER = """
import os, subprocess, sys, time
child = subprocess.Popen(["sleep", "600"])
with open(sys.argv[1] + ".tmp", "w") as file:
    print(os.getpid(), child.pid, file=file)
os.rename(sys.argv[1] + ".tmp", sys.argv[1])
time.sleep(600)
"""
GUARDED = """
import os, subprocess, sys, time
from tests.guard import guarded
subprocess.Popen(guarded([sys.executable, "-c", *sys.argv[1:]]), start_new_session=True)
time.sleep(600)
"""
LEFT_BEHIND = """
import os, subprocess, sys, time
from tests.guard import TESTS
os.environ[TESTS] = str(os.getpid())
start = "import subprocess, sys; from tests.guard import guarded\\n"
start += "subprocess.Popen(guarded([sys.executable, '-c', *sys.argv[1:]]), start_new_session=True)"
subprocess.run([sys.executable, "-c", start, *sys.argv[1:]], check=True)
time.sleep(600)
"""
FORKED = """
import sys, time
from tests import processes
processes.FOR_COMMANDS.set_forkserver_preload([])
process = processes.Process([sys.executable, "-c", sys.argv[1].replace("child.pid", "os.getpid()"), sys.argv[2]])
time.sleep(600)
"""


def living(pids: Iterable[int]) -> list[int]:
    """Those that are not yet dead; nobody may be there to ask for the exit code of one that is."""
    found = []
    for pid in pids:
        with suppress(OSError):
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
                found.append(pid)
    return found


def wait_until(done: Callable[[], bool]) -> None:
    """Up to a minute."""
    deadline = time.monotonic() + 60
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("program", [GUARDED, LEFT_BEHIND, FORKED], ids=["server", "server of a command", "fork"])
def test_what_the_tests_have_started_ends_with_them(program: str, ending: signal.Signals, tmp_path: Path) -> None:
    told = tmp_path / "pids"
    tests = subprocess.Popen([sys.executable, "-c", program, SERVER, str(told)], cwd=ROOT)
    wait_until(lambda: told.exists() or tests.poll() is not None)
    pids = [int(pid) for pid in told.read_text().split()]
    assert living(pids) == pids
    tests.send_signal(ending)
    assert tests.wait(60) == -ending
    wait_until(lambda: not living(pids))
