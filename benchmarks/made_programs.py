"""Twenty small tasks of our own, each in the shapes of LiveCodeBench and APPS, with right and wrong programs.

A task is a function with a wrong twin. Rows and programs of every shape are made from it: scripts that read in the
ways people do (`input()`, a main guard, `sys.stdin.buffer`, a thread, `open(0)`), functions, and methods of `Solution`
that rely on the names LeetCode has in scope.
"""

from __future__ import annotations

import base64
import json
import pickle
import random
import textwrap
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Made:
    """A row of a published shape with programs for it; `prompt` is the column with the question."""

    shape: str
    name: str
    prompt: str
    row: dict[str, Any]
    right: tuple[str, ...]
    wrong: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Task:
    """What is asked, parameters with their kinds (i: whole number, l: list of them, s: word), body and wrong body."""

    name: str
    asked: str
    parameters: str
    body: str
    wrong: str


_TASKS = (
    _Task("total", "Give the sum of a.", "a:l", "return sum(a)", "return sum(a[1:])"),
    _Task("spread", "Give the largest minus the smallest of a.", "a:l", "return max(a) - min(a)", "return max(a)"),
    _Task("backwards", "Give a in reverse.", "a:l", "return a[::-1]", "return a"),
    _Task("in_order", "Give a sorted.", "a:l", "return sorted(a)", "return sorted(set(a))"),
    _Task(
        "once",
        "Give the values of a without repetition, as first seen.",
        "a:l",
        "return list(dict.fromkeys(a))",
        "return a",
    ),
    _Task(
        "prefixes", "Give all prefix sums of a.", "a:l", "return list(accumulate(a))", "return list(accumulate(a[1:]))"
    ),
    _Task(
        "pairs",
        "Count the pairs in a that sum to k.",
        "a:l k:i",
        "return sum(x + y == k for x, y in combinations(a, 2))",
        "return sum(x + y == k for x, y in product(a, a))",
    ),
    _Task(
        "best_run",
        "Give the largest sum of a non-empty run in a.",
        "a:l",
        "best = here = a[0]\nfor x in a[1:]:\n    here = max(x, here + x)\n    best = max(best, here)\nreturn best",
        "return max(sum(a), max(a))",
    ),
    _Task("common", "Give the greatest common divisor of n and m.", "n:i m:i", "return gcd(n, m)", "return min(n, m)"),
    _Task("digits", "Give the sum of the digits of n.", "n:i", "return sum(map(int, str(n)))", "return len(str(n))"),
    _Task(
        "steps",
        "Count the steps of the Collatz rule from n to 1.",
        "n:i",
        "c = 0\nwhile n > 1:\n    n = n // 2 if n % 2 == 0 else 3 * n + 1\n    c += 1\nreturn c",
        "c = 1\nwhile n > 1:\n    n = n // 2 if n % 2 == 0 else 3 * n + 1\n    c += 1\nreturn c",
    ),
    _Task(
        "primes",
        "Give all primes up to n.",
        "n:i",
        "return [p for p in range(2, n + 1) if all(p % q for q in range(2, isqrt(p) + 1))]",
        "return [p for p in range(2, n + 1) if all(p % q for q in range(2, isqrt(p)))]",
    ),
    _Task("in_binary", "Give n in binary.", "n:i", "return bin(n)[2:]", "return bin(n)[2:].zfill(12)"),
    _Task(
        "is_palindrome",
        "Tell whether s reads the same backwards.",
        "s:s",
        "return s == s[::-1]",
        "return s[0] != s[-1]",
    ),
    _Task(
        "common_letter",
        "Give the most frequent letter of s, the first in the alphabet of several.",
        "s:s",
        "c = Counter(s)\nreturn min(c, key=lambda x: (-c[x], x))",
        "c = Counter(s)\nreturn max(c, key=lambda x: (-c[x], x))",
    ),
    _Task(
        "shifted",
        "Move every letter of s by n places in the alphabet, cyclically.",
        "s:s n:i",
        "return ''.join(chr((ord(c) - 97 + n) % 26 + 97) for c in s)",
        "return ''.join(chr((ord(c) - 97 - n + 1) % 26 + 97) for c in s)",
    ),
    _Task(
        "runs",
        "Give s in run lengths, such as a3b1.",
        "s:s",
        "return ''.join(f'{c}{len(list(g))}' for c, g in groupby(s))",
        "return ''.join(f'{c}{s.count(c)}-' for c in s)",
    ),
    _Task(
        "place",
        "Give the place of k in sorted a, or where it would stand.",
        "a:l k:i",
        "return bisect_left(sorted(a), k)",
        "return bisect_left(sorted(a), k) + 1",
    ),
    _Task(
        "smallest",
        "Give the k % 3 + 1 smallest values of a.",
        "a:l k:i",
        "return heapq.nsmallest(k % 3 + 1, a)",
        "return heapq.nlargest(k % 3 + 1, a)",
    ),
    _Task(
        "ways",
        "Count the ways to climb n % 80 stairs by one or two.",
        "n:i",
        "@cache\ndef go(k):\n    return 1 if k < 2 else go(k - 1) + go(k - 2)\nreturn go(n % 80)",
        "return n % 80",
    ),
)
_IMPORTS = (
    "import heapq\nfrom bisect import bisect_left\nfrom collections import Counter\nfrom functools import cache\n"
    "from itertools import accumulate, combinations, groupby, product\nfrom math import gcd, isqrt\n"
)
_TYPES = {"i": "int", "l": "List[int]", "s": "str"}
_READS = {"i": "int({})", "l": "list(map(int, {}.split()))", "s": "{}.strip()"}
_SHOW = (
    "def show(v):\n    return ('no', 'yes')[v] if isinstance(v, bool) else ' '.join(map(str, v)) "
    "if isinstance(v, list) else str(v)\n"
)
_SCRIPTS: tuple[Callable[[str, str], str], ...] = (
    lambda reads, call: f"{reads.format(*['input()'] * 3)}\nprint({call})\n",
    lambda reads, call: (
        "import sys\ndef main():\n"
        + textwrap.indent(
            f"{reads.format(*['sys.stdin.readline()'] * 3)}\nsys.stdout.write({call} + '  \\n\\n')\n", "    "
        )
        + "if __name__ == '__main__':\n    main()\n"
    ),
    lambda reads, call: (
        "import sys\nlines = iter(sys.stdin.buffer.read().decode().split('\\n'))\n"
        f"{reads.format(*['next(lines)'] * 3)}\nsys.stdout.buffer.write(({call}).encode())\n"
    ),
    lambda reads, call: (
        "import sys, threading\nsys.setrecursionlimit(1 << 20)\nthreading.stack_size(1 << 26)\ndef main():\n"
        + textwrap.indent(f"{reads.format(*['input()'] * 3)}\nprint({call})\n", "    ")
        + "t = threading.Thread(target=main)\nt.start()\nt.join()\n"
    ),
    lambda reads, call: f"lines = iter(open(0))\n{reads.format(*['next(lines)'] * 3)}\nprint({call})\nexit()\n",
)


def _parameters(task: _Task) -> list[tuple[str, str]]:
    return [(name, kind) for name, _, kind in (part.partition(":") for part in task.parameters.split())]


def _function(task: _Task, body: str) -> str:
    names = ", ".join(name for name, _ in _parameters(task))
    return f"def {task.name}({names}):\n{textwrap.indent(body, '    ')}\n"


def _method(task: _Task, body: str) -> str:
    typed = ", ".join(f"{name}: {_TYPES[kind]}" for name, kind in _parameters(task))
    head = f"class Solution:\n    def {task.name}(self, {typed}):\n"
    return head + textwrap.indent(body, "        ") + "\n"


def _scripts(task: _Task, body: str) -> tuple[str, ...]:
    reads = "\n".join(f"{name} = {_READS[kind]}" for name, kind in _parameters(task))
    call = f"show({task.name}({', '.join(name for name, _ in _parameters(task))}))"
    return tuple(_IMPORTS + _SHOW + _function(task, body) + make(reads, call) for make in _SCRIPTS)


def _draw(task: _Task, rng: random.Random) -> list[Any]:
    makers: dict[str, Callable[[], Any]] = {
        "i": lambda: rng.randrange(1, 60),
        "l": lambda: [rng.randrange(-9, 30) for _ in range(rng.randrange(3, 12))],
        "s": lambda: "".join(rng.choice("abc") for _ in range(rng.randrange(2, 12))),
    }
    return [makers[kind]() for _, kind in _parameters(task)]


def _examples(task: _Task, count: int = 12) -> list[tuple[list[Any], Any]]:
    rng = random.Random(task.name)
    scope: dict[str, Any] = {}
    exec(_IMPORTS + _SHOW + _function(task, task.body), scope)
    return [(args, scope[task.name](*args)) for args in (_draw(task, rng) for _ in range(count))]


def _stdin_pair(args: Sequence[Any], value: Any) -> tuple[str, str]:
    scope: dict[str, Any] = {}
    exec(_SHOW, scope)
    lines = [" ".join(map(str, arg)) if isinstance(arg, list) else str(arg) for arg in args]
    return "\n".join(lines) + "\n", scope["show"](value) + "\n"


def _packed(tests: list[dict[str, Any]]) -> str:
    """As LiveCodeBench packs its private tests."""
    return base64.b64encode(zlib.compress(pickle.dumps(json.dumps(tests)))).decode()


def _livecodebench(task: _Task) -> Iterator[Made]:
    examples = _examples(task)
    pairs = [_stdin_pair(*example) for example in examples]
    scripted = [{"input": one, "output": other, "testtype": "stdin"} for one, other in pairs]
    called = [
        {"input": "\n".join(map(json.dumps, args)), "output": json.dumps(value), "testtype": "functional"}
        for args, value in examples
    ]
    question = {"question_content": task.asked, "question_id": task.name}
    tests = {"public_test_cases": json.dumps(scripted[:2]), "private_test_cases": _packed(scripted[2:])}
    row = {**question, "starter_code": "", "metadata": "{}", **tests}
    yield Made(
        "livecodebench-stdin",
        task.name,
        "question_content",
        row,
        _scripts(task, task.body),
        _scripts(task, task.wrong)[:2],
    )
    tests = {"public_test_cases": json.dumps(called[:2]), "private_test_cases": json.dumps(called[2:])}
    starter = _method(task, "").rstrip() + "\n        "
    row = {**question, "starter_code": starter, "metadata": json.dumps({"func_name": task.name}), **tests}
    right = (_method(task, task.body), _IMPORTS + _function(task, _as_tuple(task.body)))
    yield Made("livecodebench-function", task.name, "question_content", row, right, (_method(task, task.wrong),))


def _as_tuple(body: str) -> str:
    """The same, with a tuple where a list is expected."""
    head, _, value = body.rpartition("return ")
    return f"{head}value = {value}\nreturn tuple(value) if isinstance(value, list) else value"


def _apps(task: _Task) -> Iterator[Made]:
    examples = _examples(task)
    pairs = [_stdin_pair(*example) for example in examples]
    both = {"inputs": [one for one, _ in pairs], "outputs": [other for _, other in pairs]}
    row = {"question": task.asked, "input_output": json.dumps(both), "starter_code": ""}
    yield Made("apps-stdin", task.name, "question", row, _scripts(task, task.body), _scripts(task, task.wrong)[2:4])
    called = {
        "fn_name": task.name,
        "inputs": [args for args, _ in examples],
        "outputs": [[value] for _, value in examples],
    }
    row = {"question": task.asked, "input_output": json.dumps(called), "starter_code": _function(task, "").rstrip()}
    right = (_IMPORTS + _function(task, task.body), _method(task, task.body))
    yield Made("apps-function", task.name, "question", row, right, (_IMPORTS + _function(task, task.wrong),))


MADE: tuple[Made, ...] = tuple(item for task in _TASKS for make in (_livecodebench, _apps) for item in make(task))
"""All tasks in all shapes."""
