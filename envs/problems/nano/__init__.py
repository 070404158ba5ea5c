"""Unlimited, seeded problems of graded difficulty for the embedded default policy.

The loop needs unlabeled prompts, and its evaluation needs held-out problems with gold, without a download.  Which
split a problem belongs to is a hash of what it asks, so post-training, training, development and test problems are
disjoint by construction, whatever the seeds.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from random import Random

from envs.problems.nano import coding, mathematics, science
from envs.problems.nano.base import (
    DOMAINS,
    SPLITS,
    Domain,
    Family,
    NanoProblem,
    Split,
    Task,
    answer_of,
    program,
    split_of,
)

__all__ = [
    "DOMAINS",
    "FAMILIES",
    "SPLITS",
    "Domain",
    "Family",
    "NanoProblem",
    "Split",
    "Task",
    "draw_task",
    "generate",
    "generate_tasks",
    "split_of",
    "to_problem",
]

FAMILIES: dict[Domain, tuple[Family, ...]] = {
    "math": mathematics.FAMILIES,
    "science": science.FAMILIES,
    "coding": coding.FAMILIES,
}

_CHOICE_SHARE = 0.25
_MAX_REJECTIONS = 20_000


def generate(
    domain: Domain, split: Split, count: int, seed: int, levels: Sequence[int] = (1, 2, 3)
) -> list[NanoProblem]:
    """Draw ``count`` different problems of one domain and split.

    Args:
        domain: math, science or coding.
        split: posttrain, train, development or test.
        count: how many problems.
        seed: the same seed gives the same problems.
        levels: difficulty levels to draw from, each in 1 to 4; level 4 is beyond what nano was trained on.

    Raises:
        ValueError: the split holds fewer different problems at these levels than asked for.
    """
    return [to_problem(task) for task in generate_tasks(domain, split, count, seed, levels)]


def generate_tasks(
    domain: Domain, split: Split, count: int, seed: int, levels: Sequence[int] = (1, 2, 3)
) -> list[Task]:
    """As ``generate``, with the structure that worked solutions are built from."""
    if bad := [level for level in levels if level not in (1, 2, 3, 4)]:
        raise ValueError(f"levels must be within 1 to 4, got {bad}")
    rng = Random(f"{domain}/{split}/{seed}")
    tasks: dict[str, Task] = {}
    rejections = 0
    for task in _draw_forever(domain, levels, rng):
        if len(tasks) == count:
            break
        if task.split == split and task.key not in tasks:
            tasks[task.key] = task
            rejections = 0
            continue
        rejections += 1
        if rejections > _MAX_REJECTIONS:
            raise ValueError(
                f"{domain}/{split} at levels {tuple(levels)} holds about {len(tasks)} problems, {count} asked for"
            )
    return list(tasks.values())


def draw_task(family: Family, level: int, rng: Random) -> Task:
    """Draw one problem of a family, in any split."""
    givens = family.draw(rng, level)
    ans = answer_of(family, givens)
    words = {name: rng.choice(choices) for name, choices in family.words.items()}
    choice = family.domain == "science" and rng.random() < _CHOICE_SHARE
    options = _options(ans, rng) if choice else ()
    return Task(family, level, givens, words, rng.randrange(len(family.phrasings)), options, ans)


def to_problem(task: Task) -> NanoProblem:
    """The problem as the loop and its evaluation use it."""
    is_code = task.family.domain == "coding"
    final = task.final(task.ans)
    return NanoProblem(
        id=hashlib.sha256(task.question.encode()).hexdigest()[:16],
        domain=task.family.domain,
        family=task.family.name,
        level=task.level,
        question=task.question,
        answer=program(final, task.family.argument) if is_code else final,
        tests=coding.tests_for(task) if is_code else (),
    )


def _draw_forever(domain: Domain, levels: Sequence[int], rng: Random) -> Iterator[Task]:
    while True:
        yield draw_task(rng.choice(FAMILIES[domain]), rng.choice(tuple(levels)), rng)


def _options(ans: int, rng: Random) -> tuple[int, ...]:
    """Four different option values, the answer among them, close enough that none can be excluded at first sight."""
    values = {ans}
    while len(values) < 4:
        values.add(max(1, ans + rng.choice((-12, -10, -8, -6, -4, -3, -2, -1, 1, 2, 3, 4, 6, 8, 10, 12))))
    options = list(values)
    rng.shuffle(options)
    return tuple(options)
