"""Agreement: which candidates of a prompt reach the same final answer, and how many reach each.

A verifier without a judge and without labels. The domain defines how a final answer is found and when two are equal, so
both are parameters (`AnswerComparison`): nothing that scores can be imported from here.

Equal texts are one answer. Other texts are compared with few questions: the most frequent answer that has no class yet
is compared with all the others that have none, in both directions (a domain's comparison need not be symmetric), and
those equal to it join it. So a class holds what equals its most frequent text, whatever the order of the candidates. A
comparison without a result (a time limit in the domain's worker) counts as not equal.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from envs.cascade.votes import answer_of, unfit
from svd_loop.contracts import Candidate, Outcome, Prompt

Group = tuple[Prompt, Sequence[Candidate]]
"""A prompt with its candidates."""
Solutions = tuple[Prompt, str, str]
"""Two solutions of a prompt, as texts."""


@dataclass(frozen=True, slots=True)
class AnswerComparison:
    """How a domain finds and compares final answers (`svd_loop.evaluation.evaluation.answer_comparison`).

    Attributes:
        extract: the final answer in the text of a solution of a prompt (without its thought); None if there is none.
        same: whether the two solutions of each item have equal final answers; RIGHT means equal.
    """

    extract: Callable[[Prompt, str], str | None]
    same: Callable[[Sequence[Solutions]], Sequence[Outcome]]


def agreement(prompt: Prompt, candidates: Sequence[Candidate], comparison: AnswerComparison) -> list[int]:
    """How many candidates reach each candidate's final answer, itself included; 0 for one without an answer."""
    return sizes(partition(prompt, candidates, comparison))


def partition(prompt: Prompt, candidates: Sequence[Candidate], comparison: AnswerComparison) -> list[int | None]:
    """`partitions` for one prompt."""
    return partitions([(prompt, candidates)], comparison)[0]


def partitions(groups: Sequence[Group], comparison: AnswerComparison) -> list[list[int | None]]:
    """Divide the candidates of each prompt into classes of equal final answers.

    Args:
        groups: prompts with their candidates; the comparisons of all of them are asked together, because a domain's
            workers are slow to start.
        comparison: how answers are found and compared.

    Returns:
        For each prompt the number of each candidate's class, aligned with its candidates: classes are numbered from 0
        in the order of their first candidate. None for a candidate that is truncated, empty or without an answer.
    """
    open_groups = [_Answers(prompt, candidates, comparison.extract) for prompt, candidates in groups]
    while asked := [(group, text) for group in open_groups for text in group.others()]:
        pairs = [group.pair(text) for group, text in asked]
        likely = [item for item, equal in zip(asked, _equal(pairs, comparison), strict=True) if equal]
        swapped = [(prompt, other, one) for prompt, one, other in (group.pair(text) for group, text in likely)]
        back = _equal(swapped, comparison)
        for (group, text), equal in zip(likely, back, strict=True):
            if equal:
                group.join(text)
        for group in open_groups:
            group.advance()
    return [group.classes() for group in open_groups]


def sizes(classes: Sequence[int | None]) -> list[int]:
    """The size of each candidate's class; 0 for a candidate without a class."""
    counts = Counter(classes)
    return [0 if number is None else counts[number] for number in classes]


@dataclass(slots=True)
class _Answers:
    """The distinct answers of a prompt while they are divided into classes."""

    prompt: Prompt
    candidates: Sequence[Candidate]
    extract: Callable[[Prompt, str], str | None]
    texts: list[str | None] = field(init=False)
    solutions: Mapping[str, str] = field(init=False)
    """A solution for each answer, the first one that reaches it."""
    unclassed: list[str] = field(init=False)
    """Answers without a class, the most frequent first, then by text; the first one is compared with the others."""
    leader: dict[str, str] = field(default_factory=dict)
    """The answer that an answer's class is named after."""

    def __post_init__(self) -> None:
        self.texts = [self._answer(candidate) for candidate in self.candidates]
        counts = Counter(text for text in self.texts if text is not None)
        self.unclassed = sorted(counts, key=lambda text: (-counts[text], text))
        found = zip(self.texts, self.candidates, strict=True)
        self.solutions = {text: candidate.text for text, candidate in reversed(list(found)) if text is not None}
        self.leader = {text: text for text in counts}

    def _answer(self, candidate: Candidate) -> str | None:
        return self.extract(self.prompt, answer_of(candidate.text)) if unfit(candidate) is None else None

    def others(self) -> list[str]:
        """The answers to compare with the first one now."""
        return self.unclassed[1:]

    def pair(self, text: str) -> Solutions:
        """Solutions that reach the first answer and another one."""
        return self.prompt, self.solutions[self.unclassed[0]], self.solutions[text]

    def join(self, text: str) -> None:
        """Put an answer into the class of the first one."""
        self.leader[text] = self.unclassed[0]

    def advance(self) -> None:
        """Continue with the next answer that has no class."""
        self.unclassed = [text for text in self.unclassed[1:] if self.leader[text] == text]

    def classes(self) -> list[int | None]:
        """The number of each candidate's class."""
        numbers: dict[str, int] = {}
        return [None if text is None else numbers.setdefault(self.leader[text], len(numbers)) for text in self.texts]


def _equal(pairs: Sequence[Solutions], comparison: AnswerComparison) -> Iterator[bool]:
    """Whether the solutions of each pair have equal answers."""
    outcomes = comparison.same(pairs) if pairs else ()
    return (outcome is Outcome.RIGHT for outcome in outcomes)
