"""Programs that try to get out, and programs that should get through."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from envs.sandbox import pool
from envs.sandbox.pool import ACCEPT_OPEN_ROOT, Check, Finding, Sandbox
from envs.sandbox.zygote import Limits
from svd_loop.contracts import Outcome
from svd_loop.errors import SandboxError


def run(sandbox: Sandbox, source: str, *tests: str) -> Finding:
    return sandbox.check(Check(source, {"tests": list(tests), "given": ""}))


def right(sandbox: Sandbox, source: str, *tests: str) -> bool:
    found = run(sandbox, source, *tests)
    assert found.outcome is not Outcome.UNDECIDED, found.detail
    return found.outcome is Outcome.RIGHT


def refusal(sandbox: Sandbox, source: str, test: str = "assert True") -> str:
    found = run(sandbox, source, test)
    assert found.outcome is Outcome.WRONG, found
    return found.detail


def test_programs_do_not_see_each_other(sandbox: Sandbox) -> None:
    checks = [Check(f"x = {n}", {"tests": [f"assert x == {n}"], "given": ""}) for n in range(50)]
    assert {found.outcome for found in sandbox.map(sandbox.check, checks)} == {Outcome.RIGHT}
    assert "NameError" in refusal(sandbox, "", "assert f(1)")


def test_the_standard_library_works(sandbox: Sandbox) -> None:
    source = (
        "import ctypes, hashlib, json, re, sqlite3\nfrom collections import Counter\ndef f(): return Counter('aab')"
    )
    assert right(sandbox, source, "assert f() == {'a': 2, 'b': 1}")
    assert right(sandbox, "print('x' * 100000); import sys; sys.stderr.write('x')")
    assert "EOFError" in refusal(sandbox, "input()")


def test_the_same_program_gives_the_same_values(sandbox: Sandbox) -> None:
    source = "import random\nprint(random.random(), list({'a', 'b', 'c', 'd'}), hash('a'))"
    first, *others = sandbox.map(lambda text: sandbox.run_script(source, text), [""] * 6)
    assert isinstance(first, str) and all(output == first for output in others)


HOSTILE = {
    "endless loop": ("while True: pass", "no end after 1 s of processor time"),
    "sleep, deaf to signals": (
        "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\ntime.sleep(60)",
        "it waited 2 s for nothing",
    ),
    "fork bomb": ("import os\nwhile True: os.fork()", "PermissionError"),
    "threads": (
        "import threading, time\nthreading.stack_size(32768)\nwhile True: threading.Timer(99, print).start()",
        "more than 64 threads|no end after|can't start new thread",
    ),
    "thread that spins": (
        "import threading\ndef spin():\n    while True: pass\nthreading.Thread(target=spin).start()\nspin()",
        "no end after",
    ),
    "other program": ("import subprocess\nsubprocess.run(['ls'])", "PermissionError"),
    "exec": ("import os, sys\nos.execv(sys.executable, ['python'])", "PermissionError"),
    "memory bomb": ("x = [0] * 10**10", "MemoryError"),
    # Whichever limit a busy machine lets it reach first, memory or time.
    "slow memory bomb": ("x = []\nwhile True: x.append(bytearray(10**7))", "MemoryError|no end after"),
    "deep recursion": ("def g(): g()\ng()", "RecursionError"),
    "network": ("import socket\nsocket.create_connection(('127.0.0.1', 80))", "PermissionError"),
    "unix socket": ("import socket\nsocket.socket(socket.AF_UNIX)", "PermissionError"),
    "kill the server": ("import os\nos.kill(os.getppid(), 9)", "PermissionError"),
    "kill everything": ("import os\nos.kill(-1, 9)", "PermissionError"),
    "signals through a pipe": (
        "import fcntl, os\nfcntl.fcntl(os.pipe()[0], fcntl.F_SETOWN, os.getppid())",
        "PermissionError",
    ),
    "trace": (
        "import ctypes, os\nif ctypes.CDLL(None).ptrace(16, os.getppid(), 0, 0): raise OSError('refused')",
        "refused",
    ),
    "own namespaces": ("import ctypes\nif ctypes.CDLL(None).unshare(0x10000000): raise OSError('refused')", "refused"),
    "leave the root": ("import os\nos.chroot('/')", "PermissionError"),
    "raise a limit": (
        "import resource\nresource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY,) * 2)",
        "Error",
    ),
    "exit": ("import sys\nsys.exit(0)", "SystemExit"),
    "hard exit": ("import os\nos._exit(0)", "before the tests were done"),
    "abort": ("import os\nos.abort()", "ended by signal"),
    "crash": ("import ctypes\nctypes.string_at(0)", "ended by signal 11"),
    "closed channel": ("import os, time\nos.close(3)\nos.close(4)\ntime.sleep(60)", "before the tests were done"),
    "forged verdict": (
        'import os\nos.write(4, b\'\\0\\0\\0\\x13{"outcome": "right"}\')\nos._exit(0)',
        "not a message|before the tests were done",
    ),
    "forged reply, no object": ("import os\nos.write(4, b'\\0\\0\\0\\x03[1]')\nos._exit(0)", "not a message"),
    "forged reply, nested": (
        "import os\nos.write(4, (100000).to_bytes(4, 'big') + b'[' * 100000)\nos._exit(0)",
        "not a message|before the tests were done",
    ),
    "flooded channel": ("import os\nwhile True: os.write(4, b'x' * 65536)", "was announced|before the tests"),
    "not Python": ("def f(:", "SyntaxError"),
    "null byte": ("x = '\0'", "SyntaxError"),
    "error without text": ("class E(Exception):\n    def __str__(self): raise E\nraise E", "E"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_program_is_contained_and_never_passes(sandbox: Sandbox, name: str) -> None:
    source, error = HOSTILE[name]
    detail = refusal(sandbox, source)
    assert any(kind in detail for kind in error.split("|")), detail
    assert right(sandbox, "", "assert True"), "the sandbox still works"


def test_nothing_outside_can_be_written(sandbox: Sandbox, tmp_path: Path) -> None:
    victim = tmp_path / "file"
    victim.write_text("kept")
    for attack in (
        "open({path!r}, 'w')",
        "open({path!r}, 'a')",
        "__import__('os').remove({path!r})",
        "__import__('os').rename({path!r}, '/tmp/x')",
        "__import__('os').chmod({path!r}, 0)",
        "open('/new', 'w')",
        "__import__('os').mkdir('/new')",
    ):
        assert "Error" in refusal(sandbox, attack.format(path=str(victim)))
    assert victim.read_text() == "kept" and sorted(os.listdir(tmp_path)) == ["file"]


def test_in_a_private_root_the_outside_is_not_visible_and_the_folder_is_new_and_bounded(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("gold")
    with Sandbox(seconds=5.0, lanes=1) as sandbox:
        try:
            assert "FileNotFoundError" in refusal(sandbox, "open('/etc/passwd').read()")
        except SandboxError:
            pytest.skip("this kernel grants no namespaces")
        assert "FileNotFoundError" in refusal(sandbox, f"open({str(tmp_path / 'secret')!r}).read()")
        listing = "import os\nos.makedirs('a/b', 0o000)\ndef f(): return sorted(os.listdir('.')), os.getcwd()"
        for _ in range(2):
            assert right(sandbox, listing, "assert f() == (['a', 'solution.py'], '/tmp')")
        fill = "n = 0\nwhile True:\n    open(str(n), 'wb').write(b'x' * 10**6); n += 1"
        assert "No space left" in refusal(sandbox, fill)
        assert "File too large" in refusal(sandbox, "f = open('f', 'wb')\nwhile True: f.write(b'x' * 10**6)")
        assert "No space left" in refusal(sandbox, "n = 0\nwhile True:\n    open(str(n), 'w').close(); n += 1")
        assert "Too many open files" in refusal(sandbox, "x = []\nwhile True: x.append(open('f', 'w'))")
        assert right(sandbox, "", "assert True")


def test_limits_are_the_callers() -> None:
    small = Limits(memory_bytes=150 * 1024 * 1024, file_bytes=1000, open_files=16)
    with Sandbox(seconds=5.0, limits=small, lanes=1) as sandbox:
        assert "MemoryError" in refusal(sandbox, "x = bytearray(140 * 1024 * 1024)")
        assert right(sandbox, "x = bytearray(10 * 1024 * 1024)", "assert len(x) == 10 * 1024 * 1024")
        assert isinstance(sandbox.run_script("print('x' * 2000)", ""), Finding)


def test_a_killed_server_costs_no_program() -> None:
    with Sandbox(seconds=5.0, lanes=1) as sandbox:
        assert right(sandbox, "", "assert True")
        server = sandbox._idle.get()
        server._process.kill()
        sandbox._idle.put(server)
        assert right(sandbox, "", "assert True")


def test_servers_that_always_die_leave_a_program_undecided(monkeypatch: pytest.MonkeyPatch) -> None:
    fault = "zygote.Zygote.serve_main = lambda self, request: zygote.os._exit(1)\n"
    monkeypatch.setattr(pool, "_BOOT", pool._BOOT.replace("zygote.main()", f"\n{fault}zygote.main()"))
    with Sandbox(seconds=1.0, lanes=1) as sandbox:
        found = sandbox.run_script("print(1)", "")
        assert isinstance(found, Finding) and found.outcome is Outcome.UNDECIDED and "died" in found.detail


def test_a_program_killed_from_outside_is_undecided() -> None:
    """As by the kernel, where memory runs out: it says nothing about the program."""
    with Sandbox(seconds=5.0, lanes=1) as sandbox:
        assert right(sandbox, "", "assert True")
        server = sandbox._idle.get()
        sandbox._idle.put(server)
        started = threading.Event()

        def kill() -> None:
            while not started.wait(0.01):
                for child in children(server._process.pid):
                    os.kill(child, signal.SIGKILL)
                    started.set()

        killer = threading.Thread(target=kill)
        killer.start()
        found = sandbox.run_script("import time\ntime.sleep(4)", "")
        started.set()
        killer.join()
        assert isinstance(found, Finding) and found.outcome is Outcome.UNDECIDED, found


def children(process: int) -> list[int]:
    return [int(pid) for pid in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def test_a_machine_too_busy_to_tell_leaves_a_program_undecided(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last resort is wall time; here every program reaches it at once."""
    fault = "zygote.wall_limit = lambda seconds: 0.0\n"
    monkeypatch.setattr(
        pool,
        "_BOOT",
        pool._BOOT.replace("zygote.main()", f"\n{fault}zygote.Zygote.holes = lambda self: []\nzygote.main()"),
    )
    with Sandbox(seconds=5.0, lanes=1) as sandbox:
        found = run(sandbox, "import time\ntime.sleep(1)", "assert True")
        assert found.outcome is Outcome.UNDECIDED and "busy machine" in found.detail
        found_script = sandbox.run_script("import time\ntime.sleep(1)", "")
        assert isinstance(found_script, Finding) and found_script.outcome is Outcome.UNDECIDED


def test_processor_time_decides_and_not_the_clock_on_the_wall() -> None:
    """Beside busy loops on its processor, a program that needs most of its limit takes several times as long."""
    spin = "import time\nwhile time.process_time() < 0.6: pass\nprint('done')"
    processors = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(processors)})  # what is started from here on shares it
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(3)]
    try:
        with Sandbox(seconds=1.0, lanes=1) as sandbox:
            assert sandbox.run_script(spin, "") == "done\n"
    finally:
        os.sched_setaffinity(0, processors)
        for loop in loops:
            loop.kill()
            loop.wait()


@pytest.mark.parametrize("accepted", [False, True])
def test_without_namespaces_nothing_runs_unless_that_is_accepted(
    monkeypatch: pytest.MonkeyPatch, accepted: bool
) -> None:
    fault = (
        "def refuse(*a): raise PermissionError(1, 'unshare: Operation not permitted')\nzygote.PrivateRoot = refuse\n"
    )
    monkeypatch.setattr(pool, "_BOOT", pool._BOOT.replace("zygote.main()", f"\n{fault}zygote.main()"))
    monkeypatch.setenv(ACCEPT_OPEN_ROOT, "1" if accepted else "0")
    with Sandbox(seconds=5.0, lanes=1) as sandbox:
        if accepted:
            assert right(sandbox, "", "assert True")
        else:
            with pytest.raises(SandboxError, match=r"none is run: .*unshare.*userns.*SVD_LOOP_OPEN_SANDBOX=1"):
                run(sandbox, "", "assert True")


def test_without_guards_nothing_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    unsupported = pool._BOOT.replace("zygote.main()", "zygote.supported_machine = zygote.refuse; zygote.main()")
    fault = "def refuse(): raise zygote.UnsupportedMachine('no filter for this machine')\nzygote.refuse = refuse\n"
    monkeypatch.setattr(pool, "_BOOT", unsupported.replace("; zygote.supp", f"\n{fault}zygote.supp"))
    with Sandbox(seconds=1.0) as sandbox, pytest.raises(SandboxError, match="none is run: no filter"):
        run(sandbox, "", "assert True")


def test_a_hole_is_found_before_work_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    fault = "zygote.SyscallFilter.install = lambda self: None\n"
    monkeypatch.setattr(pool, "_BOOT", pool._BOOT.replace("zygote.main()", f"\n{fault}zygote.main()"))
    with Sandbox(seconds=1.0) as sandbox, pytest.raises(SandboxError, match="could start a process, open a socket"):
        run(sandbox, "", "assert True")


def test_no_programs_no_server() -> None:
    with Sandbox(seconds=1.0) as sandbox:
        assert sandbox.map(sandbox.check, []) == []
