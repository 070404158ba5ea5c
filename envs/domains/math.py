r"""Mathematics: an answer is right when it equals the gold answer as mathematics, by `math-verify`.

`math-verify` parses with antlr, compares with sympy, and bounds itself with SIGALRM. That needs a main thread and
cannot interrupt one long C computation (`9^{9^{9^9}}` as an integer), so it runs in a child process with a memory
limit, killed and replaced when it is late; such an answer is undecided. The child also keeps its log away from ours.

Most answers are plain numbers. Those are compared exactly and at once, without the child.

What `math-verify` decides and this module does not soften: words beside a number (`18 dollars`) are part of the
answer unless set as text (`18\text{ dollars}`); `50\%` equals both 50 and 0.5; decimals agree to six places.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Final

from envs.domains.extraction import final_answer
from envs.domains.spec import Pair
from envs.sandbox.child import ChannelClosed, ChannelTimeout, Child
from svd_loop.contracts import Outcome

_SECONDS: Final = 10.0
"""Wall time of one comparison in the child, start-up of the libraries apart."""
_START_SECONDS: Final = 120.0
_LONGEST: Final = 1000
"""Characters; a longer answer is no answer."""
_NUMBER: Final = re.compile(r"[+-]?(?:[0-9]{1,3}(?:(?:,|\{,\})[0-9]{3})+|[0-9]+)(?:\.[0-9]+)?|[+-]?\.[0-9]+")
_WRAPPERS: Final = (("$", "$"), ("\\(", "\\)"), ("\\text{", "}"), ("\\mathrm{", "}"), ("\\textbf{", "}"), ("**", "**"))

extract = final_answer


def score_all(pairs: Sequence[Pair], *, seconds: float) -> list[Outcome]:
    """Whether each solution's final answer equals its problem's; `seconds` is not used (see `DomainSpec`)."""
    answers = [extract(solution) for solution, _ in pairs]
    questions = [
        (problem.answer, answer) for (_, problem), answer in zip(pairs, answers, strict=True) if answer is not None
    ]
    with Comparer() as comparer:
        decided = {question: comparer.equal(*question) for question in dict.fromkeys(questions)}
    return [
        Outcome.WRONG if answer is None else decided[problem.answer, answer]
        for (_, problem), answer in zip(pairs, answers, strict=True)
    ]


class Comparer:
    """Decides equality; holds the child, which is started when the first answer needs it."""

    def __init__(self) -> None:
        self._child: Child | None = None

    def __enter__(self) -> Comparer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def equal(self, gold: str, answer: str) -> Outcome:
        """Whether `answer` is mathematically `gold`. Not symmetric: `x=5` answers 5 and 5 answers `x=5`."""
        gold, answer = plain(gold), plain(answer)
        if not gold or not answer or len(answer) > _LONGEST:
            return Outcome.WRONG
        if gold == answer:
            return Outcome.RIGHT
        numbers = number(gold), number(answer)
        if None not in numbers:
            return Outcome.of(numbers[0] == numbers[1])
        return self._ask(gold, answer)

    def _ask(self, gold: str, answer: str) -> Outcome:
        try:
            return Outcome.of(self._ready_child().ask({"gold": gold, "answer": answer}, _SECONDS)["equal"] is True)
        except (ChannelTimeout, ChannelClosed):
            self._stop()
            return Outcome.UNDECIDED

    def _ready_child(self) -> Child:
        if self._child is None:
            package_root = str(Path(__file__).resolve().parents[2])
            self._child = Child(
                [sys.executable, "-P", "-m", "envs.domains.math_worker"],
                {**os.environ, "PYTHONPATH": os.pathsep.join(_paths(package_root))},
            )
            self._child.ask({"gold": "1", "answer": "\\frac{2}{2}"}, _START_SECONDS)
        return self._child

    def _stop(self) -> None:
        if self._child is not None:
            self._child.close()
            self._child = None


def plain(answer: str) -> str:
    """The answer without what only sets it: math and text delimiters around all of it, spaces, a full stop."""
    text = answer.strip().removesuffix(".").strip()
    for opening, closing in _WRAPPERS:
        inner = text[len(opening) : len(text) - len(closing)]
        whole = inner and text == opening + inner + closing
        if whole and not any(mark in inner for mark in "${}*"):
            return plain(inner)
    return text


def number(text: str) -> Fraction | None:
    """A plain integer or decimal, perhaps with thousands separators or a leading dollar sign; None for all else."""
    digits = text.removeprefix("\\").removeprefix("$").strip()
    return Fraction(re.sub(r"[,{}]", "", digits)) if _NUMBER.fullmatch(digits) else None


def _paths(first: str) -> Iterable[str]:
    yield first
    if inherited := os.environ.get("PYTHONPATH"):
        yield inherited
