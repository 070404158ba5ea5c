"""Programs that try to get out, and programs that should get through."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from envs.sandbox import pool
from envs.sandbox.pool import Outcome, Program, Sandbox
from envs.sandbox.zygote import Limits
from svd_loop.errors import SandboxError


@pytest.fixture(scope="module", params=[True, False], ids=["private root", "no private root"])
def sandbox(request: pytest.FixtureRequest) -> Iterator[Sandbox]:
    with Sandbox(seconds=1.0, private_root=request.param) as sandbox:
        yield sandbox


def run(sandbox: Sandbox, source: str, *expressions: str) -> Outcome:
    return sandbox.run([Program(source, tuple(("value", text) for text in expressions))])[0]


def test_values_come_back_in_order_and_programs_do_not_see_each_other(sandbox: Sandbox) -> None:
    programs = [Program(f"def f(x):\n    return x + {n}", (("value", "f(1)"), ("value", "f(2)"))) for n in range(50)]
    assert [outcome.values for outcome in sandbox.run(programs)] == [(n + 1, n + 2) for n in range(50)]
    assert "NameError" in str(run(sandbox, "", "f(1)").error)


def test_the_standard_library_works(sandbox: Sandbox) -> None:
    source = "import ctypes, hashlib, json, re, sqlite3, random\nfrom collections import Counter"
    assert run(sandbox, source, "hashlib.md5(b'x').hexdigest()[:4]", "Counter('aab')").error is None
    assert run(sandbox, "print('x' * 100000); import sys; sys.stderr.write('x')", "1").values == (1,)
    assert "EOFError" in str(run(sandbox, "input()").error)


def test_the_same_program_gives_the_same_values(sandbox: Sandbox) -> None:
    program = Program("import random", (("value", "random.random()"), ("value", "list({'a', 'b', 'c', 'd'})")))
    first, *others = sandbox.run([program] * 6)
    assert first.error is None and all(outcome == first for outcome in others)


HOSTILE = {
    "endless loop": ("while True: pass", "no end after 1 s"),
    "sleep, deaf to signals": (
        "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\ntime.sleep(60)",
        "no end after 1 s",
    ),
    "fork bomb": ("import os\nwhile True: os.fork()", "PermissionError"),
    "thread": ("import threading\nthreading.Thread(target=print).start()", "RuntimeError"),
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
    "closed report": ("import os, time\nos.close(3)\ntime.sleep(60)", "before the tests were done"),
    "forged report": (
        'import os\nos.write(3, b\'{"values": [1], "token": "0"}\')\nos._exit(0)',
        "did not get to the end",
    ),
    "forged report, no object": ("import os\nos.write(3, b'[1]')\nos._exit(0)", "not readable"),
    "forged report, nested": ("import os\nos.write(3, b'[' * 100000)\nos._exit(0)", "not readable"),
    "flooded report": ("import os\nwhile True: os.write(3, b'x' * 65536)", "larger than"),
    "not Python": ("def f(:", "SyntaxError"),
    "null byte": ("x = '\0'", "SyntaxError"),
    "error without text": ("class E(Exception):\n    def __str__(self): raise E\nraise E", "E"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_program_is_contained_and_never_passes(sandbox: Sandbox, name: str) -> None:
    source, error = HOSTILE[name]
    outcome = run(sandbox, source, "1")
    assert outcome.values == () and any(kind in str(outcome.error) for kind in error.split("|"))
    assert run(sandbox, "", "1").values == (1,), "the sandbox still works"


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
        assert "Error" in str(run(sandbox, "", attack.format(path=str(victim))).error)
    assert victim.read_text() == "kept" and sorted(os.listdir(tmp_path)) == ["file"]


def test_values_beyond_the_limit_and_opaque_values_are_errors(sandbox: Sandbox) -> None:
    assert "larger than" in str(run(sandbox, "", "'x' * 2_000_000").error)
    assert "not a plain value" in str(run(sandbox, "", "object()").error)
    assert "ValueError" in str(run(sandbox, "", "10 ** 5000").error)


def test_a_replaced_builtin_does_not_skip_a_statement(sandbox: Sandbox) -> None:
    replaced = "builtins.exec = builtins.eval = builtins.compile = lambda *a, **k: None"
    source = f"import builtins\n{replaced}\nbuiltins.AssertionError = None"
    outcome = sandbox.run([Program(source, (("statement", "assert 1 == 2"),))])[0]
    assert "AssertionError" in str(outcome.error)


def test_in_a_private_root_the_outside_is_not_visible_and_the_folder_is_new_and_bounded(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("gold")
    with Sandbox(seconds=5.0, lanes=1) as sandbox:
        if "FileNotFoundError" not in str(run(sandbox, "", "open('/etc/passwd').read()").error):
            pytest.skip("this kernel grants no namespaces")
        assert "FileNotFoundError" in str(run(sandbox, "", f"open({str(tmp_path / 'secret')!r}).read()").error)
        write = "open('left', 'w').write('x'); import os; os.makedirs('a/b', 0o000)"
        assert run(sandbox, write, "sorted(os.listdir('.'))").values == (["a", "left"],)
        assert run(sandbox, "import os", "os.listdir('.')", "os.getcwd()").values == ([], "/tmp")
        fill = "n = 0\nwhile True:\n    open(str(n), 'wb').write(b'x' * 10**6); n += 1"
        assert "No space left" in str(run(sandbox, fill).error)
        assert "File too large" in str(run(sandbox, "f = open('f', 'wb')\nwhile True: f.write(b'x' * 10**6)").error)
        assert "No space left" in str(run(sandbox, "n = 0\nwhile True:\n    open(str(n), 'w').close(); n += 1").error)
        assert "Too many open files" in str(run(sandbox, "x = []\nwhile True: x.append(open('f', 'w'))").error)
        assert run(sandbox, "", "1").values == (1,)


def test_limits_are_the_callers() -> None:
    small = Limits(memory_bytes=100 * 1024 * 1024, file_bytes=1000, open_files=16)
    with Sandbox(seconds=5.0, limits=small, lanes=1) as sandbox:
        assert "MemoryError" in str(run(sandbox, "x = bytearray(90 * 1024 * 1024)").error)
        assert run(sandbox, "x = bytearray(10 * 1024 * 1024)", "len(x)").values == (10 * 1024 * 1024,)


def test_a_killed_server_costs_one_program() -> None:
    with Sandbox(seconds=5.0, lanes=1) as sandbox:
        assert run(sandbox, "", "1").values == (1,)
        server = sandbox._idle.get()
        server._process.kill()
        sandbox._idle.put(server)
        assert "server died" in str(run(sandbox, "", "1").error)
        assert run(sandbox, "", "1").values == (1,)


def test_without_guards_nothing_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    unsupported = pool._BOOT.replace("zygote.main()", "zygote.supported_machine = zygote.refuse; zygote.main()")
    fault = "def refuse(): raise zygote.UnsupportedMachine('no filter for this machine')\nzygote.refuse = refuse\n"
    monkeypatch.setattr(pool, "_BOOT", unsupported.replace("; zygote.supp", f"\n{fault}zygote.supp"))
    with Sandbox(seconds=1.0) as sandbox, pytest.raises(SandboxError, match="none is run: no filter"):
        run(sandbox, "", "1")


def test_a_hole_is_found_before_work_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    fault = "zygote.SyscallFilter.install = lambda self: None\n"
    monkeypatch.setattr(pool, "_BOOT", pool._BOOT.replace("zygote.main()", f"\n{fault}zygote.main()"))
    with Sandbox(seconds=1.0) as sandbox, pytest.raises(SandboxError, match="could start a process, open a socket"):
        run(sandbox, "", "1")


def test_no_programs_no_server() -> None:
    with Sandbox(seconds=1.0) as sandbox:
        assert sandbox.run([]) == []
