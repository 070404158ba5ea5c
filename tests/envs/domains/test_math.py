"""Mathematics: which answers are right, wrong or undecided. The names C1 to C5 are kinds of faults found once."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest

from envs.domains import domain_of
from envs.domains.library import Library, UndecidedError
from svd_loop.contracts import Domain, Outcome, Problem

SAMPLE = Path(__file__).parents[2] / "data" / "gsm8k_sample.jsonl"
MATH = domain_of(Domain.MATH)


def problem(answer: str) -> Problem:
    return Problem(answer, "How many?", Domain.MATH, answer)


def others(pairs: list[tuple[str, str]], expected: Outcome) -> list[tuple[str, str]]:
    """The pairs of gold and answer whose outcome is another."""
    results = MATH.score_all([(rf"\boxed{{{answer}}}", problem(gold)) for gold, answer in pairs], seconds=5.0)
    return [pair for pair, found in zip(pairs, results, strict=True) if found is not expected]


EQUAL = [
    *(("18", answer) for answer in ("18", "18.00", r"\$18", "$18$", r"\text{18}", "(18)", "+18", "18.", r"\(18\)")),
    *(
        ("70000", answer)
        for answer in ("70,000", r"70{,}000", r"70\,000", "70 000", r"70,\!000", "7e4", r"7\cdot 10^4")
    ),
    *(("1/2", answer) for answer in (r"\frac{1}{2}", "0.5", r"\frac12", "x = 1/2", r"\dfrac12", ".5", r"50\%")),
    ("70,000", r"70{,}000"),
    ("x=5", "5"),
    (r"\sqrt{2}", "2^{1/2}"),
    (r"\{1, 2\}", r"\{2, 1\}"),
    ("(1,2)", "(1, 2)"),
    ("1,2", r"x=1 \text{ or } x=2"),
    ("x^2+2x+1", "(x+1)^2"),
    ("2x+4y-3=0", r"y=-\frac{1}{2}x+\frac{3}{4}"),
    (r"(-\infty,1)\cup(2,\infty)", r"(2, \infty) \cup (-\infty, 1)"),
    (r"\pm 3", "3,-3"),
    ("1<x<2", "(1,2)"),
    (r"\text{north}", "North"),
    (r"\frac34i", r"\frac{3i}{4}"),
    (r"\begin{pmatrix}1&2\\3&4\end{pmatrix}", r"\left[\begin{array}{cc}1 & 2 \\ 3 & 4\end{array}\right]"),
]
C3_SPELLINGS = [
    (r"\infty", "∞"),
    ("1/2", "½"),
    (r"\sqrt{2}", "√2"),
    ("x^2", "x²"),
    ("90", "90°"),
    (r"90^\circ", "90 degrees"),
    (r"\frac13", r"0.\overline{3}"),
    (r"\frac{1}{6}", r"0.1\overline{6}"),
    ("100000", "10^5"),
    (r"2\pi", "2π"),
    (r"2\pi", "2*pi"),
    (r"\frac{\sqrt{2}}{2}", "sqrt(2)/2"),
    ("-5", "−5"),
    ("7.75", r"7\frac{3}{4}"),
    ("7.75", "7 3/4"),
    ("1/2", r"{1 \over 2}"),
    (r"(3,\frac{\pi}{2})", r"\\left(3, \\frac{\\pi}{2}\\right)"),
]
C3_UNITS = [
    *(("18", answer) for answer in ("18 dollars", r"18\text{ dollars}", "$18", "18 USD", r"18\ \mathrm{cm}", "18cm")),
    *(("2310", answer) for answer in ("2310 €", "€2310", "2310 liters", "2310 square feet", "2310 red marbles")),
    ("10 units", "10"),
    ("5 cm", "50 mm"),
    ("3 hours", "180 minutes"),
    (r"2\sqrt{3}\text{ cm}", r"2\sqrt{3}"),
    ("2500000", "2.5 million"),
]
C4_NUMBERS = [
    ("2500000", "2.5e6"),
    ("2500000.0", "2500000"),
    ("0.3333333333333333", "0.33333333"),
    ("0.3333333333333333", r"\frac{1}{3}"),
    ("0.30000000000000004", "0.3"),
    (r"\frac23", "0.666667"),
    ("1e-07", "0.0000001"),
]
DIFFERENT = [
    ("50", r"50\%"),
    *(("18", answer) for answer in ("19", "18 or 19", "1 8", "", "{" * 30, "0" * 2000 + "18", "-18", "18x", "18ab")),
    ("1/2", "1/3"),
    ("(1,2)", "(2,1)"),
    ("70000", "70.000"),
    ("1.41", r"\sqrt{2}"),
    ("", "18"),
    ("1", r"\text{yes}"),
    ("0.33", r"\frac13"),
    ("1", "1.0000001"),
    (r"\frac23", "0.666666"),
    ("x=1", "y=1"),
    ("[0,1)", "(0,1)"),
    ("x>5", r"x\ge 5"),
    ("5m", "5"),
    ("10^5", "10^6"),
]
C5_FALSE_ACCEPTS = [
    (r"\frac{1}{2^{98}}", r"\frac{1}{2^{99}}"),
    (r"\frac{x}{2^{98}}", r"\frac{x}{2^{99}}"),
    (r"\frac{1}{2004!}", r"\frac{1}{2006!}"),
    (r"\sqrt{2}\cdot 10^{-20}", r"\sqrt{3}\cdot 10^{-20}"),
    ("0.0000001", "0.0000002"),
    ("0", "10^{-30}"),
    ("12_7", "12_5"),
    ("7", "7_8"),
    ("A", "a"),
    ("e", "E"),
    (r"\{1,2\}", "(1,2)"),
    *(("5", answer) for answer in (r"5\text{ or more}", "5,5", "at least 5", "not 5", "5 to 6", "less than 5", "5!")),
    ("0.5", r"0.5\%"),
    ("5 cm", "5 kg"),
]


@pytest.mark.parametrize("pairs", [EQUAL, C3_SPELLINGS, C3_UNITS, C4_NUMBERS], ids=["equal", "C3", "C3 units", "C4"])
def test_answers_equal_as_mathematics_are_right(pairs: list[tuple[str, str]]) -> None:
    assert others(pairs, Outcome.RIGHT) == []


@pytest.mark.parametrize("pairs", [DIFFERENT, C5_FALSE_ACCEPTS], ids=["different", "C5"])
def test_other_answers_are_wrong(pairs: list[tuple[str, str]]) -> None:
    assert others(pairs, Outcome.WRONG) == []


def test_gsm8k_gold_is_right_in_many_dresses_and_another_problems_gold_is_not() -> None:
    rows = [json.loads(line) for line in SAMPLE.read_text(encoding="utf-8").splitlines()]
    golds = [row["answer"].rpartition("####")[2].strip() for row in rows]
    dresses = (
        "{answer}",
        r"\boxed{{{gold}}}",
        r"\boxed{{\${gold}}}",
        r"\boxed{{{bare}.00}}",
        "The answer is ${gold}.",
        r"So $\boxed{{{latex}}}$ dollars.",
        "**Answer:** {bare}",
        "Final Answer: The final answer is ${bare}$. I hope it is correct.",
        "### Final Answer\n\n{gold} dollars",
    )
    for dress in dresses:
        pairs = [
            (
                dress.format(
                    answer=row["answer"], gold=gold, bare=gold.replace(",", ""), latex=gold.replace(",", "{,}")
                ),
                Problem(row["question"], row["question"], Domain.MATH, gold),
            )
            for row, gold in zip(rows, golds, strict=True)
        ]
        assert set(MATH.score_all(pairs, seconds=5.0)) == {Outcome.RIGHT}, dress
        shifted = [(text, other) for (text, _), (_, other) in zip(pairs, pairs[1:] + pairs[:1], strict=True)]
        assert set(MATH.score_all(shifted, seconds=5.0)) == {Outcome.WRONG}, dress


@pytest.mark.slow
def test_a_computation_without_end_is_undecided_and_harms_nobody() -> None:
    answers = (r"9^{9^{9^9}}", r"\sqrt{2}")
    pairs = [(rf"\boxed{{{answer}}}", problem("2^{1/2}")) for answer in answers]
    assert MATH.score_all(pairs, seconds=5.0) == [Outcome.UNDECIDED, Outcome.RIGHT]


@pytest.mark.slow
def test_time_that_only_passes_decides_nothing() -> None:
    """C1: the child stands still for longer than its limit of processor time, as on a machine that is busy."""
    with Library() as library:
        assert library.equal(r"\sqrt{2}", "2^{1/2}")
        assert library._child is not None
        child = library._child._process.pid
        os.kill(child, signal.SIGSTOP)
        if os.fork() == 0:  # pragma: no cover
            time.sleep(7)
            os.kill(child, signal.SIGCONT)
            os._exit(0)
        assert library.equal(r"\sqrt{3}", "3^{1/2}")
        os.wait()


def test_a_dead_child_costs_one_question() -> None:
    with Library() as library:
        assert library.equal(r"\sqrt{2}", "2^{1/2}")
        assert library._child is not None
        library._child._process.kill()
        with pytest.raises(UndecidedError):
            library.equal(r"\sqrt{3}", "3^{1/2}")
        assert library.equal(r"\sqrt{5}", "5^{1/2}")
