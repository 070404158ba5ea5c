"""Programs that try to score without an answer, to end the scoring of others, or to outlive it.

    python -m benchmarks.hostile_programs --count 2000 --seed 0

Every program is generated and scored on problems of every kind of test, right programs among them. None may be found
right, every right one must be, and when scoring is over no process may be left. Prints one JSON object; exit code 1
where something failed, with the programs that did.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from envs.domains import coding
from envs.prompts.program_tests import CallTest, ScriptTest, to_text
from svd_loop.contracts import Domain, Outcome, Problem

_WEIRD: tuple[Any, ...] = (
    *(None, True, 0, -1, 1.5, "", "x" * 5000, [], {}, [[]], {"a": 1}, {"a": 1, "b": 2}, "\ud800", 10**30),
    *({"int": "zz"}, {"int": 5}, {"set": [[1]]}, {"dict": [[1]]}, {"dict": 3}, {"complex": "x"}, {"bytes": "\u1234"}),
    *({"object": 1}, {"object": {"number": "a"}}, {"object": {"number": 1, "exception": ["SystemExit"]}}),
    *({"object": {"number": 2, "exception": []}}, {"object": {"number": 3, "base": {"object": {"number": 3}}}}),
    *({"fraction": [1, 0]}, {"decimal": "no"}, {"datetime": "never"}, {"range": [1, 2, 0]}, {"timedelta": [10**20]}),
    *({"library": ["os", "system"]}, {"callback": 0}, {"iterator": [1]}, {"counter": [[[], 1]]}, {"keys": [[1]]}),
)
"""Values that no honest program reports."""


def _message(rng: random.Random) -> bytes:
    """Something in the place of a report: bytes, a broken frame, or a frame with a strange message."""
    kind = rng.randrange(6)
    if kind == 0:
        return rng.randbytes(rng.randrange(1, 200))
    if kind == 1:
        return rng.randrange(1 << 32).to_bytes(4, "big") + rng.randbytes(20)
    if kind == 2:
        text = b"[" * rng.randrange(1, 100_000)
        return len(text).to_bytes(4, "big") + text
    value = rng.choice(_WEIRD)
    message: Any = rng.choice(
        (
            value,
            {"value": value},
            {"value": value, "args": value},
            {"raised": value},
            {"raised": {"names": [rng.choice(("SystemExit", "StopIteration", "A", "object", "int"))], "args": value}},
            {"raised": {"names": value, "args": []}},
            {"callback": value, "args": value},
            {"outcome": "right", "detail": ""},
        )
    )
    text = json.dumps(message).encode()
    return len(text).to_bytes(4, "big") + text


def _reports(rng: random.Random) -> str:
    """Writes strange reports to every descriptor, then goes on or ends."""
    data = b"".join(_message(rng) for _ in range(rng.randrange(1, 4)))
    ends = rng.choice(
        ("os._exit(0)", "", "import sys; sys.exit(0)", "os.close(3)", "os.close(4)", "os.closerange(0, 64)")
    )
    where = rng.choice(("range(0, 20)", "[4]", "[3, 4]", "[1]", "[5, 6, 7, 8]"))
    write = f"    try:\n        os.write(d, {data!r})\n    except OSError:\n        pass\n"
    body = f"import os\nfor d in {where}:\n{write}{ends}\n"
    return (
        body if rng.random() < 0.5 else f"def f(*a):\n{_indented(body)}    return {rng.choice(('0', 'None', '[]'))}\n"
    )


def _objects(rng: random.Random) -> str:
    """An object that says of itself whatever helps."""
    names = rng.sample(
        (
            *(
                "eq",
                "ne",
                "lt",
                "le",
                "gt",
                "ge",
                "sub",
                "rsub",
                "add",
                "radd",
                "abs",
                "float",
                "int",
                "index",
                "round",
            ),
            *("bool", "len", "iter", "next", "contains", "getitem", "getattr", "hash", "call", "instancecheck", "neg"),
            *("class", "str", "repr", "format", "reduce", "getattribute", "mul", "mod", "xor", "set_name", "del"),
        ),
        rng.randrange(1, 9),
    )
    result = rng.choice(("True", "0", "self", "1e-12", "E()", "iter([])", "NotImplemented", "float('nan')", "10**400"))
    methods = "".join(f"    def __{name}__(self, *a, **k): return {result}\n" for name in names)
    base = rng.choice(
        ("", "int", "float", "str", "list", "dict", "tuple", "set", "Exception", "type(print)", "complex")
    )
    value = rng.choice(("E()", "[E()]", "(E(),)", "{1: E()}", "E", "iter([E()])", "lambda *a: E()", "{E()}", "E().x"))
    return f"class E({base}):\n{methods}    pass\ndef f(*a):\n    return {value}\nprint(E())\n"


_PATCHES = (
    "import builtins\nbuiltins.abs = lambda *a: 0",
    "import builtins\nbuiltins.AssertionError = SystemExit",
    "import builtins, sys\nbuiltins.exec = builtins.eval = builtins.compile = lambda *a, **k: None",
    "import builtins\nbuiltins.isinstance = lambda *a: True\nbuiltins.type = lambda *a: int",
    "import builtins\nbuiltins.getattr = builtins.len = lambda *a: 0",
    "import json\njson.dumps = lambda *a, **k: '{\"value\": 1}'",
    "import json\njson.loads = lambda *a, **k: {'do': 'return', 'value': 1}",
    "import math\nmath.isclose = lambda *a, **k: True",
    "abs = round = sorted = lambda *a, **k: 0\nisclose = lambda *a, **k: True",
    "def check(*a): pass\ncandidate = None",
    "import sys\nfor n in list(sys.modules):\n    if 'sandbox' in n: sys.modules[n].encode = lambda *a: 1",
    "import sys\nsys.modules.clear()",
    "import sys\nframe = sys._getframe()\nwhile frame:\n    frame.f_locals.clear()\n    frame = frame.f_back",
    "import sys\nsys.settrace(lambda *a: None)\nsys.setprofile(lambda *a: None)",
    "import sys\nsys.stdout = sys.stderr = sys.stdin = None",
    "import atexit, os\natexit.register(os._exit, 0)",
    "import threading, os\nthreading.Timer(0.01, os._exit, (0,)).start()",
    "import gc\nfor o in gc.get_objects():\n    if isinstance(o, dict) and ('expected' in o or 'tests' in o): print(o)",
    "import ctypes\nctypes.string_at(0)",
    "import ctypes\nctypes.memset(id(1), 255, 64)",
    "import os\nos.abort()",
    "import resource\nresource.setrlimit(resource.RLIMIT_CPU, (-1, -1))",
    "import contextlib, signal\nfor s in (1, 2, 3, 13, 14, 15, 24):\n    signal.signal(s, signal.SIG_IGN)",
    "raise SystemExit",
    "raise KeyboardInterrupt",
    "raise BaseException('right')",
    "class X(BaseException): pass\nraise X",
    "import os\nfor n in range(3, 64):\n    try: print(os.read(n, 1 << 20))\n    except OSError: pass",
    "import glob\nfor n in glob.glob('/proc/*/mem') + glob.glob('/*/*.jsonl'):\n    print(open(n).read())",
    "import os\nos.kill(os.getppid(), 9)",
    "import os\nos.killpg(0, 9)",
    "import os, sys\nos.execv(sys.executable, ['python', '-c', 'while True: pass'])",
    "import subprocess\nsubprocess.Popen(['sleep', '1000'], start_new_session=True)",
    "import os\nif os.fork() == 0:\n    os.setsid()\n    while True: pass",
    "import socket\nsocket.create_connection(('127.0.0.1', 80))",
    "import multiprocessing\nmultiprocessing.Process(target=print).start()",
    "def f(*a): raise AssertionError",
    "def f(*a): raise StopIteration",
    "def f(*a): raise GeneratorExit",
    "def f(*a): raise type('A', (AssertionError, ValueError), {})",
    "def f(*a):\n    yield from iter(int, 1)",
    "def f(*a): return f",
    "import itertools\ndef f(*a): return itertools.count()",
    "def f(*a):\n    x = []\n    x.append(x)\n    return x",
    "def f(*a):\n    x = []\n    for _ in range(100_000): x = [x]\n    return x",
    "def f(*a): return 'x' * (80 << 20)",
    "def f(*a): return {i * ((1 << 61) - 1) for i in range(20_000)}",
    "def f(*a):\n    for x in a:\n        if isinstance(x, list): x.clear()\n    return 0",
    "class Solution:\n    def f(self, *a): return self\n    def __eq__(self, o): return True",
    "f = None",
    "",
)
_SLOW = (
    "while True: pass",
    "import time\ntime.sleep(1000)",
    "import signal\nsignal.pause()",
    "def f(*a):\n    while True: pass",
    "import sys\nwhile True: sys.stdout.write('x' * 65536)",
    "x = []\nwhile True: x.append(bytearray(10**7))",
    "import threading, time\nthreading.stack_size(32768)\nwhile True: threading.Timer(99, print).start()",
    "def g(): g()\nimport sys\nsys.setrecursionlimit(10**9)\ng()",
    "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass",
    "import os\nwhile True: os.write(4, bytes(65536))",
    "import re\nre.match('(a+)+$', 'a' * 60 + 'b')",
    "x = 9 ** 9 ** 9",
)


def _patched(rng: random.Random) -> str:
    parts = rng.sample(_PATCHES, rng.randrange(1, 4))
    return "\n".join((*parts, rng.choice(("def f(*a): return 0", "print(0)", "f = lambda *a: True", ""))))


def _indented(text: str) -> str:
    return "".join(f"    {line}\n" for line in text.splitlines())


_FAMILIES: tuple[tuple[str, Callable[[random.Random], str], int], ...] = (
    ("reports", _reports, 9),
    ("objects", _objects, 6),
    ("patches", _patched, 5),
    ("slow", lambda rng: rng.choice(_SLOW), 1),
)


def programs(count: int, seed: int) -> Iterator[tuple[str, str]]:
    """Hostile programs with the family of each."""
    rng = random.Random(seed)
    weights = [weight for *_, weight in _FAMILIES]
    for _ in range(count):
        name, make, _ = rng.choices(_FAMILIES, weights)[0]
        yield name, make(rng)


def problems(secret: int) -> list[Problem]:
    """One function asked for by tests of every kind; `right` answers all of them."""
    tests = {
        "equality": f"assert f({secret}) == {secret * 7 + 1}",
        "tolerance": f"assert abs(f({secret}.5) - {secret * 7 + 4.5}) < 1e-9",
        "membership": f"assert f({secret}) in ({secret * 7 + 1}, {secret * 7 + 2})",
        "order": f"assert {secret * 7} < f({secret}) < {secret * 7 + 2}",
        "check": f"def check(c):\n    for n in ({secret}, 1, 2):\n        assert c(n) == n * 7 + 1\ncheck(f)",
        "callback": f"assert list(map(f, [{secret}, 1])) == [{secret * 7 + 1}, 8]",
        "mapped": f"assert all(map(lambda n: f(n) == n * 7 + 1, ({secret}, 1)))",
        "lists": f"x = [{secret}]\nassert [f(v) for v in x] == [v * 7 + 1 for v in x]",
        "call": to_text(CallTest("f", [secret], [secret * 7 + 1])),
        "script": to_text(ScriptTest(f"{secret}\n", f"{secret * 7 + 1}\n")),
    }
    return [Problem(f"{name}-{secret}", "Write f.", Domain.CODING, tests=(test,)) for name, test in tests.items()]


RIGHT = "def f(n):\n    return n * 7 + 1\nif __name__ == '__main__':\n    print(f(int(input())))\n"


def descendants(process: int) -> list[int]:
    """Processes below this one that still run; a zombie does not."""
    parents: dict[int, int] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                state, parent, *_ = (folder / "stat").read_text().rpartition(")")[2].split()
            except (OSError, ValueError):
                continue
            if state not in "ZX":
                parents[int(folder.name)] = int(parent)
    found = {process}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return sorted(found - {process})


def outliving(process: int, before: set[int], seconds: float = 10.0) -> list[int]:
    """Processes below this one that were not there before; one that was killed has `seconds` to be gone."""
    end = time.monotonic() + seconds
    while (left := sorted(set(descendants(process)) - before)) and time.monotonic() < end:
        time.sleep(0.05)
    return left


def score(count: int, seed: int, seconds: float = 0.5) -> dict[str, Any]:
    """Score that many hostile programs, each on a problem drawn for it, with a right one beside every tenth."""
    rng = random.Random(f"problems {seed}")
    before = set(descendants(os.getpid()))
    cases = []
    for number, (family, source) in enumerate(programs(count, seed)):
        problem = rng.choice(problems(rng.randrange(10**6, 10**9)))
        cases.append((family, source, problem))
        if number % 10 == 0:
            cases.append(("right", RIGHT, rng.choice(problems(rng.randrange(10**6, 10**9)))))
    started = time.perf_counter()
    pairs = [(f"```python\n{source}\n```", problem) for _, source, problem in cases]
    found = coding.findings(pairs, seconds=seconds)
    outcomes = Counter(f"{family}: {finding.outcome}" for (family, *_), finding in zip(cases, found, strict=True))
    failed = [
        {
            "family": family,
            "problem": problem.id,
            "outcome": finding.outcome,
            "detail": finding.detail,
            "source": source,
        }
        for (family, source, problem), finding in zip(cases, found, strict=True)
        if finding.outcome is not (Outcome.RIGHT if family == "right" else Outcome.WRONG)
    ]
    return {
        "hostile": count,
        "outcomes": dict(sorted(outcomes.items())),
        "failed": failed,
        "seconds": round(time.perf_counter() - started, 1),
        "processes_left": outliving(os.getpid(), before),
    }


def main() -> None:
    """Parse arguments, score, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    result = score(args.count, args.seed)
    print(json.dumps(result, indent=2))
    raise SystemExit(1 if result["failed"] or result["processes_left"] else 0)


if __name__ == "__main__":
    main()
