"""Agreement of the scorer of programs with plain execution, on public sets and on problems of our own.

    python -m benchmarks.scorers_programs --humaneval HumanEval.jsonl --mbpp mbpp.jsonl --mutants 5 --made

The public sets are given as files of their own data and are no part of this repository. Every canonical solution must
be right; every mutant (one operator, constant or comparison of it changed) must be found what a plain execution of
program and tests in one process finds, run in the same sandbox. `--made` scores right and wrong programs of
`made_programs` in the shapes of LiveCodeBench and APPS.
"""

from __future__ import annotations

import argparse
import ast
import json
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.made_programs import MADE, Made
from envs.domains import coding
from envs.prompts import read_problems
from envs.sandbox.pool import Sandbox
from svd_loop.config.data import FieldMap, FilesSource
from svd_loop.contracts import Domain, Outcome, Problem

_SWAPS: dict[type, type] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.FloorDiv: ast.Mult,
    ast.Div: ast.Mult,
    ast.Mod: ast.FloorDiv,
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.In: ast.NotIn,
    ast.And: ast.Or,
    ast.Or: ast.And,
}


@dataclass(frozen=True, slots=True)
class Case:
    """A program, the problem it answers, and what must be found; None where plain execution tells."""

    name: str
    program: str
    problem: Problem
    expected: Outcome | None

    @property
    def solution(self) -> str:
        """The program as a solution."""
        return f"```python\n{self.program}\n```"


def mutants(program: str, count: int, seed: str, first_line: int = 1) -> list[str]:
    """Up to `count` programs that differ from this one in a single place, from a line of it on."""
    nodes = _places(ast.parse(program))
    places = [number for number, node in enumerate(nodes) if getattr(node, "lineno", 0) >= first_line]
    random.Random(seed).shuffle(places)
    found: list[str] = []
    for place in places:
        tree = ast.parse(program)
        _change(next(node for number, node in enumerate(_places(tree)) if number == place))
        if (text := ast.unparse(tree)) not in found and len(found) < count:
            found.append(text)
    return found


def _places(tree: ast.Module) -> Iterator[ast.AST]:
    for node in ast.walk(tree):
        operator = node.ops[0] if isinstance(node, ast.Compare) else getattr(node, "op", None)
        constant = isinstance(node, ast.Constant) and type(node.value) in (int, bool)
        if type(operator) in _SWAPS or constant or (isinstance(node, ast.Return) and node.value is not None):
            yield node


def _change(node: Any) -> None:
    if isinstance(node, ast.Compare):
        node.ops[0] = _SWAPS[type(node.ops[0])]()
    elif isinstance(node, ast.Constant) and isinstance(node.value, bool):
        node.value = not node.value
    elif isinstance(node, ast.Constant) and isinstance(node.value, int):
        node.value += 1
    elif isinstance(node, ast.Return):
        node.value = ast.Constant(None)
    else:
        node.op = _SWAPS[type(node.op)]()


def humaneval(path: Path, count: int) -> Iterator[Case]:
    """HumanEval's canonical solutions and `count` mutants of each."""
    source = FilesSource(paths=(str(path),), domain=Domain.CODING, fields=FieldMap(id="task_id"))
    for row, problem in zip(_rows(path), read_problems(source), strict=True):
        written = row["prompt"].count("\n") + 1
        yield from _cases(row["task_id"], row["prompt"] + row["canonical_solution"], problem, count, written)


def mbpp(path: Path, count: int) -> Iterator[Case]:
    """MBPP's canonical solutions and `count` mutants of each; it asks some questions twice, which the door refuses."""
    rows = _rows(path)
    with TemporaryDirectory() as folder:
        numbered = Path(folder) / "mbpp.jsonl"
        texts = [{**row, "text": f"{row['text']} ({row['task_id']})"} for row in rows]
        numbered.write_text("".join(json.dumps(row) + "\n" for row in texts))
        fields = FieldMap(prompt="text", id="task_id")
        problems = read_problems(FilesSource(paths=(str(numbered),), domain=Domain.CODING, fields=fields))
    for row, problem in zip(rows, problems, strict=True):
        yield from _cases(f"MBPP/{row['task_id']}", row["code"].replace("\r\n", "\n"), problem, count)


def _rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def _cases(name: str, program: str, problem: Problem, count: int, first_line: int = 1) -> Iterator[Case]:
    yield Case(name, program, problem, Outcome.RIGHT)
    for number, mutant in enumerate(mutants(program, count, name, first_line), start=1):
        yield Case(f"{name} mutant {number}", mutant, problem, None)


def made() -> Iterator[Case]:
    """Right and wrong programs for our own problems, read through the door in every published shape."""
    with TemporaryDirectory() as folder:
        for shape in sorted({item.shape for item in MADE}):
            items = [item for item in MADE if item.shape == shape]
            path = Path(folder) / f"{shape}.jsonl"
            path.write_text("".join(json.dumps(item.row) + "\n" for item in items))
            source = FilesSource(paths=(str(path),), domain=Domain.CODING, fields=FieldMap(prompt=items[0].prompt))
            for item, problem in zip(items, read_problems(source), strict=True):
                yield from _made_cases(item, problem)


def _made_cases(item: Made, problem: Problem) -> Iterator[Case]:
    for outcome, programs in ((Outcome.RIGHT, item.right), (Outcome.WRONG, item.wrong)):
        for number, program in enumerate(programs, start=1):
            yield Case(f"{item.shape}/{item.name} {outcome} {number}", program, problem, outcome)


def plain_outcomes(cases: Sequence[Case], seconds: float) -> list[Outcome]:
    """What a plain execution of program and tests in one process finds."""
    with Sandbox(seconds=seconds) as sandbox:

        def run(case: Case) -> Outcome:
            tests = "\n".join(test.strip() for test in case.problem.tests)
            found = sandbox.run_script(f"{case.program}\n\n{tests}\n", "")
            return Outcome.RIGHT if isinstance(found, str) else found.outcome

        return sandbox.map(run, cases)


def compare(name: str, cases: Sequence[Case], seconds: float) -> int:
    """Print agreement of one set; returns the number of cases that disagree."""
    started = time.perf_counter()
    unknown = [place for place, case in enumerate(cases) if case.expected is None]
    plain = dict(zip(unknown, plain_outcomes([cases[place] for place in unknown], seconds), strict=True))
    cases = [replace(case, expected=plain.get(place, case.expected)) for place, case in enumerate(cases)]
    found = coding.findings([(case.solution, case.problem) for case in cases], seconds=seconds)
    off = [(case, got) for case, got in zip(cases, found, strict=True) if got.outcome is not case.expected]
    right = sum(case.expected is Outcome.RIGHT for case in cases)
    accepts = sum(got.outcome is Outcome.RIGHT for _, got in off)
    undecided = sum(got.outcome is Outcome.UNDECIDED for _, got in off)
    print(
        f"{name}: {len(cases) - len(off)} of {len(cases)} agree ({right} right); false accepts {accepts}, "
        f"false rejects {len(off) - accepts - undecided}, undecided {undecided}; "
        f"{time.perf_counter() - started:.0f} s"
    )
    for case, got in off:
        print(f"  {case.name}: expected {case.expected}, found {got.outcome} ({got.detail})")
    return len(off)


def main() -> None:
    """Parse arguments, score, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--humaneval", type=Path)
    parser.add_argument("--mbpp", type=Path)
    parser.add_argument("--mutants", type=int, default=0, help="of each canonical solution")
    parser.add_argument("--made", action="store_true")
    parser.add_argument("--seconds", type=float, default=5.0)
    args = parser.parse_args()
    suites: dict[str, list[Case]] = {}
    if args.humaneval:
        suites["HumanEval"] = list(humaneval(args.humaneval, args.mutants))
    if args.mbpp:
        suites["MBPP"] = list(mbpp(args.mbpp, args.mutants))
    if args.made:
        suites["made"] = list(made())
    off = 0
    for name, cases in suites.items():
        for kind, group in (
            ("", [case for case in cases if case.expected is not None]),
            (" mutants", [case for case in cases if case.expected is None]),
        ):
            off += compare(name + kind, group, args.seconds) if group else 0
    raise SystemExit(1 if off else 0)


if __name__ == "__main__":
    main()
