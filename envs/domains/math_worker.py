"""The child process of `envs.domains.library`: calls `math-verify` and `pint` for one message at a time.

Each question has its own timer of processor time; its signal ends the process, also in the middle of a C function. A
question that used much memory ends it too, because a failed allocation in the libraries would look like "not equal".

`math-verify` accepts some pairs that differ: differences below 10^-15 vanish in its numeric comparison, and six
decimals decide however small the numbers are. What it calls equal is therefore evaluated again, at points of our
choice and with many digits, and a clear difference overrules it.
"""

from __future__ import annotations

import re
import resource
import signal
import sys
from typing import Any, Final

import pint
import sympy
from latex2sympy2_extended import NormalizationConfig
from math_verify import ExprExtractionConfig, LatexExtractionConfig, parse, verify

from envs.sandbox.frames import ChannelClosed, read_frame, write_frame

_CPU_SECONDS: Final = 5.0
_MEMORY_BYTES: Final = 4 * 1024**3
_MUCH_MEMORY_KIB: Final = 2 * 1024**2
_SPELLING: Final = NormalizationConfig(basic_latex=True, units=False, malformed_operators=True, nits=True, boxed="all")
_TARGETS: Final = (
    LatexExtractionConfig(boxed_match_priority=0, normalization_config=_SPELLING),
    ExprExtractionConfig(),
)
_IMAGINARY: Final = re.compile(r"(?<=[0-9])i(?![a-zA-Z])")
"""An `i` behind a digit; `math-verify` reads it as the imaginary unit only if a space stands before it."""
_DIGITS: Final = 60
_NOTHING: Final = "1e-45"
"""The largest difference that evaluating exact expressions in `_DIGITS` digits may leave."""
_POINTS: Final = (sympy.Rational(8191, 5039), sympy.Rational(127, 311), sympy.Rational(3571, 1009))
_UNITS: Final[pint.UnitRegistry[Any]] = pint.UnitRegistry()


def equal(gold: str, answer: str) -> bool:
    """Whether two expressions are mathematically equal; an expression that cannot be parsed is not."""
    parsed = [
        parse(f"\\boxed{{{_IMAGINARY.sub(' i', text)}}}", _TARGETS, parsing_timeout=None) for text in (gold, answer)
    ]
    if not all(parsed):
        return False
    parsed = [[_with_derivatives(side) for side in sides] for sides in parsed]
    if not verify(*parsed, timeout_seconds=None):
        return coincide(parsed[0][0], parsed[1][0])
    return not differ(parsed[0][0], parsed[1][0])


def _with_derivatives(side: Any) -> Any:
    r"""Name derivatives of variables (`\frac{dy}{dx}`): evaluated, all of them would be 0, and so equal."""
    if not isinstance(side, sympy.Basic):
        return side
    found = [each for each in side.atoms(sympy.Derivative) if each.expr.is_Symbol]
    return side.xreplace({each: sympy.Symbol(f"d_{each.expr}_{each.variables}") for each in found})


def coincide(gold: Any, answer: Any) -> bool:
    r"""Whether two constants that `math-verify` called different have the same value in many digits.

    It compares no decimal power (`2^{0.5}`) and takes `i` for a variable, also in `e^{i\pi}`.
    """
    sides = [_constant(side) for side in (gold, answer)]
    if sides[0] is None or sides[1] is None:
        return False
    try:
        size, difference = sympy.N(abs(sides[0]), _DIGITS), sympy.N(sides[0] - sides[1], _DIGITS)
        if not all(value.is_number and value.is_finite for value in (size, difference)):
            return False
        return bool(abs(difference) <= min(size, 1) * sympy.Float(_NOTHING))
    except (TypeError, ValueError, ArithmeticError, AttributeError, NotImplementedError):
        return False


def _constant(side: Any) -> Any:
    """An expression without variables, exactly; None for any other."""
    if not isinstance(side, sympy.Expr) or isinstance(side, sympy.Float):
        return None
    constant = _exact(side).subs({name: sympy.I for name in side.free_symbols if str(name) == "i"}).doit()
    return None if constant.free_symbols else constant


def differ(gold: Any, answer: Any) -> bool:
    """Whether two expressions that `math-verify` called equal clearly have different values."""
    gold, answer = _value(gold, answer), _value(answer, gold)
    if isinstance(gold, sympy.MatrixBase) and isinstance(answer, sympy.MatrixBase) and gold.shape == answer.shape:
        return any(differ(one, other) for one, other in zip(gold.flat(), answer.flat(), strict=True))
    if not isinstance(gold, sympy.Expr) or not isinstance(answer, sympy.Expr):
        return False
    names = sorted(gold.free_symbols | answer.free_symbols, key=str)
    return any(
        _far({name: point + place for place, name in enumerate(names)}, gold, answer)
        for point in (_POINTS if names else _POINTS[:1])
    )


def _value(one: Any, other: Any) -> Any:
    """The right side of `x = 5` where the other side is no equation."""
    if isinstance(one, sympy.Eq) and not isinstance(other, sympy.Eq):
        return one.rhs
    return one


def _far(point: dict[Any, Any], gold: sympy.Expr, answer: sympy.Expr) -> bool:
    try:
        sides = [_exact(side).doit().subs(point) for side in (gold, answer)]
        is_exact = not (gold.has(sympy.Float) or answer.has(sympy.Float))
        if is_exact and all(side.is_Rational for side in sides):
            return bool(sides[0] != sides[1])
        values = [sympy.N(side, _DIGITS) for side in sides]
        if not all(value.is_number and value.is_finite for value in values):
            return False
        one, other = values
        size = max(abs(one), abs(other))
        if size == 0 or abs(one - other) <= size * sympy.Float(_NOTHING if is_exact else "1e-12"):
            return False
        return not any(_is_rounding(*sides) for sides in ((gold, other), (answer, one)))
    except (TypeError, ValueError, ArithmeticError, AttributeError, NotImplementedError):
        return False


def _exact(side: sympy.Expr) -> sympy.Expr:
    """The expression with its decimals as fractions, so that evaluation keeps all digits."""
    return side.xreplace({found: sympy.Rational(str(found)) for found in side.atoms(sympy.Float)})


def _is_rounding(side: sympy.Expr, value: sympy.Expr) -> bool:
    """Whether a side written with six or more decimals is the other side's value, rounded."""
    if not isinstance(side, sympy.Float):
        return False
    places = len(str(side).rstrip("0").partition(".")[2])
    return places >= 6 and bool(abs(sympy.Rational(str(side)) - value) <= sympy.Rational(1, 2 * 10**places))


def factor(given: str, wanted: str) -> float | None:
    """How many of the second unit one of the first is; None where there is no such factor."""
    try:
        nothing, one = (_UNITS.Quantity(count, given).to(wanted) for count in (0.0, 1.0))
    except (pint.PintError, ValueError, TypeError, ArithmeticError, AttributeError, SyntaxError, AssertionError):
        return None
    return float(one.magnitude) if nothing.magnitude == 0 else None


def main() -> None:
    """Answer requests until standard input closes."""
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    answers = {"equal": equal, "factor": factor}
    while True:
        try:
            question = read_frame(0)
        except ChannelClosed:
            return
        signal.setitimer(signal.ITIMER_PROF, _CPU_SECONDS)
        found = answers[question["what"]](question["one"], question["other"])
        signal.setitimer(signal.ITIMER_PROF, 0.0)
        if not found and resource.getrusage(resource.RUSAGE_SELF).ru_maxrss > _MUCH_MEMORY_KIB:
            sys.exit("too much memory")
        write_frame(1, {"found": found})


if __name__ == "__main__":
    main()
