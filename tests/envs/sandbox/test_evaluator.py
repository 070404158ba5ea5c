"""What tests find about a program that they cannot see into, and that cannot see them."""

from __future__ import annotations

import json
import os
import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envs.sandbox.evaluator import RIGHT, UNDECIDED, WRONG, evaluate
from envs.sandbox.frames import ChannelClosed, read_frame, write_frame
from envs.sandbox.pool import Check, Finding, Sandbox
from envs.sandbox.values import encode
from svd_loop.contracts import Outcome


@pytest.fixture(scope="module")
def one() -> Any:
    with Sandbox(seconds=2.0, lanes=1) as sandbox:
        yield sandbox


def check(sandbox: Sandbox, source: str, *tests: str) -> Finding:
    return sandbox.check(Check(source, {"tests": list(tests), "given": ""}))


STACK = """
class Empty(LookupError): pass
class Stack:
    def __init__(self): self.items = []
    def push(self, x): self.items.append(x); return self
    def pop(self):
        if not self.items: raise Empty('nothing left')
        return self.items.pop()
    def __len__(self): return len(self.items)
    def __iter__(self): return iter(self.items)
    def __getitem__(self, i): return self.items[i]
    def __eq__(self, other): return isinstance(other, Stack) and self.items == other.items
    def __add__(self, other):
        s = Stack(); s.items = self.items + other.items; return s
    def __lt__(self, other): return len(self) < len(other)
    def __enter__(self): return self
    def __exit__(self, *a): self.items.clear()
class Matrix(list):
    def trace(self): return sum(self[i][i] for i in range(len(self)))
def sort(x): x.sort()
def apply(g, *a, **k): return g(*a, **k)
def gen(n): yield from range(n)
def smallest(x):
    x.sort()
    return x.pop(0)
class Coded(Exception):
    def __init__(self, code): super().__init__('c%d' % code); self.code = code
def fail(n): raise Coded(n)
"""


@pytest.mark.parametrize(
    "test",
    [
        "s = Stack()\ns.push(1).push(2)\nassert s.pop() == 2 and len(s) == 1 and list(s) == [1] and s[0] == 1",
        (
            "s = Stack()\ntry:\n    s.pop()\nexcept Empty as e:\n    "
            "assert str(e) == 'nothing left'\nelse:\n    assert False"
        ),
        "s = Stack()\ntry:\n    s.pop()\nexcept LookupError:\n    pass\nelse:\n    assert False",
        "assert Stack() == Stack() and Stack().push(1) != Stack()",
        "assert list(Stack().push(1) + Stack().push(2)) == [1, 2]",
        "assert Stack() < Stack().push(1) and isinstance(Stack(), Stack) and not isinstance(3, Stack)",
        "with Stack().push(1) as s:\n    assert 1 in s\nassert len(s) == 0",
        "s = Stack()\ns.name = 'x'\nassert s.name == 'x' and not hasattr(s, 'other') and s.push(1) is s",
        "assert Matrix([[1, 2], [3, 4]]).trace() == 5 and Matrix([[1]]) == [[1]]",
        "x = [3, 1, 2]\nsort(x)\nassert x == [1, 2, 3]",
        "x = {'a': [2, 1]}\nsort(x['a'])\nassert x == {'a': [1, 2]}",
        "x = [2, 1]\nassert sort(x) is None and x == [1, 2]",
        "x = [3, 1, 2]\nassert smallest(x) == 1\nassert x == [2, 3]",
        "try:\n    fail(5)\nexcept Coded as e:\n    assert e.code == 5 and str(e) == 'c5'\nelse:\n    assert False",
        (
            "assert apply(lambda x: x + 1, 2) == 3 and apply(len, [1]) == 1 and "
            "apply(sorted, [2, 1], reverse=True) == [2, 1]"
        ),
        "import operator\nassert apply(operator.add, 1, 2) == 3",
        "def boom(): raise KeyError('x')\ntry:\n    apply(boom)\nexcept KeyError:\n    pass\nelse:\n    assert False",
        "assert list(gen(3)) == [0, 1, 2] and next(gen(1)) == 0 and sum(gen(4)) == 6",
        "assert apply(list, iter([1, 2])) == [1, 2]",
        "assert math.isclose(apply(float, 2), 2.0) and isclose(apply(float, 2), 2.0)",
        "def check(c):\n    for n in range(5):\n        assert list(c(n)) == list(range(n))\ncheck(gen)",
    ],
)
def test_a_test_sees_a_program_as_if_it_were_its_own_module(one: Sandbox, test: str) -> None:
    found = check(one, STACK, test)
    assert found.outcome is Outcome.RIGHT, found.detail


SELF = "class E:\n    def __eq__(s, o): return True\n    __lt__ = __gt__ = __le__ = __ge__ = __contains__ = __eq__\n"
LIES = {
    "equal to everything": f"{SELF}def f(x): return E()",
    "equal number": (
        "class E(int):\n    def __eq__(s, o): return True\n    __hash__ = int.__hash__\ndef f(x): return E(7)"
    ),
    "equal list": "class E(list):\n    def __eq__(s, o): return True\ndef f(x): return E()",
    "difference of nothing": (
        f"{SELF}    def __sub__(s, o): return 0\n    def __abs__(s): return 0\ndef f(x): return E()"
    ),
    "difference of itself": f"{SELF}    def __sub__(s, o): return s\n    __abs__ = lambda s: 0\ndef f(x): return E()",
    "own abs": "def abs(x): return 0\nimport builtins\nbuiltins.abs = abs\ndef f(x): return 5",
    "own isclose": "def isclose(*a): return True\nimport math\nmath.isclose = isclose\ndef f(x): return 5",
    "own check": "def check(*a): pass\ndef f(x): return 5",
    "own AssertionError": "import builtins\nbuiltins.AssertionError = SystemExit\ndef f(x): return 0",
    "raises AssertionError": "def f(x): raise AssertionError",
    "raises StopIteration": "def f(x): raise StopIteration",
    "raises its own StopIteration": "class S(StopIteration): pass\ndef f(x): raise S",
    "raises SystemExit": "def f(x): raise SystemExit",
    "ends": "import os\ndef f(x): os._exit(0)",
    "moves its arguments": "def f(x):\n    if isinstance(x, list): x.clear()\n    return []",
    "locals of the frames above": (
        "import sys\ndef f(x):\n    g = sys._getframe(1)\n    while g:\n        for v in g.f_locals.values():\n"
        "            if isinstance(v, dict) and v.get('tests'): v['tests'].clear()\n        g = g.f_back\n    return 0"
    ),
    "what memory holds": (
        "import gc, re\ndef f(x):\n    for o in gc.get_objects():\n        "
        "if m := re.search('== (20231)', repr(o)): return int(m[1])"
    ),
}


@pytest.mark.parametrize("name", LIES)
@pytest.mark.parametrize(
    "test",
    [
        "assert f(1) == 20231",
        "assert 20231 == f(1)",
        "assert abs(f(1) - 20231) < 1e-6",
        "assert math.isclose(f(1), 20231)",
        "assert f(1) in (20231, 20232)",
        "assert f(1) in {20231}",
        "assert 20230 < f(1) < 20232",
        "assert not f(1) != 20231",
        "def check(candidate):\n    assert candidate(1) == 20231\ncheck(f)",
        "assert [f(1)] == [20231]",
        "x = [20231]\nassert f(x) == x",
        "r = round(f(1))\nassert r == 20231",
        "cases = [(1, 20231)]\nassert all(map(lambda case: f(case[0]) == case[1], cases))",
        "for value in map(f, [1]):\n    assert value == 20231",
        "assert not list(filter(lambda x: f(x) != 20231, [1]))",
        "assert next(map(f, [1]), 20231) == 20231",
    ],
)
def test_no_form_of_test_can_be_forged(one: Sandbox, name: str, test: str) -> None:
    if name == "moves its arguments" and "f(x)" in test:
        assert check(one, LIES[name], "x = [20231]\nassert f(x) == x").outcome is Outcome.WRONG
    assert check(one, LIES[name], test).outcome is Outcome.WRONG


def test_a_test_that_names_it_sees_the_end_of_an_iteration(one: Sandbox) -> None:
    source = "class C:\n    def __iter__(s): return s\n    def __next__(s): raise StopIteration\ndef f(): return C()"
    test = "try:\n    f().__next__()\nexcept StopIteration:\n    pass\nelse:\n    assert False"
    assert check(one, source, test, "assert list(f()) == []").outcome is Outcome.RIGHT


def test_a_builtin_name_is_the_programs_only_where_it_is_what_is_asked_for(one: Sandbox) -> None:
    own = "def sum(a, b): return a + b\ndef abs(x): return 0"
    assert check(one, own, "assert sum(1, 2) == 3").outcome is Outcome.RIGHT
    assert check(one, own, "assert abs(sum(1, 2) - 5) < 1").outcome is Outcome.WRONG


def test_what_the_tests_lack_is_no_fault_of_the_program(one: Sandbox) -> None:
    missing = check(one, "def f(x): return x", "import not_a_module\nassert f(1) == 1")
    assert missing.outcome is Outcome.UNDECIDED and "not_a_module" in missing.detail
    theirs = check(one, "def f(x):\n    import not_a_module", "assert f(1) == 1")
    assert theirs.outcome is Outcome.WRONG
    foreign = check(one, "def f(x): return x", "class Own: pass\nassert f(Own())")
    assert foreign.outcome is Outcome.UNDECIDED and "Own" in foreign.detail
    derived = check(one, "class B: pass", "class C(B): pass\nassert C()")
    assert derived.outcome is Outcome.UNDECIDED and "derives" in derived.detail


def call(function: str, args: list[Any], *expected: Any, tolerance: float | None = None) -> dict[str, Any]:
    encoded = [[encode(value) for value in values] for values in (args, expected)]
    return {"call": {"function": function, "args": encoded[0], "expected": encoded[1], "tolerance": tolerance}}


@pytest.mark.parametrize(
    ("source", "request_", "outcome"),
    [
        ("def f(x): return (1, [x])", call("f", [2], [1, [2]]), Outcome.RIGHT),
        (
            "class Solution:\n    def f(self, x: List[int]) -> int: return gcd(*x)",
            call("f", [[4, 6]], 2),
            Outcome.RIGHT,
        ),
        ("def f(x): return Counter(x)", call("f", ["aa"], {"a": 2}), Outcome.RIGHT),
        ("def f(x): return pow(x, 2, 5)", call("f", [3], 4), Outcome.RIGHT),
        ("def f(x): return x / 3", call("f", [1], 0.333333, tolerance=1e-5), Outcome.RIGHT),
        ("def f(x): return [x / 3]", call("f", [1], [0.333333], tolerance=1e-5), Outcome.RIGHT),
        ("def f(x): return x / 3", call("f", [1], 0.333333), Outcome.WRONG),
        ("def f(x): return x", call("f", [1], [1], 1), Outcome.RIGHT),
        ("def f(x): return {1: 2}", call("f", [1], {"1": 2}), Outcome.WRONG),
        ("def g(x): return x", call("f", [1], 1), Outcome.WRONG),
        ("class Solution:\n    def g(self, x): return x", call("f", [1], 1), Outcome.WRONG),
        (f"{SELF}class Solution:\n    def f(self, x): return E()", call("f", [1], 1), Outcome.WRONG),
    ],
)
def test_calls(one: Sandbox, source: str, request_: dict[str, Any], outcome: Outcome) -> None:
    found = one.check(Check(source, request_, usual_names=True))
    assert found.outcome is outcome, found.detail


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["value", "args", "raised", "names", "object", "number", "base", "exception", "callback"])
            | st.sampled_from(
                ["int", "dict", "set", "tuple", "fraction", "decimal", "date", "library", "iterator", "x"]
            ),
            inner,
            max_size=3,
        )
    ),
    max_leaves=8,
)
FRAMES = st.binary(max_size=30) | JSON_VALUES.map(lambda value: framed(json.dumps(value).encode()))


def framed(payload: bytes) -> bytes:
    return len(payload).to_bytes(4, "big") + payload


@given(st.lists(FRAMES, max_size=4), st.sampled_from(["assert f(1) == 20231", "assert abs(f(1) - 20231) < 1"]))
def test_whatever_arrives_in_place_of_replies_the_program_is_wrong(replies: list[bytes], test: str) -> None:
    found = held_to(test, framed(b'{"value": null}') + b"".join(replies))
    assert found["outcome"] in (WRONG, UNDECIDED) and "Traceback" not in found["detail"]
    assert found["outcome"] == WRONG


def test_the_fuzzed_channel_can_bring_the_right_value() -> None:
    handle, value = ({"value": {"object": {"number": 0}}}, {"value": 20231})
    replies = b"".join(framed(json.dumps(message).encode()) for message in ({"value": None}, handle, value))
    assert held_to("assert f(1) == 20231", replies)["outcome"] == RIGHT


def held_to(test: str, replies: bytes) -> dict[str, str]:
    """Evaluate a test against a program that has sent these bytes and ended."""
    requests_out, requests_in = os.pipe()
    replies_out, replies_in = os.pipe()
    os.write(replies_in, replies)
    os.close(replies_in)
    drain = threading.Thread(target=_drain, args=(requests_out,))
    drain.start()
    try:
        return evaluate({"tests": [test], "given": ""}, requests_in, replies_out)
    finally:
        os.close(requests_in)
        drain.join()
        for descriptor in (requests_out, replies_out):
            os.close(descriptor)


def _drain(descriptor: int) -> None:
    try:
        while read_frame(descriptor):
            pass
    except ChannelClosed:
        return


def test_a_frame_that_is_too_long_is_refused() -> None:
    out, into = os.pipe()
    os.write(into, (1 << 31).to_bytes(4, "big"))
    with pytest.raises(ChannelClosed, match="announced"):
        read_frame(out)
    os.close(out)
    with pytest.raises(ChannelClosed):
        write_frame(into, {"x": "y" * 100_000})
    os.close(into)
