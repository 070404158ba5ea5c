"""Encode plain Python values as JSON and decode them, so that results are compared outside the program's process.

Encoding keeps equality: a default or ordered dictionary becomes a dictionary, which compares equal. Values that
are not plain (instances of a program's own classes, functions, generators) are given to a `foreign` function of the
caller, which refuses them by default.
"""

from __future__ import annotations

import binascii
import datetime
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Any, Final

Json = Any

_SMALL_INT: Final = 1 << 63
_ATOMS: Final = (str, float)
_SEQUENCES: Final[dict[str, Any]] = {"tuple": tuple, "set": set, "frozenset": frozenset, "deque": deque}
_DICTS: Final = (dict, OrderedDict, defaultdict)
_DATES: Final[dict[str, Any]] = {"datetime": datetime.datetime, "date": datetime.date, "time": datetime.time}
_VIEWS: Final[dict[str, type]] = {"keys": type({}.keys()), "values": type({}.values()), "items": type({}.items())}


def _refuse(value: object) -> Json:
    raise TypeError(f"{type(value).__name__} is not a plain value")


def _unknown(name: str, content: Json) -> object:
    raise ValueError(f"unknown kind of value: {name}")


def encode(value: object, foreign: Callable[[object], Json] = _refuse) -> Json:
    """JSON for a plain value; `foreign` encodes any other value, also a nested one, as an object with a single key.

    Raises:
        TypeError: the value, or one inside it, is not plain.
        RecursionError: it is nested too deeply, or holds itself.
    """
    kind = type(value)
    if value is None or kind is bool or kind in _ATOMS:
        return value
    if kind is int:
        return value if -_SMALL_INT < value < _SMALL_INT else {"int": hex(value)}  # type: ignore[operator,arg-type]
    if kind is list:
        return [encode(item, foreign) for item in value]  # type: ignore[attr-defined]
    for name, plain in _SEQUENCES.items():
        if kind is plain:
            return {name: [encode(item, foreign) for item in value]}  # type: ignore[attr-defined]
    if kind in _DICTS or kind is Counter:
        pairs = [[encode(key, foreign), encode(item, foreign)] for key, item in value.items()]  # type: ignore[attr-defined]
        return {"counter" if kind is Counter else "dict": pairs}
    encoded = _rarer(value, foreign)
    return foreign(value) if encoded is None else encoded


def _rarer(value: Any, foreign: Callable[[object], Json]) -> Json:
    kind = type(value)
    if kind in (bytes, bytearray):
        return {kind.__name__: binascii.b2a_base64(value, newline=False).decode("ascii")}
    if kind is complex:
        return {"complex": [value.real, value.imag]}
    if kind is range:
        return {"range": [encode(end) for end in (value.start, value.stop, value.step)]}
    if kind is Fraction:
        return {"fraction": [encode(value.numerator), encode(value.denominator)]}
    if kind is Decimal:
        return {"decimal": str(value)}
    if kind is datetime.timedelta:
        return {"timedelta": [value.days, value.seconds, value.microseconds]}
    for name, plain in _DATES.items():
        if kind is plain:
            return {name: value.isoformat()}
    for name, plain in _VIEWS.items():
        if kind is plain:
            return {name: [encode(item, foreign) for item in value]}
    return None


def base_of(value: object) -> object:
    """The plain value of an instance of a program's own subclass of a plain type, as `==` sees it.

    Raises:
        TypeError: its class has no plain base.
    """
    for plain in (bool, int, float, complex, str, bytes):
        if isinstance(value, plain):
            # The methods of the base, called by name: a class may override those that `int(value)` would look up.
            reads: dict[type, Callable[[Any], object]] = {
                int: lambda v: int.__add__(v, 0),
                float: lambda v: float.__add__(v, 0.0),
                complex: lambda v: complex.__add__(v, 0j),
                str: str.__str__,
                bytes: lambda v: bytes.__getitem__(v, slice(None)),
            }
            return reads[plain](value)
    if isinstance(value, dict):
        return dict(zip(dict.keys(value), dict.values(value), strict=True))
    sequence: type
    for sequence in (list, tuple, set, frozenset, deque):
        if isinstance(value, sequence):
            kind: Any = sequence
            return kind(kind.__iter__(value))
    raise TypeError(f"{type(value).__name__} has no plain base")


def decode(data: Json, foreign: Callable[[str, Json], object] = _unknown) -> object:
    """Decode a value from `encode`; `foreign` decodes what the `foreign` of `encode` made.

    Raises:
        ValueError, TypeError, ArithmeticError, RecursionError: `data` was not made by `encode`.
    """
    if isinstance(data, list):
        return [decode(item, foreign) for item in data]
    if not isinstance(data, dict):
        return data
    ((name, content),) = data.items()
    if name in _SEQUENCES:
        return _SEQUENCES[name](decode(item, foreign) for item in content)
    if name in ("dict", "counter"):
        pairs = {decode(key, foreign): decode(item, foreign) for key, item in content}
        return pairs if name == "dict" else Counter(pairs)
    if name in _VIEWS:
        return _view(name, [decode(item, foreign) for item in content])
    if name in ("bytes", "bytearray"):
        return (bytes if name == "bytes" else bytearray)(binascii.a2b_base64(content))
    if name in _DATES:
        return _DATES[name].fromisoformat(content)
    return _rest(name, content, foreign)


def _rest(name: str, content: Json, foreign: Callable[[str, Json], object]) -> object:
    if name == "int":
        return int(content, 16)
    if name == "complex":
        return complex(*content)
    if name in ("range", "fraction"):
        parts: Any = [decode(part) for part in content]
        return range(*parts) if name == "range" else Fraction(*parts)
    if name == "decimal":
        return Decimal(content)
    if name == "timedelta":
        return datetime.timedelta(*content)
    return foreign(name, content)


def _view(name: str, items: Sequence[Any]) -> object:
    if name == "keys":
        return dict.fromkeys(items).keys()
    return dict(enumerate(items)).values() if name == "values" else dict(items).items()
