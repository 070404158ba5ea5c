"""Whether two spellings of a unit mean the same kind of quantity, and how many of one make the other.

A thin layer over `pint`, which knows the units; this only keeps hostile input away from its parser and turns
everything it cannot convert into "no".
"""

from __future__ import annotations

import functools
import re
from tokenize import TokenError
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pint

_LONGEST = 40
_EXPONENTS = re.compile(r"\^-?[0-9]{3,}|\^.*\^")
"""Powers no unit has, which would only cost time."""


@functools.lru_cache(maxsize=4096)
def factor(given: str, wanted: str) -> float | None:
    """How many `wanted` one `given` is (`km` in `m`: 1000.0), or None where one cannot be converted to the other.

    Units with an offset (degrees Celsius) convert to themselves alone: a factor cannot say it.
    """
    if given == wanted:
        return 1.0
    if not given or not wanted or any(len(unit) > _LONGEST or _EXPONENTS.search(unit) for unit in (given, wanted)):
        return None
    import pint

    try:
        nothing, one = (_registry().Quantity(count, given).to(wanted) for count in (0.0, 1.0))
        return float(one.magnitude) if nothing.magnitude == 0 else None
    except (
        pint.PintError,
        TokenError,
        AssertionError,
        ValueError,
        TypeError,
        ArithmeticError,
        AttributeError,
        SyntaxError,
    ):
        return None


@functools.cache
def _registry() -> pint.UnitRegistry[Any]:
    import pint

    return pint.UnitRegistry()
