"""Programs that should get through, as scripts and as modules."""

from __future__ import annotations

import pytest

from envs.sandbox.pool import Check, Finding, Sandbox
from svd_loop.contracts import Outcome

SCRIPTS = {
    "input": ("print(int(input()) + 1)", "4\n", "5\n"),
    "main guard": ("import sys\nif __name__ == '__main__':\n    sys.stdout.write(sys.stdin.read())", "a b", "a b"),
    "buffer": ("import sys\nsys.stdout.buffer.write(sys.stdin.buffer.read().upper())", "ab", "AB"),
    "open(0)": ("print(len(open(0).read()))", "abc", "3\n"),
    "size of the input": ("import os\nprint(os.read(0, os.fstat(0).st_size).decode())", "abc", "abc\n"),
    "lines": ("import sys\nfor line in sys.stdin: print(line.strip()[::-1])", "ab\ncd", "ba\ndc\n"),
    "no more input": ("try:\n    input()\nexcept EOFError:\n    print('none')", "", "none\n"),
    "beyond ASCII": ("print(input())", "é\U0001f600\n", "é\U0001f600\n"),
    "exit": ("print(1)\nexit()", "", "1\n"),
    "sys.exit(0)": ("import sys\nprint(1)\nsys.exit(0)", "", "1\n"),
    "thread": ("import threading\nthreading.Thread(target=lambda: print(1)).start()", "", "1\n"),
    "deep recursion in a thread": (
        "import sys, threading\nsys.setrecursionlimit(1 << 20)\nthreading.stack_size(1 << 27)\n"
        "def f(n): return n and 1 + f(n - 1)\n"
        "t = threading.Thread(target=lambda: print(f(50000)))\nt.start()\nt.join()",
        "",
        "50000\n",
    ),
    "output at exit": ("import atexit\natexit.register(print, 1)", "", "1\n"),
    "own stream": (
        "import sys, io\nsys.stdout = io.StringIO()\nprint(1)\nsys.__stdout__.write(sys.stdout.getvalue())",
        "",
        "1\n",
    ),
    "many digits": ("print(10 ** 5000 % 10 ** 4999, len(str(10 ** 5000)))", "", "0 5001\n"),
    "bad bytes": ("import sys\nsys.stdout.buffer.write(b'a\\xff')", "", "a\ufffd"),
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_reads_its_input_and_writes_its_output(sandbox: Sandbox, name: str) -> None:
    source, text, output = SCRIPTS[name]
    assert sandbox.run_script(source, text) == output


@pytest.mark.parametrize(
    ("source", "detail"),
    [
        ("print(1)\nraise ValueError('no')", "ValueError: no"),
        ("print(1)\nimport sys\nsys.exit(3)", "exit status 3"),
        ("print(1)\nimport os\nos.abort()", "ended by signal"),
        ("print(1)\nwhile True: pass", "no end after 1 s"),
        ("import time\nprint(1)\ntime.sleep(9)", "it waited"),
        ("while True: print('x' * 100000)", "File too large"),
        ("print(1", "SyntaxError"),
    ],
)
def test_a_script_that_does_not_end_well_has_no_output(sandbox: Sandbox, source: str, detail: str) -> None:
    found = sandbox.run_script(source, "")
    assert isinstance(found, Finding) and found.outcome is Outcome.WRONG
    assert detail in found.detail or (detail == "SyntaxError" and found.detail)


HONEST = {
    "string annotations": (
        "from __future__ import annotations\nfrom dataclasses import dataclass\nfrom typing import ClassVar\n"
        "@dataclass\nclass P:\n    x: int\n    n: ClassVar[int] = 2",
        "assert P(1).x == 1 and P(1) == P(1) and P(1) != P(2)",
    ),
    "type hints": (
        "import typing\ndef f(x: 'int') -> 'list[int]': ...\ndef g(): return len(typing.get_type_hints(f))",
        "assert g() == 2",
    ),
    "Enum of text": (
        "import enum\nclass C(str, enum.Enum):\n    A = 'a'\ndef f(): return C.A",
        "assert f() == 'a' and f() is C.A and f().value == 'a' and f().name == 'A' and f() in {'a'}",
    ),
    "Enum": (
        "import enum\nclass C(enum.Enum):\n    A = 1\n    B = 2\ndef f(): return C.A",
        "assert f() is C.A and f() != C.B",
    ),
    "Flag": ("import enum\nclass C(enum.IntFlag):\n    A = 1\n    B = 2", "assert (C.A | C.B) == 3"),
    "pickle": ("import pickle\nclass P: x = 3\ndef f(): return pickle.loads(pickle.dumps(P())).x", "assert f() == 3"),
    "its own file": ("import os\ndef f(): return os.path.basename(__file__)", "assert f() == 'solution.py'"),
    "its own module": ("import sys\ndef f(): return sys.modules[__name__].f is f", "assert f()"),
    "its own source": ("import inspect\ndef f(): return inspect.getsource(f)", "assert f().startswith('def f()')"),
    "asyncio": (
        "import asyncio\nasync def g(): await asyncio.sleep(0); return 3\ndef f(): return asyncio.run(g())",
        "assert f() == 3",
    ),
    "threads": (
        "import threading\ndef f():\n    r = []\n    "
        "t = [threading.Thread(target=r.append, args=(n,)) for n in range(4)]\n"
        "    [x.start() for x in t]; [x.join() for x in t]\n    return sorted(r)",
        "assert f() == [0, 1, 2, 3]",
    ),
    "executor": (
        "from concurrent.futures import ThreadPoolExecutor\ndef f():\n    "
        "with ThreadPoolExecutor(2) as e: return list(e.map(abs, [-1, -2]))",
        "assert f() == [1, 2]",
    ),
    "views": ("def f(d): return d.keys()", "assert f({1: 2}) == {1} and list(f({1: 2})) == [1]"),
    "large value": ("def f(n): return 'x' * n", "assert len(f(5_000_000)) == 5_000_000"),
    "large argument": ("def f(x): return len(x)", "assert f(list(range(400_000))) == 400_000"),
    "long integer": ("def f(n): return 10 ** n", "assert f(6000) == 10 ** 6000 and len(str(f(6000))) == 6001"),
    "time zones": (
        "import zoneinfo\ndef f(): return zoneinfo.ZoneInfo('Europe/Berlin').key",
        "assert f() == 'Europe/Berlin'",
    ),
    "cached recursion": (
        "import sys\nfrom functools import lru_cache\nsys.setrecursionlimit(10**6)\n"
        "@lru_cache(None)\ndef f(n): return n and 1 + f(n - 1)",
        "assert f(20000) == 20000",
    ),
    "fractions": (
        "from fractions import Fraction\ndef f(): return Fraction(1, 2)",
        "assert f() == 0.5 and f().numerator == 1",
    ),
    "dates": (
        "from datetime import date, timedelta\ndef f(d): return d + timedelta(1)",
        "import datetime\nassert f(datetime.date(2024, 2, 28)).day == 29",
    ),
    "named tuple": (
        "from collections import namedtuple\nP = namedtuple('P', 'x y')\ndef f(): return P(1, 2)",
        "assert f() == (1, 2) and f().y == 2",
    ),
}


@pytest.mark.parametrize("name", HONEST)
def test_a_right_program_is_right(sandbox: Sandbox, name: str) -> None:
    source, test = HONEST[name]
    found = sandbox.check(Check(source, {"tests": [test], "given": ""}))
    assert found.outcome is Outcome.RIGHT, found.detail
