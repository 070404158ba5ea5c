"""Held-out problems of a round's version: how many samples were right, and the samples themselves.

Gold is not read here. The ledger says how many samples of a problem were right; which ones they were is computed by
evaluation, where the job's held-out data is at hand (`JobSource.outcomes`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from svd_loop.contracts import Outcome, RoundRecord, VoteValue
from svd_loop.errors import ConfigError
from svd_loop.ledger.browse import Call, calls_of
from svd_loop.viewer.canaries import JudgedCall, judged_calls
from svd_loop.viewer.source import JobSource

RESULTS = ("all", "some", "none", "undecided", "gained", "lost")
"""Every sample right, some, none; some undecided; more or fewer right than by the base model."""


@dataclass(frozen=True, slots=True)
class HeldOutFilter:
    """Conditions on a held-out problem; empty ones hold always."""

    domain: str = ""
    result: str = ""

    def __post_init__(self) -> None:
        if self.result and self.result not in RESULTS:
            raise ConfigError(f"result {self.result!r}: is one of {', '.join(RESULTS)}")


@dataclass(frozen=True, slots=True)
class HeldOutRow:
    """A problem in a round: its number, and samples right, undecided, and right by the base model."""

    place: int
    id: str
    domain: str
    right: int
    undecided: int
    base: int

    def matches(self, wanted: HeldOutFilter, samples: int) -> bool:
        """Whether the problem fulfils the conditions."""
        holds = {
            "": True,
            "all": self.right == samples,
            "some": 0 < self.right < samples,
            "none": self.right == 0,
            "undecided": self.undecided > 0,
            "gained": self.right > self.base,
            "lost": self.right < self.base,
        }
        return holds[wanted.result] and wanted.domain in ("", self.domain)


@dataclass(frozen=True, slots=True)
class Sample:
    """One sampled answer of a held-out problem, its outcome (None if it is not known), and the audit's votes."""

    call: Call
    outcome: Outcome | None
    audit: Sequence[JudgedCall]


def rows_of(record: RoundRecord, base: RoundRecord, wanted: HeldOutFilter) -> list[HeldOutRow]:
    """Return a round's held-out problems that match, in their order."""
    scores = record.scores
    undecided = scores.undecided or (0,) * len(scores.correct)
    before = dict(zip(base.scores.problem_ids, base.scores.correct, strict=True))
    columns = zip(scores.problem_ids, scores.domains, scores.correct, undecided, strict=True)
    rows = (
        HeldOutRow(place, id, domain, right, unsure, before.get(id, 0))
        for place, (id, domain, right, unsure) in enumerate(columns)
    )
    return [row for row in rows if row.matches(wanted, scores.samples)]


def samples_of(source: JobSource, record: RoundRecord, id: str) -> list[Sample]:
    """Return the samples of a problem by the version in force after a round."""
    split, written_by = record.scores.split, record.version.fingerprint
    solver = [call for call in calls_of(source.reader, id, 0, split) if call.fingerprint == written_by]
    calls = [call for call in solver if call.role == "solver"][: record.scores.samples]
    audit = [call for call in calls_of(source.reader, id, 0, "audit") if call.fingerprint == written_by]
    outcomes = _outcomes(source, record, id, [call.words for call in calls])
    return [
        Sample(call, outcome, judged_calls(vote for vote in audit if vote.candidate == call.candidate))
        for call, outcome in zip(calls, outcomes, strict=True)
    ]


def question_of(source: JobSource, record: RoundRecord, id: str, *, special: bool) -> str | None:
    """Return a problem as the model was asked it, decoded from the tokens of its first call; None if it cannot be."""
    query = """SELECT prompt_ids FROM answers WHERE prompt_id = ? AND round = 0 AND purpose = ? LIMIT 1"""
    row: Mapping[str, Any] | None = next(source.reader.query(query, [id, record.scores.split]), None)
    return None if row is None else source.decoded(row["prompt_ids"], special=special)


def _outcomes(source: JobSource, record: RoundRecord, id: str, texts: Sequence[str]) -> Sequence[Outcome | None]:
    """Outcomes that the counts alone decide, else those of scoring again if it agrees with the counts."""
    place = record.scores.problem_ids.index(id)
    right = record.scores.correct[place]
    undecided = record.scores.undecided[place] if record.scores.undecided else 0
    if right == len(texts):
        return [Outcome.RIGHT] * len(texts)
    if right == 0 and undecided in (0, len(texts)):
        return [Outcome.UNDECIDED if undecided else Outcome.WRONG] * len(texts)
    found = source.outcomes(record.scores.split, id, texts)
    if found is None or sum(one is Outcome.RIGHT for one in found) != right:
        return [None] * len(texts)
    return found


def verdict_of(sample: Sample) -> VoteValue | None:
    """Return the audit's verdict on a sample: yes if every vote is, else the first other value; None without votes."""
    values = [one.value for one in sample.audit if one.value is not None]
    if not values:
        return None
    return next((value for value in values if value is not VoteValue.YES), VoteValue.YES)
