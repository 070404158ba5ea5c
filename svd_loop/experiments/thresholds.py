"""The prefilter's threshold, from votes that were cast: how much it may lose is said, the threshold follows.

A job with `cascade.prefilter.threshold: 0` has a one-token verdict beside every candidate's votes. One with a threshold
has both for the candidates of its audit slice alone, since the others below it were never voted on; only those are
looked at then. Committed rounds count, but for those a fork took over, which were judged in another way. No label is
read: what is kept or lost are candidates that the votes accept.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from envs.cascade.audit_slice import in_slice
from envs.cascade.prefilter import probability_of_yes
from svd_loop.config import parse_config
from svd_loop.contracts import Estimate, RootPaths
from svd_loop.errors import ConfigError, DataError
from svd_loop.ledger import LedgerReader
from svd_loop.support.statistics import wilson


@dataclass(frozen=True, slots=True)
class Scored:
    """A candidate's probability of yes in one token, and whether all its votes accept it."""

    score: float
    accepted: bool


@dataclass(frozen=True, slots=True)
class Threshold:
    """A threshold and what it would have done to the candidates it was set on.

    Attributes:
        value: for `cascade.prefilter.threshold`.
        candidates: how many there were, `accepted` of them by the votes.
        false_reject: share of the accepted that it rejects, with its 95% Wilson interval.
        spared: share of the others that it rejects, and that would have cost no vote.
        auc: chance that an accepted candidate scores above another, 0.5 being no use; ties count half.
    """

    value: float
    candidates: int
    accepted: int
    false_reject: Estimate
    spared: Estimate
    auc: float


def scored_candidates(job: str, root: Path) -> list[Scored]:
    """Candidates of a job with a one-token verdict whose votes are known to the end.

    Raises:
        ConfigError: the job was played without a prefilter.
        LedgerError: there is no such job.
    """
    with LedgerReader.open_for_reading(RootPaths(root).job(job).folder) as reader:
        config = parse_config(reader.config())
        cascade = config.cascade
        if cascade.prefilter is None:
            raise ConfigError(f"{job} has no one-token verdicts: play a round with cascade.prefilter: {{threshold: 0}}")
        origin = reader.forked_from()
        rows = list(reader.query(_SCORED, (cascade.needed, len(cascade.stages), origin[1] if origin else 0)))
        if cascade.prefilter.threshold > 0.0:
            share, seed = cascade.audit_share, config.job.seed
            rows = [row for row in rows if in_slice(share, seed, row["round"], row["prompt_id"], row["candidate"])]
        return [Scored(probability_of_yes(reader.text(row["text"])), bool(row["accepted"])) for row in rows]


def threshold_for(scored: Sequence[Scored], lose: float) -> Threshold:
    """The largest threshold that rejects at most a share `lose` of the accepted.

    Args:
        scored: candidates.
        lose: from 0 to below 1.

    Raises:
        DataError: none of the candidates was accepted, or all were: nothing can be told apart.
    """
    kept = sorted(item.score for item in scored if item.accepted)
    others = sorted(item.score for item in scored if not item.accepted)
    if not kept or not others:
        raise DataError(
            f"a threshold needs accepted and rejected candidates, found {len(kept)} and {len(others)}; "
            "play more rounds with cascade.prefilter, or a larger cascade.audit_share"
        )
    value = kept[int(lose * len(kept))]
    lost = sum(score < value for score in kept)
    return Threshold(
        value,
        len(scored),
        len(kept),
        wilson(lost, len(kept)),
        wilson(sum(score < value for score in others), len(others)),
        _auc(kept, others),
    )


def _auc(kept: Sequence[float], others: Sequence[float]) -> float:
    """Mann and Whitney's U over the number of pairs."""
    wins = sum(bisect_left(others, score) + bisect_right(others, score) for score in kept)
    return wins / (2 * len(kept) * len(others))


_SCORED = """
SELECT v.round, v.prompt_id, v.candidate, replies.text AS text,
       (SELECT COUNT(*) FROM (SELECT stage FROM votes
         WHERE votes.round = v.round AND votes.prompt_id = v.prompt_id AND votes.candidate = v.candidate
         GROUP BY stage HAVING SUM(value = 'yes') >= ?1)) = ?2 AS accepted
FROM verdicts AS v
JOIN replies ON replies.purpose = 'prefilter' AND replies.round = v.round AND replies.prompt_id = v.prompt_id
    AND replies.candidate = v.candidate
WHERE v.round > ?3
ORDER BY v.round, v.prompt_id, v.candidate
"""
