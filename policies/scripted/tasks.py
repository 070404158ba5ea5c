"""The forms of question that a script can answer: parse them from text, and write them.

Each form is a pair of templates, one for the question and one for a worked solution; the same template renders a text
and, turned into a regular expression, finds it again inside a longer prompt. Any other question is given a sum made of
the hash of its prompt's id, so that the simulation treats it like the rest: it has one right answer, which a judge can
check, though it has nothing to do with what was asked.
"""

from __future__ import annotations

import hashlib
import operator
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from string import Formatter

_FIELDS = {"left": r"\d+", "sign": r"[-+*]", "right": r"\d+", "result": r"-?\d+"}
_OPERATIONS: dict[str, Callable[[int, int], int]] = {"+": operator.add, "-": operator.sub, "*": operator.mul}


def _pattern(template: str) -> re.Pattern[str]:
    """A template as an expression with one group per field; spaces match any white space."""
    parts: list[str] = []
    seen: set[str] = set()
    for literal, field, _, _ in Formatter().parse(template):
        parts.append(re.sub(r"(\\\s|\s)+", r"\\s+", re.escape(literal)))
        if field:
            parts.append(f"(?P={field})" if field in seen else f"(?P<{field}>{_FIELDS[field]})")
            seen.add(field)
    return re.compile("".join(parts))


@dataclass(frozen=True, slots=True)
class Form:
    """One form of question and answer.

    `answer` finds the final answer in any solution; `working` finds the statement that leads to it, if a
    solution follows this form, with any numbers.
    """

    question: str
    solution: str
    answer: re.Pattern[str]
    question_pattern: re.Pattern[str]
    solution_pattern: re.Pattern[str]
    working_pattern: re.Pattern[str]

    @classmethod
    def of(cls, question: str, working: str, conclusion: str, answer: str) -> Form:
        """Derive the patterns from the templates; a solution is its working and then its conclusion."""
        solution = working + conclusion
        patterns = (_pattern(question), _pattern(solution), _pattern(working))
        return cls(question, solution, re.compile(answer), *patterns)


_BOXED = r"\\boxed\{(?P<result>-?\d+)"
SUM = Form.of(
    question="What is {left} {sign} {right}?",
    working="{left} {sign} {right} = {result}",
    conclusion=", so the answer is \\boxed{{{result}}}.",
    answer=_BOXED,
)
ROPE = Form.of(
    question="A rope of {left} m is tied to one of {right} m. How long is the whole in m?",
    working="{left} m of rope and {right} m of rope make {result} m",
    conclusion=", so the answer is \\boxed{{{result} m}}.",
    answer=_BOXED,
)
CODE = Form.of(
    question="Write a Python function f(x) that returns x {sign} {right}.",
    working="f(x) is x {sign} {right}:",
    conclusion="\n\n```python\ndef f(x):\n    return x {sign} {result}\n```",
    answer=r"return x (?P<sign>[-+*]) (?P<result>\d+)",
)
FORMS = (SUM, ROPE, CODE)


@dataclass(frozen=True, slots=True)
class Task:
    """A question of a known form. Two tasks are the same question if and only if they are equal."""

    form: Form
    left: int
    sign: str
    right: int

    @property
    def result(self) -> int:
        """The correct answer: a number, or for code the constant the function must use."""
        return self.right if self.form is CODE else _OPERATIONS[self.sign](self.left, self.right)

    def question(self) -> str:
        """The question in words."""
        return self.form.question.format(left=self.left, sign=self.sign, right=self.right)

    def solution(self, result: int) -> str:
        """A worked solution that ends in `result`."""
        return self.form.solution.format(left=self.left, sign=self.sign, right=self.right, result=result)

    def drifted(self) -> Task:
        """A slightly different question."""
        return replace(self, right=self.right + 1)

    def is_solved_by(self, text: str) -> bool:
        """Whether the last final answer in `text` is correct, and all shown working is of this task.

        A text without a final answer is not a solution; working is optional.
        """
        found = list(self.form.answer.finditer(text))
        if not found:
            return False
        return all(map(self._states, (found[-1], *self.form.working_pattern.finditer(text))))

    def _states(self, claim: re.Match[str]) -> bool:
        """Whether each number in a statement is this task's."""
        truth = {"left": self.left, "sign": self.sign, "right": self.right, "result": self.result}
        figures = {name: value if name == "sign" else int(value) for name, value in claim.groupdict().items()}
        return all(truth[name] == value for name, value in figures.items())


def questions_in(text: str) -> list[Task]:
    """All questions of a known form in `text`, in order."""
    return _tasks_in(text, [(form, form.question_pattern) for form in FORMS])


def solved_in(text: str) -> list[Task]:
    """The questions that worked solutions in `text` answer, correctly or not, in order."""
    return _tasks_in(text, [(form, form.solution_pattern) for form in FORMS])


def stand_in(prompt_id: str) -> Task:
    """The sum that replaces a question of unknown form."""
    digest = hashlib.sha256(prompt_id.encode()).digest()
    return Task(SUM, int.from_bytes(digest[:2], "big"), "+", int.from_bytes(digest[2:4], "big"))


def _tasks_in(text: str, patterns: list[tuple[Form, re.Pattern[str]]]) -> list[Task]:
    found = [(match.start(), form, match.groupdict()) for form, pattern in patterns for match in pattern.finditer(text)]
    found.sort(key=lambda item: item[0])
    return [
        Task(form, int(fields.get("left", 0)), fields.get("sign", "+"), int(fields["right"]))
        for _, form, fields in found
    ]
