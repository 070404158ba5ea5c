"""Find held-out problems among training texts, so that the model is not trained on its test set.

The index is built from the held-out side, which is small; training texts are checked as a stream. There are three
rules; the first that matches is reported:

- *exact*: the same words in the same order, ignoring spaces, case and punctuation;
- *containment*: enough of the problem's word n-grams occur in the text, or the whole problem does when spacing and
  punctuation inside words are ignored too. A problem with fewer words than an n-gram must occur as a whole, and one
  with fewer than five words is found by the exact rule only: "Solve x = 3" occurs in many unrelated texts;
- *minhash*: similar word pairs (Jaccard), for rewordings.

Two vetoes separate problems made from one template, so that only copies are reported. With `numbers_matter` a text must
hold the problem's numbers; in a long problem it is enough that their digits occur in a row, because copies lose
points, commas and spaces between them. In a short problem (at most 16 words), where operators carry much meaning,
a text that has operators must have the problem's in their order.

Left out: translations, paraphrases with few shared words, and copies across scripts (see `normalise`).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import accumulate

from envs.prompts.normalise import Form, compared
from envs.prompts.similarity import Bands, Sketches, jaccard, sketches
from svd_loop.config.data import LeakSection
from svd_loop.contracts import Problem

_SHORTEST_EMBEDDED = 5
# Characters of a problem, without spaces, whose presence makes a full search worthwhile. A text is sampled in
# steps, so a problem is indexed at as many neighbouring starts: at any alignment one of them is hit.
_ANCHOR = 24
_ANCHOR_STEP = 8
_LONGEST_TERSE = 16


class LeakRule(StrEnum):
    """The rule that found a pair."""

    EXACT = "exact"
    CONTAINMENT = "containment"
    MINHASH = "minhash"


@dataclass(frozen=True, slots=True)
class Leak:
    """A training text that holds a held-out problem. `score` is the share found, or the similarity, in [0, 1]."""

    source: str
    problem_id: str
    problem_source: str
    rule: LeakRule
    score: float

    def __str__(self) -> str:
        """The text shown in messages."""
        return f"{self.source} holds {self.problem_source or self.problem_id} ({self.rule}, {self.score:.2f})"


class _HeldOut:
    """One held-out problem with all precomputed data that the rules need."""

    def __init__(self, problem: Problem, ngram: int) -> None:
        self.problem = problem
        self.form = form = compared(problem.text)
        self.squeezed = form.squeezed
        self.pairs = form.pairs()
        self.numbers = Counter(form.numbers)
        self.operators = form.operators
        self.is_terse = len(form.words) <= _LONGEST_TERSE
        size = len(form.words)
        self.gram_size = 0 if not ngram else ngram if size >= ngram else size if size >= _SHORTEST_EMBEDDED else 0
        self.grams = frozenset(_grams(form.words, self.gram_size))
        is_long_enough = self.gram_size and len(self.squeezed) >= _ANCHOR + _ANCHOR_STEP - 1
        starts = range(_ANCHOR_STEP if is_long_enough else 0)
        self.anchors = {self.squeezed[start : start + _ANCHOR] for start in starts}


class LeakIndex:
    """An index of held-out problems; its memory grows with the held-out side only."""

    def __init__(self, problems: Iterable[Problem], settings: LeakSection) -> None:
        self._settings = settings
        self._held_out = [_HeldOut(problem, settings.ngram) for problem in problems]
        self._by_text: defaultdict[str, list[int]] = defaultdict(list)
        self._by_gram: defaultdict[tuple[str, ...], list[int]] = defaultdict(list)
        self._by_anchor: defaultdict[str, list[int]] = defaultdict(list)
        self._by_band: defaultdict[int, list[int]] = defaultdict(list)
        for number, held_out in enumerate(self._held_out):
            self._by_text[held_out.squeezed or held_out.problem.text].append(number)
            for gram in held_out.grams:
                self._by_gram[gram].append(number)
            for anchor in held_out.anchors:
                self._by_anchor[anchor].append(number)
        self._bands = Bands(settings.minhash) if settings.minhash else None
        if self._bands is not None:
            forms = [held_out.form for held_out in self._held_out]
            for number, keys in enumerate(self._bands.keys(sketches(forms))):
                for key in keys if forms[number].words else ():
                    self._by_band[key].append(number)
        self._gram_sizes = sorted({held_out.gram_size for held_out in self._held_out} - {0})
        # Every gram begins with one of the shortest grams: a text without any of those holds no gram.
        self._starts = {gram[: self._gram_sizes[0]] for gram in self._by_gram}

    @property
    def needs_sketches(self) -> bool:
        """Whether `find_each` compares sketches."""
        return self._bands is not None

    def find(self, text: str, *, source: str = "") -> list[Leak]:
        """Every held-out problem in a text (a training prompt or an accepted completion); see `find_each`."""
        return self.find_each([text], [source])[0]

    def find_each(
        self,
        texts: Sequence[str],
        sources: Sequence[str],
        forms: Sequence[Form] | None = None,
        sketched: Sketches | None = None,
    ) -> list[list[Leak]]:
        """For each text, every held-out problem in it, each with the first rule that found it.

        Args:
            texts: Training prompts or accepted completions; batches of some hundreds are cheaper than single texts.
            sources: The place of each text, for the report.
            forms: `compared` of each text, if the caller has them already.
            sketched: Sketches of the forms, if the caller has them already.
        """
        forms = [compared(text) for text in texts] if forms is None else forms
        bands: Sequence[Sequence[int]] = [()] * len(texts)
        if self._bands is not None and self._by_band:
            bands = self._bands.keys(sketches(forms) if sketched is None else sketched)
        return [self._find(*one) for one in zip(texts, sources, forms, bands, strict=True)]

    def _find(self, text: str, source: str, form: Form, bands: Sequence[int]) -> list[Leak]:
        found: dict[int, tuple[LeakRule, float]] = {}
        for number in self._by_text.get(form.squeezed or text, ()):
            if self._may_be_copy(self._held_out[number], form):
                found[number] = (LeakRule.EXACT, 1.0)
        for number, score in self._contained(form):
            if number not in found and self._may_be_copy(self._held_out[number], form):
                found[number] = (LeakRule.CONTAINMENT, score)
        for number, score in self._similar(form, bands):
            if number not in found and self._may_be_copy(self._held_out[number], form):
                found[number] = (LeakRule.MINHASH, score)
        problems = {number: self._held_out[number].problem for number in sorted(found)}
        return [
            Leak(source, problem.id, problem.source, found[number][0], round(found[number][1], 4))
            for number, problem in problems.items()
        ]

    def _contained(self, form: Form) -> Iterator[tuple[int, float]]:
        hits: Counter[int] = Counter()
        if self._starts and not self._starts.isdisjoint(_grams(form.words, self._gram_sizes[0])):
            for size in self._gram_sizes:
                for gram in set(_grams(form.words, size)) & self._by_gram.keys():
                    hits.update(self._by_gram[gram])
        squeezed = form.squeezed
        anchors = {squeezed[start : start + _ANCHOR] for start in range(0, len(squeezed), _ANCHOR_STEP)}
        for anchor in anchors & self._by_anchor.keys():
            whole = [number for number in self._by_anchor[anchor] if self._held_out[number].squeezed in squeezed]
            hits.update({number: len(self._held_out[number].grams) for number in whole})
        for number, count in hits.items():
            score = min(1.0, count / len(self._held_out[number].grams))
            if score >= self._settings.containment:
                yield number, score

    def _similar(self, form: Form, bands: Sequence[int]) -> Iterator[tuple[int, float]]:
        if not form.words:
            return
        proposed = {number for key in bands for number in self._by_band.get(key, ())}
        pairs = form.pairs() if proposed else frozenset()
        for number in proposed:
            score = jaccard(pairs, self._held_out[number].pairs)
            if score >= self._settings.minhash:
                yield number, score

    def _may_be_copy(self, held_out: _HeldOut, form: Form) -> bool:
        """Whether neither veto applies."""
        wanted = held_out.form.numbers
        if (
            self._settings.numbers_matter
            and not held_out.numbers <= Counter(form.numbers)
            and not _holds_digits(form.numbers, wanted, joined=not held_out.is_terse)
        ):
            return False
        operators = form.operators
        return not (held_out.is_terse and operators and held_out.operators not in operators)


def _holds_digits(numbers: Sequence[str], wanted: Sequence[str], *, joined: bool) -> bool:
    """Whether the digits of `wanted` occur in a row in `numbers`, between the start of a number and the end of one.

    Numbers may be split there ("1,000.50" as "1 000 50"), and with `joined` also joined ("1/5" as "15").
    """
    row, cuts = "".join(numbers), set(accumulate(map(len, numbers), initial=0))
    wanted_cuts = list(accumulate(map(len, wanted), initial=0))
    if joined:
        wanted_cuts = [0, wanted_cuts[-1]]
    start = row.find("".join(wanted))
    while start >= 0 and not all(start + cut in cuts for cut in wanted_cuts):
        start = row.find("".join(wanted), start + 1)
    return start >= 0


def _grams(words: Sequence[str], size: int) -> Iterator[tuple[str, ...]]:
    """Runs of `size` neighbouring words."""
    return zip(*(words[start:] for start in range(size)), strict=False)
