"""Read the tests of published coding data sets in their own formats.

| set | columns |
|---|---|
| our own, MBPP | `tests` or `test_list` (with `test_setup_code`): Python assertions |
| HumanEval | `test` defines `check`; `entry_point` names the function that it tests |
| LiveCodeBench | `public_test_cases`, `private_test_cases`: input, output, testtype; `metadata` names a function |
| APPS, TACO | `input_output`: inputs and outputs, with `fn_name` for functions |
| CodeContests | `public_tests`, `private_tests`, `generated_tests`: input and output as two lists |

LiveCodeBench packs its private tests as base64 of zlib of a pickled string. A pickle can run code when it is loaded:
here a reader is used that accepts strings only.
"""

from __future__ import annotations

import base64
import binascii
import io
import json
import pickle
import re
import zlib
from collections.abc import Mapping
from typing import Any, Final

from envs.prompts.program_tests import CallTest, ProgramTest, ScriptTest
from envs.sandbox.values import encode

COLUMNS: Final = (
    ("public_test_cases", "private_test_cases"),
    ("input_output",),
    ("public_tests", "private_tests", "generated_tests"),
    ("test_list",),
    ("test",),
)
"""Columns to look for tests in, by data set, if a row lacks the mapped column."""
BESIDE: Final = ("metadata", "entry_point", "test_setup_code", "fn_name", "starter_code")
"""Further columns that belong to the tests."""

_MOST_BYTES: Final = 256 * 2**20
_WHOLE_NUMBER: Final = re.compile(r"-?[0-9]+")
_FUNCTION: Final = re.compile(r"^[ \t]*(?:async[ \t]+)?def[ \t]+(\w+)", re.MULTILINE)


def tests_in(values: Mapping[str, Any], column: str, tolerance: float | None = None) -> list[ProgramTest]:
    """The tests of a row.

    Args:
        values: the row.
        column: the mapped column; if the row lacks it, the columns of published data sets are used.
        tolerance: for numbers, see `ScriptTest`.

    Raises:
        ValueError: there are no tests, or their format is unknown; the message starts with the column.
    """
    columns = [column] if values.get(column) is not None else _known(values)
    if not columns:
        raise ValueError(
            f"field '{column}' must be a list of tests, found nothing; nor is there a column of "
            f"{', '.join(name for names in COLUMNS for name in names)}"
        )
    found: list[ProgramTest] = []
    for name in columns:
        try:
            found += _read(values[name], values, tolerance)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError(f"field '{name}' {_reason(error)}") from None
    if not found:
        raise ValueError(f"field '{columns[0]}' must be a list of tests, found an empty one")
    kinds = {type(test) for test in found}
    if len(kinds) > 1:
        raise ValueError(f"field '{columns[0]}' holds tests of several kinds; a problem is of one")
    return found


def _known(values: Mapping[str, Any]) -> list[str]:
    for names in COLUMNS:
        if present := [name for name in names if values.get(name) not in (None, "")]:
            return present
    return []


def _reason(error: Exception) -> str:
    if type(error) is ValueError and str(error).startswith(("must", "holds")):
        return str(error)
    return f"must be tests in a known form (see docs/guides/data.md): {type(error).__name__}: {error}"


def _read(value: Any, values: Mapping[str, Any], tolerance: float | None) -> list[ProgramTest]:
    if isinstance(value, str):
        if values.get("entry_point") and "def check" in value:
            return [f"{value.strip()}\n\ncheck({_name(values['entry_point'])})"]
        value = _unpacked(value)
    if isinstance(value, list) and value and all(isinstance(test, str) for test in value):
        return _assertions(value, values)
    if isinstance(value, list) and all(isinstance(test, dict) for test in value):
        return [_case(test, values, tolerance) for test in value]
    if isinstance(value, dict):
        inputs, outputs = (value[name] if name in value else value[f"{name}s"] for name in ("input", "output"))
        if not isinstance(inputs, list) or not isinstance(outputs, list) or len(inputs) != len(outputs):
            raise ValueError("must give as many outputs as inputs, as two lists")
        if function := value.get("fn_name") or values.get("fn_name"):
            return _calls(_name(function), inputs, outputs, tolerance)
        pairs = zip(inputs, outputs, strict=True)
        return [ScriptTest(_text(one), _text(other), tolerance) for one, other in pairs]
    raise ValueError(f"must be a list of tests, each text, or input and output pairs, found {_shown(value)}")


def _assertions(tests: list[str], values: Mapping[str, Any]) -> list[ProgramTest]:
    setup = values.get("test_setup_code")
    return [*([setup] if isinstance(setup, str) and setup.strip() else []), *tests]


def _case(test: dict[str, Any], values: Mapping[str, Any], tolerance: float | None) -> ProgramTest:
    """A test of LiveCodeBench: the arguments of a function are JSON, one per line."""
    given, wanted = test["input"], test["output"]
    if test.get("testtype", "stdin") == "stdin":
        return ScriptTest(_text(given), _text(wanted), tolerance)
    args = [encode(json.loads(line)) for line in given.split("\n") if line.strip()]
    return CallTest(_function_of(values), args, [encode(json.loads(wanted))], tolerance)


def _function_of(values: Mapping[str, Any]) -> str:
    metadata = values.get("metadata")
    metadata = json.loads(metadata) if isinstance(metadata, str) and metadata.strip() else metadata
    if isinstance(metadata, dict) and metadata.get("func_name"):
        return _name(metadata["func_name"])
    if values.get("fn_name"):
        return _name(values["fn_name"])
    if names := _FUNCTION.findall(str(values.get("starter_code") or "")):
        return str(names[-1])
    raise ValueError("holds tests of a function, which neither metadata, fn_name nor starter_code names")


def _calls(function: str, inputs: list[Any], outputs: list[Any], tolerance: float | None) -> list[ProgramTest]:
    """Tests of APPS and TACO: arguments as lists; a value may be wrapped in a list of its own without notice."""
    wrapped = all(isinstance(output, list) and len(output) == 1 for output in outputs)
    tests: list[ProgramTest] = []
    for args, output in zip(inputs, outputs, strict=True):
        if not isinstance(args, list):
            raise ValueError(f"must give the arguments of {function} as lists, found {_shown(args)}")
        meant = [output, output[0]] if wrapped else [output]
        expected = [encode(_with_number_keys(value)) for value in meant]
        tests.append(CallTest(function, [encode(_with_number_keys(value)) for value in args], expected, tolerance))
    return tests


def _with_number_keys(value: Any) -> Any:
    """Restore integer keys: JSON turns the keys of a dictionary into strings."""
    if isinstance(value, list):
        return [_with_number_keys(item) for item in value]
    if isinstance(value, dict):
        numbers = bool(value) and all(_WHOLE_NUMBER.fullmatch(key) for key in value)
        return {int(key) if numbers else key: _with_number_keys(item) for key, item in value.items()}
    return value


def _text(value: Any) -> str:
    """A standard input or output; APPS has some as lists of lines."""
    if isinstance(value, list) and all(isinstance(line, str) for line in value):
        return "\n".join(value) + "\n"
    if not isinstance(value, str):
        raise ValueError(f"must give inputs and outputs as text, found {_shown(value)}")
    return value


def _name(value: Any) -> str:
    if not isinstance(value, str) or not value.isidentifier():
        raise ValueError(f"must name a function, found {_shown(value)}")
    return value


def _unpacked(text: str) -> Any:
    """Decode JSON, or LiveCodeBench's compressed form of it."""
    try:
        return json.loads(text)
    except ValueError:
        pass
    try:
        packed = base64.b64decode(text.encode("ascii"), validate=True)
        stream = zlib.decompressobj()
        data = stream.decompress(packed, _MOST_BYTES)
    except (UnicodeEncodeError, binascii.Error, zlib.error):
        raise ValueError("must be a list of tests, or one as a JSON string") from None
    if stream.unconsumed_tail:
        raise ValueError(f"must hold at most {_MOST_BYTES} bytes of packed tests")
    value = data.decode() if data[:1] in b"[{" else _StringReader(io.BytesIO(data)).load()
    if not isinstance(value, str):
        raise ValueError(f"holds a pickle of a {type(value).__name__}, expected a string")
    return json.loads(value)


class _StringReader(pickle.Unpickler):
    """Unpickles plain values only: a pickle can name any function to be called, and no name is looked up here."""

    def find_class(self, module: str, name: str) -> Any:
        raise ValueError(f"holds a pickle that asks for {module}.{name}; only a pickled string is read")

    def persistent_load(self, pid: Any) -> Any:
        raise ValueError("holds a pickle with outside references; only a pickled string is read")


def _shown(value: Any) -> str:
    shown = repr(value) if isinstance(value, str | int | float) else type(value).__name__
    return shown if len(shown) <= 60 else f"{shown[:57]}..."
