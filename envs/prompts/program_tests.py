"""Tests of a held-out coding problem: Python assertions, standard input and output, or calls of a function.

A problem stores its tests as texts. An assertion is Python as it stands; the other two are JSON objects with the one
key `stdin` or `call`, which cannot be confused with a Python statement.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from typing import Any, Final

_STDIN: Final = '{"stdin": '
_NUMBER: Final = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
"""What programs print; Python also reads digits of other scripts, `1_000` and `inf`."""
_CALL: Final = '{"call": '


@dataclass(frozen=True, slots=True)
class ScriptTest:
    """The output that a program, run as a script, must write for a standard input.

    Attributes:
        input: the whole of standard input.
        output: the expected standard output.
        tolerance: numbers may differ by this much, relative or absolute; None compares them as text.
    """

    input: str
    output: str
    tolerance: float | None = None

    def passed_by(self, output: str) -> bool:
        """Whether the lines hold the same words; white space between words and at line and text ends is ignored."""
        given, wanted = (text.rstrip().splitlines() for text in (output, self.output))
        return len(given) == len(wanted) and all(
            self._same_line(line.split(), other.split()) for line, other in zip(given, wanted, strict=True)
        )

    def _same_line(self, given: list[str], wanted: list[str]) -> bool:
        if self.tolerance is None or len(given) != len(wanted):
            return given == wanted
        return all(one == other or self._close(one, other) for one, other in zip(given, wanted, strict=True))

    def _close(self, given: str, wanted: str) -> bool:
        if not _NUMBER.fullmatch(given) or not _NUMBER.fullmatch(wanted):
            return False
        one, other = float(given), float(wanted)
        bound = (self.tolerance or 0.0) * max(1.0, abs(other))
        return one == other or abs(one - other) <= bound < float("inf")


@dataclass(frozen=True, slots=True)
class CallTest:
    """The value that a function (or a method of the class `Solution`) must return.

    Attributes:
        function: its name.
        args: in order, as `envs.sandbox.values.encode` writes values.
        expected: the correct values, encoded likewise; several if a format is ambiguous.
        tolerance: as of `ScriptTest`.
    """

    function: str
    args: list[Any]
    expected: list[Any]
    tolerance: float | None = None


ProgramTest = ScriptTest | CallTest | str
"""One test; text is Python that fails by raising."""


def to_text(test: ProgramTest) -> str:
    """Encode a test as a problem stores it."""
    if isinstance(test, str):
        return test
    return json.dumps({"stdin" if isinstance(test, ScriptTest) else "call": asdict(test)})


def from_text(text: str) -> ProgramTest:
    """Decode a test written by `to_text`."""
    if text.startswith(_STDIN):
        return ScriptTest(**json.loads(text)["stdin"])
    return CallTest(**json.loads(text)["call"]) if text.startswith(_CALL) else text
