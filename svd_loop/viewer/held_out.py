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
JUDGE = ("wrong", "accepted", "refused")
"""The audit's verdict on a sample contradicts gold: either way, a wrong sample was accepted, a right one refused."""


@dataclass(frozen=True, slots=True)
class HeldOutFilter:
    """Conditions on a held-out problem; empty ones hold always."""

    domain: str = ""
    result: str = ""
    judge: str = ""

    def __post_init__(self) -> None:
        for name, value, known in (("result", self.result, RESULTS), ("judge", self.judge, JUDGE)):
            if value and value not in known:
                raise ConfigError(f"{name} {value!r}: is one of {', '.join(known)}")


@dataclass(frozen=True, slots=True)
class HeldOutRow:
    """A problem in a round: its number, and samples right, undecided, and right by the base model.

    `misjudged` is `accepted` or `refused` if the judge was wrong about a sample, else empty.
    """

    place: int
    id: str
    domain: str
    right: int
    undecided: int
    base: int
    misjudged: str = ""

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
        judged = wanted.judge in ("", self.misjudged) or (wanted.judge == "wrong" and bool(self.misjudged))
        return holds[wanted.result] and wanted.domain in ("", self.domain) and judged


@dataclass(frozen=True, slots=True)
class Sample:
    """One sampled answer of a held-out problem, its outcome (None if it is not known), and the audit's votes."""

    call: Call
    outcome: Outcome | None
    audit: Sequence[JudgedCall]


def rows_of(
    record: RoundRecord, base: RoundRecord, wanted: HeldOutFilter, misjudged: Mapping[str, str] | None = None
) -> list[HeldOutRow]:
    """Return a round's held-out problems that match, in their order; `misjudged` is that of the function below."""
    wrong = misjudged or {}
    scores = record.scores
    undecided = scores.undecided or (0,) * len(scores.correct)
    before = dict(zip(base.scores.problem_ids, base.scores.correct, strict=True))
    columns = zip(scores.problem_ids, scores.domains, scores.correct, undecided, strict=True)
    rows = (
        HeldOutRow(place, id, domain, right, unsure, before.get(id, 0), wrong.get(id, ""))
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


def misjudged(source: JobSource, record: RoundRecord) -> Mapping[str, str]:
    """Return the audited problems about whose sample the judge was wrong: `accepted` (a wrong one) or `refused`.

    Samples that nobody scored again (see `JobSource.outcomes`) are left out where the counts do not tell.
    """

    def find() -> list[tuple[str, str]]:
        query = """SELECT DISTINCT prompt_id FROM answers JOIN speakers ON speakers.id = speaker
                   WHERE purpose = 'audit' AND fingerprint = ?"""
        audited = {row["prompt_id"] for row in source.reader.query(query, [record.version.fingerprint])}
        return [
            (id, "accepted" if verdict_of(sample) is VoteValue.YES else "refused")
            for id in record.scores.problem_ids
            if id in audited
            for sample in samples_of(source, record, id)
            if _contradicts(sample)
        ]

    return dict(source.once("misjudged", record.round, find))


def _contradicts(sample: Sample) -> bool:
    verdict, outcome = verdict_of(sample), sample.outcome
    if verdict is None or outcome not in (Outcome.RIGHT, Outcome.WRONG):
        return False
    return (verdict is VoteValue.YES) != (outcome is Outcome.RIGHT)


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
