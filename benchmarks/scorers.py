"""How well answers are scored: agreement, false accepts and false rejects on suites that others wrote.

`python -m benchmarks.scorers FOLDER [--busy 8] [--timing] [--list 40]`

A suite is a file `NAME.jsonl` in FOLDER (never committed), one case a line:

    {"gold": "1/2", "answer": "The answer is $0.5$.", "expected": true, "note": "where it is from"}

`answer` is a solution as a model writes it, `expected` what the suite's authors call right. Two more fields may stand
there: `question` (multiple choice is read from it) and `domain` (`math` unless it says `science`). Without FOLDER
only our own suites are scored (`benchmarks/data/scorers.jsonl`: 200 multiple-choice and 150 quantity answers, and
`spellings.jsonl`: 1,322 ways to write and to miss an answer; `known` gives the reason where our outcome is another;
`notations.jsonl`: pairs of notations; `attacks.jsonl`: answers that try to pass for another one).

`--busy N` scores everything once more beside N processes that keep a processor busy: the outcomes must be the same.
`--timing` shows the processor time of extraction and scoring on texts of 10 to 1,000 KiB that collapsed models write.
Programs have a benchmark of their own, beside this one.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from envs.domains import domain_of
from envs.domains.extraction import final_answer
from svd_loop.contracts import Domain, DomainName, Outcome, Problem

OWN = Path(__file__).parent / "data"
KIB = (10, 32, 100, 320, 1000)
ENDLESS = {
    "open boxes": "\\boxed{",
    "nested boxes": "\\boxed{1} ",
    "markers": "the answer is ",
    "empty markers": "Answer:\n",
    "far-reaching markers": "answer to this and ",
    "hashes": "#### ",
    "braces": "{",
    "closed braces": "}",
    "digits": "1",
    "letters": "a",
    "fences": "```python\n",
    "dollars": "$",
}


@dataclass(frozen=True, slots=True)
class Case:
    """One line of a suite."""

    suite: str
    gold: str
    answer: str
    expected: bool
    domain: DomainName
    question: str
    note: str


def main() -> None:
    """Print a line a suite, then the cases where our outcome is another."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--busy", type=int, default=0, help="processes beside a second run")
    parser.add_argument("--timing", action="store_true")
    parser.add_argument("--list", type=int, default=20, help="cases of another outcome to print for each suite")
    arguments = parser.parse_args()
    files = [*sorted(OWN.glob("*.jsonl")), *sorted(arguments.folder.glob("*.jsonl") if arguments.folder else [])]
    cases = [case for path in files for case in read(path)]
    outcomes = score(cases)
    report(cases, outcomes, arguments.list)
    if arguments.busy:
        with busy(arguments.busy):
            again = score(cases)
        changed = sum(one is not other for one, other in zip(outcomes, again, strict=True))
        print(f"\nbeside {arguments.busy} busy processes: {changed} of {len(cases)} outcomes differ, {Counter(again)}")
    if arguments.timing:
        timing()


def read(path: Path) -> Iterator[Case]:
    """The cases of a suite."""
    for line in path.read_text(encoding="utf-8").split("\n"):
        if line.strip():
            row = json.loads(line)
            domain, question = row.get("domain", Domain.MATH), row.get("question", "?")
            note = row.get("known", row.get("note", ""))
            yield Case(path.stem, row["gold"], row["answer"], row["expected"], domain, question, note)


def score(cases: Sequence[Case]) -> list[Outcome]:
    """Our outcome of every case, in order."""
    found: dict[int, Outcome] = {}
    for domain in (Domain.MATH, Domain.SCIENCE):
        places = [place for place, case in enumerate(cases) if case.domain == domain]
        pairs = [
            (cases[place].answer, Problem(str(place), cases[place].question, domain, cases[place].gold))
            for place in places
        ]
        found |= zip(places, domain_of(domain).score_all(pairs, seconds=5.0), strict=True)
    return [found[place] for place in range(len(cases))]


def report(cases: Sequence[Case], outcomes: Sequence[Outcome], shown: int) -> None:
    """Agreement by suite, and the first cases that differ."""
    heading = f"{'suite':<20}{'cases':>7}{'agree %':>9}{'false accepts':>15}{'false rejects':>15}"
    print(f"{heading}{'% of right':>12}{'undecided':>11}")
    others: dict[str, list[str]] = {}
    for suite in dict.fromkeys(case.suite for case in cases):
        own = [(case, found) for case, found in zip(cases, outcomes, strict=True) if case.suite == suite]
        accepts = [case for case, found in own if found is Outcome.RIGHT and not case.expected]
        rejects = [case for case, found in own if found is Outcome.WRONG and case.expected]
        undecided = [case for case, found in own if found is Outcome.UNDECIDED]
        right = sum(case.expected for case, _ in own)
        agree = len(own) - len(accepts) - len(rejects) - len(undecided)
        print(
            f"{suite:<20}{len(own):>7,}{100 * agree / len(own):>9.2f}{len(accepts):>15}{len(rejects):>15}"
            f"{100 * len(rejects) / max(1, right):>12.2f}{len(undecided):>11}"
        )
        others[suite] = [
            f"  {kind}: gold {case.gold[:70]!r}, answer {shown_answer(case)!r} ({case.note})"
            for kind, items in (("accepted", accepts), ("rejected", rejects), ("undecided", undecided))
            for case in items[:shown]
        ]
    for suite, lines in others.items():
        if lines:
            print(f"\n{suite}:", *lines, sep="\n")


def shown_answer(case: Case) -> str:
    """What we took for the answer, or the end of a solution without one."""
    return (final_answer(case.answer) or case.answer[-70:])[:70]


@contextmanager
def busy(processes: int) -> Iterator[None]:
    """Processes that keep a processor busy until the block ends."""
    running = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(processes)]
    try:
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()


def timing() -> None:
    """Milliseconds of processor time for extraction and scoring, by text and length."""
    print(f"\n{'ms for KiB':<22}" + "".join(f"{size:>9,}" for size in KIB))
    problem = Problem("p", "Which? A) 1 B) 2", Domain.SCIENCE, "5 m")
    for name, unit in ENDLESS.items():
        figures = []
        for size in KIB:
            text = unit * (size * 1024 // len(unit))
            start = time.process_time()
            for domain in (Domain.MATH, Domain.SCIENCE):
                domain_of(domain).score(text, problem)
            figures.append(1000 * (time.process_time() - start))
        print(f"{name:<22}" + "".join(f"{figure:>9.1f}" for figure in figures))


if __name__ == "__main__":
    main()
