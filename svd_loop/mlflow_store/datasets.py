"""Summaries of a job's data: source, number of rows and a digest. The data and the gold are never logged."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from svd_loop.contracts import Problem, Prompt


@dataclass(frozen=True, slots=True)
class DataSummary:
    """Summary of one split.

    Attributes:
        context: train, development or test.
        source: where the questions come from, in words.
        rows: number of questions.
        rows_by_domain: number of questions by domain.
        digest: digest of the set of questions.
    """

    context: str
    source: str
    rows: int
    rows_by_domain: Mapping[str, int]
    digest: str


def summarise(context: str, source: str, items: Iterable[Prompt | Problem]) -> DataSummary:
    """Summarise a split.

    Args:
        context: train, development or test.
        source: where the questions come from, in words: file patterns or a generator and its seed.
        items: prompts or problems; only ids, texts and domains are read.
    """
    questions = sorted((item.id, item.text, item.domain) for item in items)
    digest = hashlib.sha256()
    for identifier, text, _ in questions:
        digest.update(f"{identifier}\x1f{text}\x1e".encode())
    by_domain = Counter(domain for _, _, domain in questions)
    return DataSummary(context, source, len(questions), dict(sorted(by_domain.items())), digest.hexdigest()[:32])
