"""Worked solutions, right and wrong, and the judge's recomputation of them.

Training a judge is useful only if its replies cannot be written by copying. So a solution is kept as structure (its
steps, each with the number it claims), and every judge reply is *computed* from that structure and the problem's plan:
a check that stops at the first wrong claim is right by construction, whatever the error was.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import zip_longest
from random import Random
from typing import Literal

from envs.problems.nano.base import PlanStep, Task, compute, program, resolve

Style = Literal["derive", "leap"]
Flaw = Literal["none", "slip", "forced", "honest", "final", "misread", "unit", "word"]

YES, NO = " [[Y]]", " [[N]]"


@dataclass(frozen=True, slots=True)
class Step:
    """One written step: its arithmetic and the claimed result."""

    label: str
    left: int
    op: str
    right: int
    claimed: int

    @property
    def expression(self) -> str:
        """The arithmetic without its result."""
        return f"{self.left}{self.op}{self.right}"

    @property
    def text(self) -> str:
        """The step as written in a solution."""
        return f"{self.label}{self.expression}={self.claimed}"


@dataclass(frozen=True, slots=True)
class Work:
    """A solution to a task.

    Attributes:
        task: the problem as the solver read it; for a misreading not the original one.
        style: derive computes the answer, leap states it first and then writes a certificate.
        steps: the written steps.
        ans: the number given as answer.
        final: the text of the final answer; with a wrong unit it differs from ``task.final(ans)``.
    """

    task: Task
    style: Style
    steps: tuple[Step, ...]
    ans: int
    final: str

    @property
    def derivation(self) -> str:
        """The concatenated steps, and the option that has their result."""
        steps = "".join(step.text for step in self.steps)
        return f"{steps} ({self.task.final(self.steps[-1].claimed)})" if self.task.options else steps

    @property
    def text(self) -> str:
        """The solution as the solver writes it."""
        steps = "".join(step.text for step in self.steps)
        if self.task.family.code is not None:
            block = f"```python\n{program(self.final, self.task.family.argument)}\n```"
            return f"{steps}.\n{block}" if self.style == "derive" else f"{block}\n{steps}."
        if self.style == "derive":
            return f"{self.derivation}. \\boxed{{{self.final}}}"
        stated = f"{self.task.ans_with_unit(self.ans)} " if self.task.options else ""
        return f"\\boxed{{{self.final}}} {stated}{steps}."


def solve(task: Task, style: Style, rng: Random, flaw: Flaw = "none") -> Work | None:
    """Return a solution with the given flaw, or None if this task cannot have it.

    Flaws: ``slip`` one step's result is wrong and used in later steps; ``forced`` a wrong guess whose certificate
    claims the required number nevertheless; ``honest`` a wrong guess whose certificate gives another number; ``final``
    right steps, wrong final answer; ``misread`` another number or word than in the question; ``unit`` a wrong unit;
    ``word`` code for another wording (the sum instead of the count).
    """
    if flaw == "misread":
        other = misread(task, rng)
        return solve(other, style, rng) if other is not None else None
    if flaw == "word":
        return _swapped_word(task, style, rng)
    if flaw == "unit":
        return _wrong_unit(task, style, rng)
    if style == "derive":
        if flaw in ("forced", "honest"):
            return None
        return _derive(task, rng, flaw)
    return None if flaw == "final" else _leap(task, rng, flaw)


def check(asked: Task, work: Work) -> str:
    """Return a fact checker's reply: each claim with its recomputed value, then the end, until one differs.

    Both numbers of a comparison are written next to each other, because a model this small compares adjacent numbers
    reliably and distant ones hardly at all.
    """
    family = asked.family
    plan = family.derive if work.style == "derive" else family.leap
    numbers = {**asked.givens, "ans": work.ans}
    claimed: list[int] = []
    written = ""
    for planned, step in zip(plan, work.steps, strict=True):
        wanted = (resolve(planned.left, numbers, claimed), planned.op, resolve(planned.right, numbers, claimed))
        expression = f"{wanted[0]}{wanted[1]}{wanted[2]}"
        if expression != step.expression:
            return f"{written}{expression} {step.expression}!{NO}"
        truth = compute(*wanted)
        if truth is None:  # not a whole number, so any claim is wrong
            return f"{written}{expression}!{NO}"
        written += f"{expression}={truth} {step.claimed}"
        if truth != step.claimed:
            return f"{written}!{NO}"
        written += ", "
        claimed.append(step.claimed)
    return written + _check_end(asked, work, claimed[-1])


def grade(asked: Task, got: str) -> str:
    """Return a grader's reply: its own derivation, then reference and given answer, part by part."""
    reference = _derive(asked, Random(0), "none")
    assert reference is not None
    return reference.derivation + "; " + pair_up(parts(reference.final), parts(got))


def parts(final: str) -> tuple[str, ...]:
    """Split a final answer into comparable parts: number and unit, or a program's kind, sign and constants."""
    if kind := re.match(r"sum|len|min|max|\[", final):
        name = "list" if kind[0] == "[" else kind[0]
        return (name, *re.findall(r"[<>]|\d+", final))
    if "*x" in final:
        return tuple(re.findall(r"\d+", final))
    return tuple(final.split(" "))


def pair_up(left: tuple[str, ...], right: tuple[str, ...]) -> str:
    """Return the pairs up to the first difference, and the verdict."""
    written: list[str] = []
    for pair in zip_longest(left, right, fillvalue="none"):
        written.append(" ".join(pair))
        if pair[0] != pair[1]:
            return ", ".join(written) + "!" + NO
    return ", ".join(written) + YES


def question_answered_by(work: Work) -> str:
    """Return the question inferred from the solution alone, with the numbers from its steps."""
    family = work.task.family
    plan = family.derive if work.style == "derive" else family.leap
    givens = dict(work.task.givens)
    for planned, step in zip(plan, work.steps, strict=True):
        for ref, value in ((planned.left, step.left), (planned.right, step.right)):
            if ref in givens:
                givens[ref] = value
    if work.style == "leap":
        givens[family.target] = work.steps[-1].claimed
    return work.task.ask(0, givens)


def compare(asked: Task, inferred: Task | None) -> str:
    """Return a question comparer's reply: topic, words and numbers pair by pair, until one differs."""
    if inferred is None:
        return f"{asked.family.topic} none!{NO}"
    pairs = [(asked.family.topic, inferred.family.topic)]
    if asked.family is inferred.family:
        pairs += list(zip(asked.words.values(), inferred.words.values(), strict=True))
        pairs += [(str(value), str(inferred.givens[name])) for name, value in asked.givens.items()]
    left, right = zip(*pairs, strict=True)
    return pair_up(left, right)


def misread(task: Task, rng: Random) -> Task | None:
    """Return the task with one number or word changed, as in a careless reading; None if it has no answer."""
    givens, words = dict(task.givens), dict(task.words)
    if words and rng.random() < 0.3:
        name = rng.choice(list(words))
        words[name] = rng.choice([word for word in task.family.words[name] if word != words[name]])
    else:
        name = rng.choice(list(givens))
        givens[name] = near(givens[name], rng)
    try:
        return task.replace(givens, words)
    except ValueError:
        return None


def near(value: int, rng: Random) -> int:
    """Return a different positive number, of the kind that a small model writes by mistake."""
    digits = list(str(value))
    digits[rng.randrange(len(digits))] = str(rng.randrange(10))
    choices = [value + delta for delta in (-10, -3, -2, -1, -1, 1, 1, 2, 3, 10)]
    choices += [int("".join(digits)), int(str(value)[::-1]), rng.randint(2, max(12, 2 * value))]
    return rng.choice([choice for choice in choices if choice > 0 and choice != value])


def _run(plan: tuple[PlanStep, ...], task: Task, ans: int, slips: Mapping[int, int]) -> tuple[Step, ...] | None:
    """Return a plan's steps, with ``slips[i]`` claimed for step i; None if a step has no whole result."""
    numbers = {**task.givens, "ans": ans}
    steps: list[Step] = []
    for index, planned in enumerate(plan):
        claimed = [step.claimed for step in steps]
        left, right = resolve(planned.left, numbers, claimed), resolve(planned.right, numbers, claimed)
        result = slips.get(index, compute(left, planned.op, right))
        if result is None:
            return None
        steps.append(Step(planned.label.format(**task.words), left, planned.op, right, result))
    return tuple(steps)


def _derive(task: Task, rng: Random, flaw: Flaw) -> Work | None:
    slips: dict[int, int] = {}
    if flaw == "slip":
        index = rng.randrange(len(task.family.derive))
        clean = _run(task.family.derive, task, task.ans, {})
        assert clean is not None
        slips = {index: near(clean[index].claimed, rng)}
    steps = _run(task.family.derive, task, task.ans, slips)
    if steps is None:
        return None
    ans = near(steps[-1].claimed, rng) if flaw == "final" else steps[-1].claimed
    if flaw == "final" and task.options:
        ans = rng.choice([option for option in task.options if option != task.ans])
    if task.options and ans not in task.options:
        return None
    return Work(task, "derive", steps, ans, task.final(ans))


def _leap(task: Task, rng: Random, flaw: Flaw) -> Work | None:
    plan = task.family.leap
    true_steps = _run(plan, task, task.ans, {})
    if true_steps is None:  # happens only for a misread task, whose certificate would need a negative number
        return None
    if flaw == "none":
        return Work(task, "leap", true_steps, task.ans, task.final(task.ans))
    ans = task.ans
    slips: dict[int, int] = {}
    if flaw == "slip":
        index = rng.randrange(len(plan))
        slips = {index: near(true_steps[index].claimed, rng)}
    else:
        ans = rng.choice([o for o in task.options if o != ans]) if task.options else near(ans, rng)
    if flaw == "forced":
        slips = _force(task, true_steps, ans, rng)
    steps = _run(plan, task, ans, slips)
    return None if steps is None else Work(task, "leap", steps, ans, task.final(ans))


def _force(task: Task, true_steps: tuple[Step, ...], ans: int, rng: Random) -> dict[int, int]:
    """Return the false claims of a wrong guess's certificate: at its first step, or only at its last."""
    last = len(true_steps) - 1
    slips = {last: task.givens[task.family.target]}
    first = task.family.leap[0]
    exact = compute(
        resolve(first.left, {**task.givens, "ans": ans}, []),
        first.op,
        resolve(first.right, {**task.givens, "ans": ans}, []),
    )
    if exact is None or rng.random() < 0.4:
        slips[0] = true_steps[0].claimed if rng.random() < 0.6 else near(true_steps[0].claimed, rng)
    return slips


def _swapped_word(task: Task, style: Style, rng: Random) -> Work | None:
    """Return a solution with right numbers and code for another word of the same kind."""
    if task.family.code is None or not task.words:
        return None
    name = rng.choice(list(task.words))
    word = rng.choice([choice for choice in task.family.words[name] if choice != task.words[name]])
    return solve(task.replace(dict(task.givens), {**task.words, name: word}), style, rng)


def _wrong_unit(task: Task, style: Style, rng: Random) -> Work | None:
    if not task.family.unit or task.options:
        return None
    unit = rng.choice([unit for unit in ("m/s", "W", "C", "g", "m", "kg", "J", "N") if unit != task.family.unit])
    right = solve(task, style, rng)
    assert right is not None
    return Work(task, style, right.steps, task.ans, f"{task.ans} {unit}")


def _check_end(asked: Task, work: Work, last: int) -> str:
    """Return the last comparisons of a check: the required number, then the parts of the final answer."""
    ends = f"{last} {asked.givens[asked.family.target]}"
    if work.style == "leap":
        if last != asked.givens[asked.family.target]:
            return f"{ends}!{NO}"
        if asked.family.domain == "math":  # nothing is left: the answer itself is what the chain began with
            return ends + YES
    ans = work.ans if work.style == "leap" else last
    option = f"{ans} ({asked.final(ans)}), " if asked.options else ""
    return (
        ("" if work.style == "derive" else f"{ends}, ") + option + pair_up(parts(asked.final(ans)), parts(work.final))
    )
