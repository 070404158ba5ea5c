"""The program's side: the code that runs in a program's own process, after the limits are in place.

Nothing here is trusted: the program shares the process and may change all of it. It is asked for values and gets
no information about the expected ones (`evaluator` has the tests, in a process of its own).
"""

from __future__ import annotations

import atexit
import builtins
import contextlib
import importlib
import inspect
import linecache
import operator
import sys
import threading
import traceback
import types
from collections.abc import Callable
from typing import Any, Final

from .frames import read_frame, write_frame
from .values import Json, base_of, decode, encode

FILE: Final = "/tmp/solution.py"
_USUAL_MODULES: Final = (
    *("string", "re", "datetime", "collections", "heapq", "bisect", "copy", "math", "random", "statistics"),
    *("itertools", "functools", "operator", "io", "sys", "json", "typing"),
)
_IMMUTABLE: Final = (int, float, complex, str, bytes, tuple, frozenset)

OPERATIONS: Final[dict[str, Callable[..., Any]]] = {
    "call": lambda function, *args, **named: function(*args, **named),
    "base": base_of,
    "contextlib.enter": lambda manager: manager.__enter__(),
    "contextlib.exit": lambda manager, *error: manager.__exit__(*error),
    **{f.__name__: f for f in (getattr, setattr, delattr, len, iter, next, bool, str, repr, hash, isinstance, dir)},
    **{
        f.__name__: f
        for f in (
            *(operator.getitem, operator.setitem, operator.delitem, operator.eq, operator.lt, operator.le),
            *(operator.gt, operator.ge, operator.add, operator.sub, operator.mul, operator.truediv, operator.floordiv),
            *(operator.mod, operator.pow, operator.matmul, operator.and_, operator.or_, operator.xor),
            *(operator.lshift, operator.rshift, operator.neg, operator.pos, operator.invert),
        )
    },
}
"""The operations that the evaluator may request on a program's objects."""


def usual_names() -> dict[str, Any]:
    """The names that LiveCodeBench and LeetCode have in scope without an import; no built-in is replaced."""
    modules = {name: importlib.import_module(name) for name in _USUAL_MODULES}
    names: dict[str, Any] = {"maxsize": sys.maxsize}
    for module in modules.values():
        if module is not sys:
            public = getattr(module, "__all__", None) or [name for name in vars(module) if not name.startswith("_")]
            names |= {name: getattr(module, name) for name in public if not hasattr(builtins, name)}
    return names | modules


def make_module(name: str, source: str, names: dict[str, Any]) -> types.ModuleType:
    """Create a module that can be looked up as any other: by its name, its file and its lines."""
    module = types.ModuleType(name)
    module.__file__ = FILE
    vars(module).update(names, __builtins__=builtins)
    sys.modules[name] = module
    sys.argv = [FILE]
    linecache.cache[FILE] = (len(source), None, source.splitlines(keepends=True), FILE)
    with contextlib.suppress(OSError, ValueError), open(FILE, "w", encoding="utf-8") as file:
        file.write(source)
    return module


def run_main(source: str) -> int:
    """Run a program as a script on standard input and output; returns its exit status."""
    for name, number, mode in (("stdin", 0, "r"), ("stdout", 1, "w"), ("stderr", 2, "w")):
        stream = open(number, mode, encoding="utf-8", closefd=False)  # noqa: SIM115 (lives as long as the process)
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
    module = make_module("__main__", source, {})
    status: object = 0
    try:
        exec(compile(source, FILE, "exec", dont_inherit=True), vars(module))
    except SystemExit as error:
        status = error.code
    except BaseException:
        traceback.print_exc()
        status = 1
    return _end(status)


def _end(status: object) -> int:
    """End as the interpreter does: wait for threads, run exit functions, flush output."""
    try:
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        for stream in {id(stream): stream for stream in (sys.stdout, sys.__stdout__)}.values():
            if stream is not None and not stream.closed:
                stream.flush()
    except BaseException:
        return 1
    return status if isinstance(status, int) else int(status is not None)


def serve(source: str, names: dict[str, Any], requests: int, replies: int) -> None:
    """Load a program as the module `solution`, then answer the evaluator until it closes the channel."""
    module = make_module("solution", source, names)
    server = _Server(vars(module), requests, replies)
    try:
        exec(compile(source, FILE, "exec", dont_inherit=True), vars(module))
    except BaseException as error:  # SystemExit and KeyboardInterrupt are ways to fail, too
        write_frame(replies, {"raised": server.raised(error)})
        return
    write_frame(replies, {"value": None})
    server.answer_until(lambda message: False)


class _Server:
    """Holds the program's objects to which the evaluator has references."""

    def __init__(self, scope: dict[str, Any], requests: int, replies: int) -> None:
        self._scope, self._requests, self._replies = scope, requests, replies
        self._objects: list[object] = []
        self._numbers: dict[int, int] = {}

    def answer_until(self, ends: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Answer requests; returns the first message for which `ends` is true."""
        while True:
            message = read_frame(self._requests)
            if ends(message):
                return message
            try:
                answer = self._answer(message)
            except BaseException as error:
                answer = {"raised": self.raised(error)}
            write_frame(self._replies, answer)

    def raised(self, error: BaseException) -> Json:
        """Describe an exception by the names of its classes and its arguments."""
        names = _class_names(type(error))
        try:
            args = encode(list(error.args), self._export)
        except Exception:
            args = []
        return {"names": names, "args": args, "error": self._export(error)}

    def _answer(self, message: dict[str, Any]) -> dict[str, Any]:
        if message["do"] == "name":
            return {"value": encode(self._look_up(message["name"]), self._export)}
        args: Any = decode(message["args"], self._import)
        named: Any = decode(message["named"], self._import)
        value = OPERATIONS[message["do"]](*args, **named)
        answer = {"value": encode(value, self._export)}
        if message["back"]:
            answer["args"] = encode([args, named], self._export)
        return answer

    def _look_up(self, name: str) -> object:
        for names in (self._scope, vars(builtins)):
            if name in names:
                return names[name]
        raise NameError(f"name {name!r} is not defined")

    def _export(self, value: object) -> Json:
        number = self._numbers.setdefault(id(value), len(self._objects))
        if number == len(self._objects):
            self._objects.append(value)
        content: dict[str, Any] = {"number": number}
        if isinstance(value, type) and issubclass(value, BaseException):
            content["exception"] = _class_names(value)
        elif isinstance(value, _IMMUTABLE):
            content["base"] = encode(base_of(value), self._export)
        return {"object": content}

    def _import(self, name: str, content: Any) -> object:
        if name == "object":
            return self._objects[content]
        if name == "library":
            return operator.attrgetter(content[1])(importlib.import_module(content[0]))
        if name == "iterator":
            return iter([decode(item, self._import) for item in content])
        if name == "callback":
            return self._callback(content)
        raise ValueError(f"unknown kind of value: {name}")

    def _callback(self, number: int) -> Callable[..., object]:
        """A function of the tests: a call of it is sent to the evaluator."""

        def call(*args: object, **named: object) -> object:
            call_args = [encode(list(args), self._export), encode(named, self._export)]
            write_frame(self._replies, {"callback": number, "args": call_args})
            answer = self.answer_until(lambda message: message["do"] == "return")
            if "error" in answer:
                raise getattr(builtins, answer["error"], RuntimeError)
            return decode(answer["value"], self._import)

        return call


def _class_names(kind: type) -> list[str]:
    return [base.__name__ for base in inspect.getmro(kind) if base is not object]
