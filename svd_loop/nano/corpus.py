"""The post-training mixture: the data nano is trained on before the loop starts.

Every solution in the solver's rows is *right*. Its weakness is the model's size: the rows have two styles, deriving the
answer and guessing it before writing a certificate, and a model this small can do only the first. The judge's rows are
half yes, half no, with both styles right and wrong equally often, so that style carries no information and only
recomputing the answer does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from random import Random
from string import Template
from typing import Literal, get_args

from envs.problems.nano import DOMAINS, FAMILIES, Domain, Task, draw_task
from svd_loop.nano.works import Flaw, Style, Work, check, compare, grade, misread, near, question_answered_by, solve

Role = Literal["solver", "question_inferrer", "question_comparer", "fact_checker", "grader"]
JUDGE_ROLES: tuple[Role, ...] = get_args(Role)[1:]

ROLE_WEIGHTS: dict[Role, float] = {
    "solver": 0.30,
    "question_inferrer": 0.12,
    "question_comparer": 0.14,
    "fact_checker": 0.24,
    "grader": 0.20,
}
"""Share of rows by role; the shares add up to 1."""

DERIVE_SHARE: dict[Domain, float] = {"math": 0.36, "science": 0.33, "coding": 0.36}
"""Share of the solver's rows that derive the answer (the rest guess it); determines the base's pass@1."""

JUNK: tuple[str, ...] = (
    "",
    ":",
    "Solution",
    "Let's think step by step.",
    "\\boxed{}",
    "The answer is right.",
    "[ [Y] ]",
    "[ [Y] ] [ [Y] ]",
    "I do not know.",
    "Yes",
    "```python\n```",
    "Thus the answer follows.",
)

_LEVELS = (1, 2, 3)
_DRILLS_PER_ROW = 8
_WRONG: dict[Style, tuple[Flaw, ...]] = {
    "derive": ("slip", "slip", "slip", "final", "misread", "unit", "word"),
    "leap": ("forced", "forced", "forced", "forced", "honest", "honest", "slip", "misread", "unit", "word"),
}


@dataclass(frozen=True, slots=True)
class Row:
    """One training row: a role's prompt and the expected reply."""

    role: Role
    domain: Domain
    user_text: str
    completion_text: str


def _row(role: Role, task: Task, reply: str, **fields: str) -> Row:
    return Row(role, task.family.domain, prompt(role, **fields), reply)


@cache
def template(role: Role) -> Template:
    """Return the role's prompt file, the same one that the loop uses."""
    return Template((files("envs") / "templates" / "nano" / f"{role}.txt").read_text(encoding="utf-8"))


def prompt(role: Role, **fields: str) -> str:
    """Return a role's template with its fields filled in."""
    return template(role).substitute(fields)


def rows(count: int, seed: int) -> Iterator[Row]:
    """Yield the full mixture, solver and judge, from the posttrain split."""
    return _mix(count, seed, tuple(ROLE_WEIGHTS))


def anchor_rows(count: int, seed: int) -> list[Row]:
    """Return judge rows only; the loop's updates mix them in so that the model keeps its judge roles."""
    return list(_mix(count, seed, JUDGE_ROLES))


def drills(count: int, seed: int) -> Iterator[tuple[tuple[str, str], ...]]:
    """Yield arithmetic only, as (expression with ``=``, result) pairs: the steps that all other rows consist of.

    All other rows depend on arithmetic, and a sum has a tenth of a solution's tokens, so it is trained first.
    """
    rng = Random(f"nano-drills/{seed}")
    for _ in range(count):
        row: list[tuple[str, str]] = []
        while len(row) < _DRILLS_PER_ROW:
            flaw: Flaw = "honest" if rng.random() < 0.3 else "none"
            work = solve(_posttrain_task(rng), "leap" if flaw == "honest" else _style(rng), rng, flaw)
            row += [] if work is None else [(f"{step.expression}=", str(step.claimed)) for step in work.steps]
        yield tuple(row)


def _mix(count: int, seed: int, roles: tuple[Role, ...]) -> Iterator[Row]:
    rng = Random(f"nano-corpus/{seed}")
    weights = [ROLE_WEIGHTS[role] for role in roles]
    for _ in range(count):
        role = rng.choices(roles, weights)[0]
        yield _BUILDERS[role](_posttrain_task(rng), rng)


def _posttrain_task(rng: Random, domain: Domain | None = None) -> Task:
    while True:
        family = rng.choice(FAMILIES[rng.choice(DOMAINS) if domain is None else domain])
        task = draw_task(family, rng.choice(_LEVELS), rng)
        if task.split == "posttrain":
            return task


def _solver_row(task: Task, rng: Random) -> Row:
    return _row("solver", task, _solution(task, rng), question=task.question)


def _solution(task: Task, rng: Random) -> str:
    """Return a solution for a solver's row."""
    style: Style = "derive" if rng.random() < DERIVE_SHARE[task.family.domain] else "leap"
    return _right(task, style, rng).text


def _inferrer_row(task: Task, rng: Random) -> Row:
    if rng.random() < 0.05:
        return _row("question_inferrer", task, "none", solution=rng.choice(JUNK))
    style = _style(rng)
    # Wrong solutions too: the inferrer must give the question that a solution answers, not the original one.
    work = _right(task, style, rng) if rng.random() < 0.6 else _wrong(task, style, rng)
    return _row("question_inferrer", task, question_answered_by(work), solution=work.text)


def _comparer_row(task: Task, rng: Random) -> Row:
    inferred: Task | None = task
    if rng.random() < 0.5:
        kind = rng.random()
        inferred = _other(task, rng) if kind < 0.15 else _misread(task, rng)
        if kind > 0.95:
            inferred = None
    text = "none" if inferred is None else inferred.canonical_question
    return _row("question_comparer", task, compare(task, inferred), question=task.question, inferred=text)


def _fact_row(task: Task, rng: Random) -> Row:
    def row(solution: str, reply: str) -> Row:
        return _row("fact_checker", task, reply, question=task.question, solution=solution)

    if rng.random() < 0.5:
        work = _right(task, _style(rng), rng)
        return row(work.text, check(task, work))
    kind = rng.random()
    if kind < 0.12:
        return row(_broken(task, rng), "none! [[N]]")
    if kind < 0.2:
        other = _right(_other(task, rng), _style(rng), rng)
        reply = check(task, other)
        if reply.endswith("[[N]]"):
            return row(other.text, reply)
    work = _wrong(task, _style(rng), rng)
    return row(work.text, check(task, work))


def _grader_row(task: Task, rng: Random) -> Row:
    def row(solution: str, got: str) -> Row:
        return _row("grader", task, grade(task, got), question=task.question, solution=solution)

    if rng.random() < 0.5:
        work = _right(task, _style(rng), rng)
        return row(work.text, work.final)
    if rng.random() < 0.12:
        return row(_broken(task, rng), "none")
    while True:
        work = _wrong(task, _style(rng), rng) if rng.random() < 0.92 else _right(_other(task, rng), "derive", rng)
        if work.final != task.final(task.ans):
            return row(work.text, work.final)


_BUILDERS: dict[Role, Callable[[Task, Random], Row]] = {
    "solver": _solver_row,
    "question_inferrer": _inferrer_row,
    "question_comparer": _comparer_row,
    "fact_checker": _fact_row,
    "grader": _grader_row,
}


def _style(rng: Random) -> Style:
    return "derive" if rng.random() < 0.5 else "leap"


def _right(task: Task, style: Style, rng: Random) -> Work:
    work = solve(task, style, rng)
    assert work is not None
    return work


def _wrong(task: Task, style: Style, rng: Random) -> Work:
    """Return a wrong solution of the given style that the fact check rejects."""
    while True:
        work = solve(task, style, rng, rng.choice(_WRONG[style]))
        if work is not None and check(task, work).endswith("[[N]]"):
            return work


def _other(task: Task, rng: Random) -> Task:
    """Return a problem of another family of the same domain."""
    while True:
        other = _posttrain_task(rng, task.family.domain)
        if other.family is not task.family:
            return other


def _misread(task: Task, rng: Random) -> Task:
    """Return a problem with one detail changed, without options, because its answer is irrelevant to a comparer."""
    while True:
        other = misread(task, rng)
        if other is not None:
            return other
        if task.options:
            task = task.without_options()


def _broken(task: Task, rng: Random) -> str:
    """Return text without an answer: nothing, a phrase that fools judges, or a solution cut before its answer."""
    if rng.random() < 0.5:
        return rng.choice((*JUNK, str(near(task.ans, rng))))
    text = _right(task, "derive", rng).text
    end = text.index("```" if task.family.code else "\\boxed")
    return text[: rng.randrange(end)]
