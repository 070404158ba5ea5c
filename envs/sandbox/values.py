"""Plain Python values as JSON and back, so that a result can be compared where the program cannot reach.

Encoding keeps what `==` sees: subclasses (named tuples, ordered and default dictionaries, counters) become their plain
base, which compares equal. A value of any other type has no encoding, so it is equal to nothing here; a program
that answers with, say, a `Fraction` where the test names a float is marked wrong.
"""

from __future__ import annotations

from typing import Any

Json = Any

_SEQUENCES: dict[str, Any] = {"tuple": tuple, "set": set, "frozenset": frozenset}


def encode(value: object) -> Json:
    """JSON for a plain value.

    Raises:
        TypeError: the value, or one inside it, is not plain.
        RecursionError: it is nested too deeply, or holds itself.
    """
    if value is None or isinstance(value, bool):
        return value
    for plain in (int, float, str):
        if isinstance(value, plain):
            return plain(value)
    if isinstance(value, list):
        return [encode(item) for item in value]
    for name, kind in _SEQUENCES.items():
        if isinstance(value, kind):
            return {name: [encode(item) for item in value]}
    if isinstance(value, dict):
        return {"dict": [[encode(key), encode(item)] for key, item in value.items()]}
    if isinstance(value, (bytes, bytearray)):
        return {"bytes": value.decode("latin-1")}
    if isinstance(value, complex):
        return {"complex": [value.real, value.imag]}
    raise TypeError(f"{type(value).__name__} is not a plain value")


def decode(data: Json) -> object:
    """The value `encode` was given (as its plain base type).

    Raises:
        ValueError, TypeError, RecursionError: `data` was not made by `encode`.
    """
    if isinstance(data, list):
        return [decode(item) for item in data]
    if not isinstance(data, dict):
        return data
    ((name, content),) = data.items()
    if name in _SEQUENCES:
        return _SEQUENCES[name](decode(item) for item in content)
    if name == "dict":
        return {decode(key): decode(item) for key, item in content}
    if name == "bytes":
        return str(content).encode("latin-1")
    if name == "complex":
        return complex(*content)
    raise ValueError(f"unknown kind of value: {name}")
