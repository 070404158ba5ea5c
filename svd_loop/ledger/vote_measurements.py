"""Compute the order of the next round's votes from the votes in the ledger.

It reads committed rounds only, and of those the newest one before the current round, because the judge changes with
every round. So a resumed round gets the same order as the interrupted one. No labels are used.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from envs.cascade.ordering import Measurements, Unit, measured_order
from svd_loop.contracts import StageName
from svd_loop.ledger import LedgerReader


@dataclass(frozen=True, slots=True)
class MeasuredOrder:
    """Order of a round's voting units, length S * V; the paper's order until a round has been played.

    Attributes:
        ledger: the job's ledger.
        stages: the cascade's stages.
        votes: number of votes per stage.
    """

    ledger: LedgerReader
    stages: Sequence[StageName]
    votes: int
    _known: dict[int, tuple[Unit, ...]] = field(default_factory=dict, repr=False)

    def __call__(self, round: int) -> tuple[Unit, ...]:
        """Return the order for `round`; cached, because a round calls this for every block of candidates."""
        if round not in self._known:
            self._known[round] = measured_order(self.stages, self.votes, measurements(self.ledger, round))
        return self._known[round]


def measurements(ledger: LedgerReader, before: int) -> Measurements:
    """Return votes by candidate and stage, and output tokens per vote, of the newest committed round below `before`."""
    for row in ledger.query("SELECT MAX(round) AS newest FROM rounds WHERE round < ?", (before,)):
        if row["newest"] is not None:
            ledger.verify(row["newest"], answers=True)
    tallies: defaultdict[tuple[str, int], dict[StageName, tuple[int, int]]] = defaultdict(dict)
    votes: defaultdict[StageName, int] = defaultdict(int)
    for row in ledger.query(_VOTES, (before,)):
        stage = row["stage"]
        tallies[row["prompt_id"], row["candidate"]][stage] = (row["yes"], row["other"])
        votes[stage] += row["yes"] + row["other"]
    tokens = {row["stage"]: row["tokens"] for row in ledger.query(_TOKENS, (before,))}
    prices = {stage: tokens.get(stage, 0) / count for stage, count in votes.items()}
    return Measurements(list(tallies.values()), prices)


_VOTES = """
SELECT prompt_id, candidate, stage, SUM(value = 'yes') AS yes, SUM(value != 'yes') AS other
FROM votes WHERE round = (SELECT MAX(round) FROM votes WHERE round < ?)
GROUP BY prompt_id, candidate, stage ORDER BY prompt_id, candidate, stage
"""
_TOKENS = """
SELECT replies.stage AS stage, SUM(output_tokens) AS tokens FROM replies
JOIN votes USING (round, prompt_id, candidate, stage, vote)  -- the verifier test asks more votes than the round counts
WHERE purpose = 'train' AND stage != '' AND round = (SELECT MAX(round) FROM votes WHERE round < ?)
GROUP BY stage
"""
