"""A program in a process of its own: answers, notices, and every way to go wrong, with programs of a few lines."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from svd_loop.errors import EngineError
from svd_loop.support.child_process import Child, gather

PROGRAM = """
import os, subprocess, sys, time
from multiprocessing.connection import Connection
from svd_loop.support.child_process import die_with_parent
die_with_parent()
pipe = Connection(int(sys.argv[1]))
print("ready to serve", file=sys.stderr, flush=True)
while True:
    try:
        word, data = pipe.recv()
    except EOFError:
        sys.exit(0)
    if word == "double":
        for value in data:
            pipe.send(("notice", value))
        pipe.send(("answer", [2 * value for value in data]))
    elif word == "exit":
        print("no more memory", file=sys.stderr, flush=True)
        sys.exit(data)
    elif word == "fail":
        pipe.send(("failed", data))
    elif word == "sleep":
        time.sleep(data)
    elif word == "helper":
        pipe.send(("answer", subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]).pid))
"""


@contextmanager
def program() -> Iterator[Child]:
    child = Child([sys.executable, "-c", PROGRAM], {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}, "echo")
    try:
        yield child
    finally:
        child.close(at_once=True)


def ask(child: Child, word: str, data: object, seconds: float = 60.0) -> object:
    child.send(word, data)
    return gather([child], seconds)[0]


def is_gone(pid: int) -> bool:
    """Ended; one that nobody has waited for yet counts."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_answers_come_in_the_order_of_the_children_and_notices_are_passed_on() -> None:
    notices: list[int] = []
    with program() as one, program() as other:
        one.send("double", [1, 2, 3])
        other.send("double", [40])
        assert gather([other, one], 60.0, notices.append) == [[80], [2, 4, 6]]
        assert ask(one, "double", [5]) == [10]
    assert sorted(notices) == [1, 2, 3, 40]


@pytest.mark.parametrize(
    ("word", "data", "message"),
    [
        ("exit", 3, "echo ended with exit code 3; its last words:\nready to serve\nno more memory"),
        ("fail", "ValueError: bad", "echo failed: ValueError: bad; its last words:\nready to serve"),
    ],
)
def test_a_program_that_gives_up_is_quoted(word: str, data: object, message: str) -> None:
    with program() as child, pytest.raises(EngineError) as caught:
        ask(child, word, data)
    assert str(caught.value) == message


def test_a_kill_is_named_and_the_next_request_is_refused() -> None:
    with program() as child:
        ask(child, "double", [])
        child.send("sleep", 600)
        os.kill(child.pid, signal.SIGKILL)
        with pytest.raises(EngineError, match=r"was ended by SIGKILL \(out of memory\?\)"):
            gather([child], 60.0)
        with pytest.raises(EngineError, match="SIGKILL"):
            ask(child, "double", [1])


def test_silence_is_an_error() -> None:
    with program() as child, pytest.raises(EngineError, match=r"gave no sign for 0\.2 s"):
        ask(child, "sleep", 600, seconds=0.2)


def test_closing_ends_what_the_program_started_and_may_be_repeated() -> None:
    with program() as child:
        helper = ask(child, "helper", None)
        assert isinstance(helper, int)
        child.close()
        child.close()
        assert is_gone(child.pid)
        assert is_gone(helper)


def test_a_program_does_not_outlive_its_parent() -> None:
    parent = (
        "import os, sys\nfrom svd_loop.support.child_process import Child, gather\n"
        f"child = Child([sys.executable, '-c', {PROGRAM!r}], os.environ, 'echo')\n"
        "child.send('double', [])\ngather([child], 60.0)\nchild.send('sleep', 600)\n"
        "print(child.pid, flush=True)\nos.kill(os.getpid(), 9)\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", parent], capture_output=True, text=True, env=environment, check=False)
    pid = int(done.stdout)
    deadline = time.monotonic() + 60
    while not is_gone(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert is_gone(pid)


def test_a_program_that_cannot_be_started_is_an_error() -> None:
    with pytest.raises(EngineError, match="cannot be started"):
        Child(["/no/such/program"], {}, "echo")
