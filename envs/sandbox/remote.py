"""The evaluator's proxy of a program in another process: plain values, and handles for everything else.

Data from the program is never trusted. A plain value is decoded and compared here, so that a program that
returns an object that equals everything gains nothing: a handle is equal to a plain value only if
it is an instance of a subclass of a plain type whose content is equal. A handle takes part in arithmetic with a value
of the tests only if the result is a handle again, and never in an order comparison with one.
"""

from __future__ import annotations

import builtins
import contextlib
import sys
from collections import deque
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, Final, TypeVar

from .frames import ChannelClosed, read_frame, write_frame
from .values import Json, decode, encode

T = TypeVar("T")

ENDED: Final = "it ended before the tests were done"
_HANDLE: Final = "_handle_of_the_program"
_MOST_ITEMS: Final = 1_000_000
_MUTABLE: Final = (list, dict, set, deque, bytearray)


class ProgramFailed(BaseException):
    """The program's process ended or sent an invalid answer. Not an `Exception`, so that no test catches it."""


class CannotHandOver(BaseException):
    """A test passes an object to the program that cannot leave the evaluator: the program stays undecided."""


class Remote:
    """The channel to one program.

    Attributes:
        failure: the first `ProgramFailed` or `CannotHandOver`; it counts even if a test swallowed it.
        expects_stop: the tests name `StopIteration`. Where they do not, one from a call is a `RuntimeError`: inside
            `map` or `filter` it would end the loop that checks the values, and so pass.
    """

    def __init__(self, requests: int, replies: int) -> None:
        self._requests, self._replies = requests, replies
        self._handles: dict[int, object] = {}
        self._numbers: dict[int, int] = {}
        self._callbacks: list[Callable[..., object]] = []
        self._exceptions: dict[tuple[str, ...], type[BaseException]] = {}
        self._asserting = False
        self._unseen: list[tuple[list[Any], Any]] = []
        self.failure: ProgramFailed | CannotHandOver | None = None
        self.expects_stop = False
        self._raised: BaseException | None = None

    @contextlib.contextmanager
    def asserting(self) -> Iterator[None]:
        """Context of an assertion: changes that the program makes to its arguments become visible after it.

        A program must not change the values that it is compared with. If it returns nothing, the change is its result
        and becomes visible at once.
        """
        outermost, self._asserting = not self._asserting, True
        try:
            yield
        finally:
            if outermost:
                self._asserting = False
                for given, changed in self._unseen:
                    _refresh(given, changed)
                self._unseen.clear()

    def raised_by_program(self, error: BaseException) -> bool:
        """Whether the program raised this error, and not the tests' own code."""
        return error is self._raised

    def loaded(self) -> None:
        """Wait until the program is loaded; raises the program's error."""
        self._result()

    def look_up(self, name: str) -> object:
        """The program's object of this name; raises NameError if there is none."""
        self._send({"do": "name", "name": name})
        return self._result()

    def do(self, operation: str, *args: object, **named: object) -> Any:
        """Perform one of `runner.OPERATIONS`; raises the program's error, as an exception of the same name."""
        back = operation == "call" and _holds_mutable([args, named])
        self._send({"do": operation, "args": self._encode(list(args)), "named": self._encode(named), "back": back})
        given = [list(args), named]
        return self._called(given) if operation == "call" else self._result(given)

    def _result(self, given: list[Any] | None = None) -> object:
        while "callback" in (answer := self._receive()):
            self._send({"do": "return", **self._called_back(answer)})
        try:
            if "raised" in answer:
                raised = self._exception(answer["raised"])
            else:
                raised, value = None, decode(answer["value"], self._import)
                if "args" in answer and given is not None:
                    self._changed(given, decode(answer["args"], self._import), at_once=value is None)
        except (ValueError, TypeError, KeyError, IndexError, AttributeError, ArithmeticError, RecursionError) as error:
            raise self._fails(ProgramFailed(f"its reply is not readable: {type(error).__name__}")) from None
        if raised is not None:
            self._raised = raised
            raise raised
        return value

    def _called(self, given: list[Any]) -> object:
        """The result of a call, which must not end an iteration of the tests."""
        try:
            return self._result(given)
        except StopIteration:
            if self.expects_stop:
                raise
            self._raised = RuntimeError("the program raised StopIteration")
            raise self._raised from None

    def _changed(self, given: list[Any], changed: object, *, at_once: bool) -> None:
        if self._asserting and not at_once:
            self._unseen.append((given, changed))
        else:
            _refresh(given, changed)

    def _called_back(self, message: dict[str, Any]) -> dict[str, Any]:
        try:
            given: Any = decode(message["args"], self._import)
            return {"value": self._encode(self._callbacks[message["callback"]](*given[0], **given[1]))}
        except Exception as error:
            return {"error": type(error).__name__}

    def _send(self, message: dict[str, Any]) -> None:
        if self.failure:
            raise self.failure
        try:
            write_frame(self._requests, message)
        except ChannelClosed:
            raise self._fails(ProgramFailed(ENDED)) from None

    def _receive(self) -> dict[str, Any]:
        try:
            return read_frame(self._replies)
        except ChannelClosed as error:
            raise self._fails(ProgramFailed(str(error) or ENDED)) from None

    def _fails(self, failure: ProgramFailed | CannotHandOver) -> ProgramFailed | CannotHandOver:
        self.failure = self.failure or failure
        return failure

    def cannot(self, reason: str) -> BaseException:
        """Record that the program stays undecided, and why; returns the error to raise."""
        return self._fails(CannotHandOver(reason))

    def _encode(self, value: object) -> Json:
        try:
            return encode(value, self._export)
        except (TypeError, RecursionError) as error:
            raise self._fails(ProgramFailed(f"its value cannot be handed back: {error}")) from None

    def _export(self, value: object) -> Json:
        if isinstance(value, Handle):
            return {"object": object.__getattribute__(value, "_number")}
        if (number := self._numbers.get(id(value))) is not None:
            return {"object": number}
        module, name = getattr(value, "__module__", None), getattr(value, "__qualname__", "")
        if module in sys.stdlib_module_names and "<" not in name and module != "__main__" and callable(value):
            return {"library": [module, name]}
        if callable(value):
            self._callbacks.append(value)
            return {"callback": len(self._callbacks) - 1}
        if isinstance(value, Iterator):
            items = list(islice(value, _MOST_ITEMS + 1))
            if len(items) <= _MOST_ITEMS:
                return {"iterator": [encode(item, self._export) for item in items]}
        raise self.cannot(f"a test hands over a {type(value).__name__}, which cannot leave the evaluator")

    def _import(self, name: str, content: Any) -> object:
        if name != "object" or type(number := content["number"]) is not int:
            raise ValueError(f"unknown kind of value: {name}")
        if number not in self._handles:
            self._handles[number] = self._new_handle(number, content)
        return self._handles[number]

    def _new_handle(self, number: int, content: dict[str, Any]) -> object:
        handle = Handle(self, number)
        if "exception" in content:
            value: object = self._exception_class(content["exception"])
        elif "base" in content:
            value = _with_attributes(decode(content["base"], self._import), handle)
        else:
            return handle
        self._numbers[id(value)] = number
        return value

    def _exception(self, raised: dict[str, Any]) -> BaseException:
        args: Any = decode(raised["args"], self._import)
        kind = self._exception_class(raised["names"])
        try:
            error = kind(*args)
        except TypeError:  # some built-in exceptions require certain arguments
            error = kind.__new__(kind)
            error.args = tuple(args)
        if hasattr(kind, _HANDLE):
            setattr(error, _HANDLE, decode(raised["error"], self._import))
        return error

    def _exception_class(self, names: list[str]) -> type[BaseException]:
        """A local class for a program's exception: the built-in one of that name, or one derived likewise."""
        key = tuple(map(str, names))
        if not key:
            return Exception
        known = getattr(builtins, key[0], None)
        if isinstance(known, type) and issubclass(known, BaseException):
            return known
        if key not in self._exceptions:
            members = {_HANDLE: None, "__getattr__": lambda self, name: getattr(getattr(self, _HANDLE), name)}
            self._exceptions[key] = type(key[0], (self._exception_class(list(key[1:])),), members)
        return self._exceptions[key]


def _with_attributes(base: Any, handle: Handle) -> object:
    """A plain value with its own behaviour, which asks the program for attributes that its type lacks."""
    kind = type(base)
    if kind in (bool, type(None)):
        return base
    return type(kind.__name__, (kind,), {"__getattr__": lambda self, name: getattr(handle, name)})(base)


def _holds_mutable(values: Any) -> bool:
    if isinstance(values, dict):
        return any(isinstance(item, _MUTABLE) or _holds_mutable(item) for item in values.values())
    if isinstance(values, list | tuple):
        return any(isinstance(item, _MUTABLE) or _holds_mutable(item) for item in values)
    return False


def _refresh(old: Any, new: Any) -> Any:
    """Update mutable values to the program's version: the same objects with new content."""
    if isinstance(old, Handle) or type(old) is not type(new):
        return new
    if isinstance(old, list | tuple) and len(old) == len(new):
        items = [_refresh(one, other) for one, other in zip(old, new, strict=True)]
        if isinstance(old, tuple):
            return old
        old[:] = items
    elif isinstance(old, list | bytearray):
        old[:] = new
    elif isinstance(old, dict):
        items = [(key, _refresh(old[key], value) if key in old else value) for key, value in new.items()]
        old.clear()
        old.update(items)
    elif isinstance(old, set | deque):
        old.clear()
        (old.update if isinstance(old, set) else old.extend)(new)
    else:
        return new
    return old


class Handle:
    """A proxy for an object of the program that is not a plain value."""

    __slots__ = ("_number", "_remote")

    def __init__(self, remote: Remote, number: int) -> None:
        object.__setattr__(self, "_remote", remote)
        object.__setattr__(self, "_number", number)

    def __getattr__(self, name: str) -> Any:
        return _do(self, "getattr", name)

    def __setattr__(self, name: str, value: object) -> None:
        _do(self, "setattr", name, value)

    def __call__(self, *args: object, **named: object) -> Any:
        """Call it in the program's process."""
        return _do(self, "call", *args, **named)

    def __len__(self) -> int:
        return _typed(self, "len", int)

    def __bool__(self) -> bool:
        return _typed(self, "bool", bool)

    def __str__(self) -> str:
        return _typed(self, "str", str)

    def __repr__(self) -> str:
        return _typed(self, "repr", str)

    def __hash__(self) -> int:
        return _typed(self, "hash", int)

    def __iter__(self) -> Iterator[Any]:
        iterator = _do(self, "iter")
        for _ in range(_MOST_ITEMS):
            try:
                yield _do(iterator, "next") if isinstance(iterator, Handle) else next(iterator)
            except StopIteration:
                return
        raise TypeError(f"more than {_MOST_ITEMS} items")

    def __next__(self) -> Any:
        return _do(self, "next")

    def __contains__(self, item: object) -> bool:
        return any(item is other or item == other for other in self)

    def __getitem__(self, key: object) -> Any:
        return _do(self, "getitem", key)

    def __setitem__(self, key: object, value: object) -> None:
        _do(self, "setitem", key, value)

    def __delitem__(self, key: object) -> None:
        _do(self, "delitem", key)

    def __enter__(self) -> Any:
        return _do(self, "contextlib.enter")

    def __exit__(self, kind: object, error: object, trace: object) -> Any:
        return _do(self, "contextlib.exit", None, None, None)

    def __mro_entries__(self, bases: tuple[object, ...]) -> tuple[type, ...]:
        remote: Remote = object.__getattribute__(self, "_remote")
        raise remote.cannot("a test derives a class from one of the program")

    def __instancecheck__(self, instance: object) -> bool:
        remote: Remote = object.__getattribute__(self, "_remote")
        return remote.do("isinstance", instance, self) is True

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Handle):
            return bool(_do(self, "eq", other))
        try:
            base = _do(self, "base")
        except TypeError:
            return False
        return not isinstance(base, Handle) and bool(base == other)

    def __ne__(self, other: object) -> bool:
        return not self == other


def _do(handle: Handle, operation: str, *args: object, **named: object) -> Any:
    remote: Remote = object.__getattribute__(handle, "_remote")
    return remote.do(operation, handle, *args, **named)


def _typed(handle: Handle, operation: str, kind: type[T]) -> T:
    value = _do(handle, operation)
    if type(value) is not kind:
        raise TypeError(f"{operation}() gives a {type(value).__name__}")
    checked: T = value
    return checked


def _binary(operation: str, *, ordered: bool = False, reflected: bool = False) -> Callable[[Handle, object], Any]:
    def method(self: Handle, other: object) -> Any:
        if not isinstance(other, Handle) and ordered:
            return NotImplemented
        remote: Remote = object.__getattribute__(self, "_remote")
        result = remote.do(operation, *((other, self) if reflected else (self, other)))
        if not isinstance(other, Handle) and not isinstance(result, Handle):
            raise TypeError(f"{operation} of a program's object and a value of a test must not give a plain value")
        return result

    return method


def _unary(operation: str) -> Callable[[Handle], Any]:
    def method(self: Handle) -> Any:
        if not isinstance(result := _do(self, operation), Handle):
            raise TypeError(f"{operation} of a program's object must not give a plain value")
        return result

    return method


for _name in ("lt", "le", "gt", "ge"):
    setattr(Handle, f"__{_name}__", _binary(_name, ordered=True))
for _name in (
    *("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul"),
    *("and_", "or_", "xor", "lshift", "rshift"),
):
    setattr(Handle, f"__{_name.strip('_')}__", _binary(_name))
    setattr(Handle, f"__r{_name.strip('_')}__", _binary(_name, reflected=True))
for _name in ("neg", "pos", "invert"):
    setattr(Handle, f"__{_name}__", _unary(_name))
