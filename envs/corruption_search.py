"""Search, round by round, for the kinds of error that a job's judge lets through.

Canaries are fixed kinds, and a judge may learn to refuse just those. The search plants a few solutions of each of seven
kinds of change, from an arithmetical slip that is carried through to a step that was left out, and asks the whole
cascade about them. Kinds that were let through more often in earlier rounds get more of the round's search, so its
figures become precise where the judge is weakest. All of it is seeded and follows from the recorded rounds, so that a
resumed round searches the same.

A useful judge lets some of these through, and some changes leave a solution right: the shares are shown, and no alarm
counts them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from random import Random

from envs.canaries import Canary, CanaryKind, Groups, Solved, let_through
from envs.cascade.cascade import Cascade
from envs.cascade.votes import answer_of
from envs.near_misses import changed_step, changed_word
from svd_loop.contracts import Candidate, Policy

Tally = tuple[int, int]
"""Canaries of a kind that were judged, and those of them that the cascade accepted."""

PURPOSE = "search"
_NUMBER = re.compile(r"(?<![\w.])\d{1,15}(?![\w]|\.\d)")
_STEP = re.compile(r"(?<=[.;])\s+|\n+")


def search(
    cascade: Cascade,
    judge: Policy,
    solved: Sequence[Solved],
    earlier: Mapping[str, Tally],
    *,
    count: int,
    seed: int,
    round: int,
    groups: Groups | None = None,
) -> dict[str, Tally]:
    """Plant and judge changed solutions; the tally of each kind of change.

    Args:
        cascade: the job's own.
        judge: the policy that votes.
        solved: prompts with an accepted candidate each.
        earlier: tallies of all earlier rounds, added up.
        count: canaries to plant; fewer where a solution cannot be changed.
        seed: the job's seed.
        round: of the votes.
        groups: all candidates of each prompt, for stages that see all of them.

    Raises:
        EngineError: the judge left a call unanswered.
    """
    planted: list[Canary] = []
    for change, number in shared_out(count, earlier).items():
        draw = Random(f"search/{seed}/{round}/{change}")
        for _ in range(number if solved else 0):
            prompt, accepted = draw.choice(solved)
            text = CHANGES[change](answer_of(accepted.text).strip(), draw)
            if text is not None:
                candidate = Candidate(prompt.id, len(planted), text)
                planted.append(Canary(CanaryKind.NEAR_MISS, prompt, candidate, accepted.index, change))
    used, accepted_ones, _ = let_through(cascade, judge, planted, round=round, groups=groups, purpose=PURPOSE)
    tallies = {
        change: (sum(one.change == change for one in used), sum(one.change == change for one in accepted_ones))
        for change in CHANGES
    }
    return {change: tally for change, tally in tallies.items() if tally[0]}


def shared_out(count: int, earlier: Mapping[str, Tally]) -> dict[str, int]:
    """Divide a number of canaries among the kinds of change by the share let through so far; each gets at least one.

    The share is (accepted + 1) / (judged + 2), so that a kind that was seldom tried counts as half let through. What is
    left over by rounding goes to the largest remainders, of equal ones to the first.
    """
    tallies = [earlier.get(change, (0, 0)) for change in CHANGES]
    weights = [(accepted + 1) / (judged + 2) for judged, accepted in tallies]
    free = max(count - len(CHANGES), 0)
    exact = [free * weight / sum(weights) for weight in weights]
    numbers = [int(share) for share in exact]
    by_remainder = sorted(range(len(exact)), key=lambda place: numbers[place] - exact[place])
    for place in by_remainder[: free - sum(numbers)]:
        numbers[place] += 1
    return {
        change: number + (place < count) for place, (change, number) in enumerate(zip(CHANGES, numbers, strict=True))
    }


def _conclusion(text: str, draw: Random) -> str | None:
    """The last number changed, which no longer follows from the step before it."""
    numbers = list(_NUMBER.finditer(text))
    if not numbers:
        return None
    last = numbers[-1]
    return text[: last.start()] + str(int(last[0]) + draw.choice((1, 2, 10))) + text[last.end() :]


def _swapped(text: str, draw: Random) -> str | None:
    """Two different numbers exchanged."""
    numbers = list(_NUMBER.finditer(text))
    if len({number[0] for number in numbers}) < 2:
        return None
    one = draw.choice(numbers)
    other = draw.choice([number for number in numbers if number[0] != one[0]])
    first, second = sorted((one, other), key=lambda number: number.start())
    between = text[first.end() : second.start()]
    return text[: first.start()] + second[0] + between + first[0] + text[second.end() :]


def _left_out(text: str, draw: Random) -> str | None:
    """One step left out, which is not the last."""
    steps = list(_STEP.finditer(text))
    if not steps:
        return None
    place = draw.randrange(len(steps))
    start = steps[place - 1].end() if place else 0
    return text[:start] + text[steps[place].end() :]


CHANGES: Mapping[str, Callable[[str, Random], str | None]] = {
    "slip": partial(changed_step, kinds=("slip",)),
    "other_value": partial(changed_step, kinds=("other_value",)),
    "other_operator": partial(changed_step, kinds=("other_operator",)),
    "other_word": changed_word,
    "conclusion": _conclusion,
    "swapped": _swapped,
    "left_out": _left_out,
}
"""Kinds of change: each makes a wrong solution of a right one; None if it finds nothing to change."""
