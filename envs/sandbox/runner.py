"""What happens inside a program's own process, after the limits are in place.

The built-ins used after the program ran are bound here first, so that a program which replaces `exec` or `open` in
`builtins` changes its own world and not this module's.
"""

from __future__ import annotations

import builtins
import json
import os
from typing import Any

from .values import encode

_compile, _eval, _exec = builtins.compile, builtins.eval, builtins.exec
_dumps, _read, _write = json.dumps, os.read, os.write

TOKEN_BYTES = 64
_ERROR_LENGTH = 300


def run(request: dict[str, Any], report: int, token: int) -> None:
    """Run a program and its steps; write one JSON object to the descriptor `report`.

    Args:
        request: `source`, and `steps`: pairs of a kind (`value` or `statement`) and Python text.
        report: descriptor that takes the report: `values` in the order of the steps and the `token`, or `error`.
        token: descriptor to read the token from once every step is done.
    """
    try:
        scope: dict[str, Any] = {"__name__": "solution", "__builtins__": builtins}
        _exec(_compile(request["source"], "solution.py", "exec", dont_inherit=True), scope)
        values = []
        for kind, text in request["steps"]:
            if kind == "value":
                values.append(encode(_eval(_compile(text, "test", "eval", dont_inherit=True), scope)))
            else:
                _exec(_compile(text, "test", "exec", dont_inherit=True, optimize=0), scope)
        outcome = _dumps({"values": values, "token": _read(token, TOKEN_BYTES).decode()})
    except BaseException as error:  # SystemExit and KeyboardInterrupt are ways to fail, too
        outcome = _dumps({"error": _describe(error)})
    _write_all(report, outcome.encode())


def _describe(error: BaseException) -> str:
    try:
        return f"{type(error).__name__}: {error}"[:_ERROR_LENGTH]
    except Exception:  # the message is the program's code as well
        return type(error).__name__


def _write_all(descriptor: int, data: bytes) -> None:
    while data:
        data = data[_write(descriptor, data) :]
