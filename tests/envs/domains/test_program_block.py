from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envs.domains.program_block import program

F = "def f(x):\n    return x\n"
INDENTED = "1. Write it:\n\n   ```python\n   def f(x):\n       return x\n   ```\n\n2. Done."


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("```python\nx = 1\n```", "x = 1\n"),
        ("a\n```python\nx = 1\n```\nb\n```py\nx = 2\n```\nc", "x = 2\n"),
        ("```Python3 \r\nx = 1\r\n```\r\n", "x = 1\n"),
        ("```python\ns = '```'\n```", "s = '```'\n"),
        ("```python\nx = 1\n```\n```python\nx = 2", "x = 1\n"),
        ("```javascript\nx = 1\n```", None),
        ("```python\n\n```", None),
        ("x = 1", None),
        (f"~~~python\n{F}~~~", F),
        (f"````python\n{F}```\n````", f"{F}```\n"),
        (f"```python3.11\n{F}```", F),
        (f'```python title="f.py"\n{F}```', F),
        (f"```{{.python}}\n{F}```", F),
        (f"```python:f.py\n{F}```", F),
        ("```python-repl\n>>> 1\n```", None),
        ("```pytest\nx = 1\n```", None),
        (INDENTED, F),
        (f"- ```python\n{F}  ```", F),
        ("1. ```python\n   def f(x):\n       return x\n   ```", F),
    ],
)
def test_the_last_complete_python_block_is_found(text: str, code: str | None) -> None:
    assert program(text) == code


@pytest.mark.parametrize(
    "behind",
    [
        "assert f(1) == 1",
        "print(f(3))",
        "for i in range(3):\n    print(i, f(i))",
        "y = f(2)\nprint(y)",
        "def test_f():\n    assert f(1) == 1\n\ntest_f()",
        ">>> f(1)\n1",
    ],
)
def test_a_block_that_shows_the_program_at_work_is_not_the_program(behind: str) -> None:
    assert program(f"```python\n{F}```\nUse it so:\n```python\n{behind}\n```") == F


@pytest.mark.parametrize("behind", ["def g(x):\n    return f(x)", "import sys\nprint(sys.stdin.read())", "def f(x:\n"])
def test_a_block_of_its_own_is_the_program(behind: str) -> None:
    assert program(f"```python\n{F}```\nBetter:\n```python\n{behind}\n```") == f"{behind}\n"


def test_a_bare_block_counts_where_none_is_marked_and_it_reads_as_a_program() -> None:
    assert program(f"```\n{F}```\nprints\n```\n3\n```") == F
    assert program("```\nx = 1\n```") == "x = 1\n"
    assert program("```\nprint(input())\n```") == "print(input())\n"
    for output in ("3", "1 2 3", "[1, 2]", "hello"):
        assert program(f"```\n{output}\n```") is None
    assert program(f"```\n{F}```\n```python\nx = 1\n```") == "x = 1\n"


def test_a_block_left_open_does_not_swallow_the_next() -> None:
    assert program(f"```python\nx = (\n\nAgain:\n```python\n{F}```") == F
    assert program(f"```\nthe idea\n```python\n{F}```") == F


@given(st.text(alphabet="`~ \npythonx=1.(){}>:\t\r", max_size=200))
def test_any_text_is_survived(text: str) -> None:
    found = program(text)
    assert found is None or found.strip()


@pytest.mark.parametrize(
    "unit", ["```\n", "```python\n", "```python\nx = f(1)\n```\n", "~~~", "```python", "(" * 50, "-"]
)
def test_time_is_linear_in_the_text(unit: str) -> None:
    def spent(size: int) -> float:
        text = unit * (size // len(unit))
        started = time.process_time()
        program(text)
        program(f"```python\n{text}\n```")
        return time.process_time() - started

    # Linear is 16-fold, quadratic 256-fold; the lesser of two runs, since a busy machine adds processor time as well.
    assert min(spent(320_000), spent(320_000)) < 100 * max(spent(20_000), 0.005)
