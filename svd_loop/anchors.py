"""Rows that keep the judge's roles from being forgotten while the solver's are trained.

Two sources, neither of which ever sees gold of a training prompt: nano's own post-training mixture (its
judge roles, on problems of the post-training split), and the policy's own verified judgements.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from svd_loop.contracts import TrainingRow, VoteValue
from svd_loop.ledger import LedgerReader


def posttrain_rows(
    encode: Callable[[list[tuple[str, str]]], list[TrainingRow]], count: int, seed: int
) -> list[TrainingRow]:
    """`count` rows of nano's judge roles, freshly generated from the post-training split."""
    from svd_loop.nano.corpus import anchor_rows

    return encode([(row.user_text, row.completion_text) for row in anchor_rows(count, seed)])


@dataclass(frozen=True, slots=True)
class OwnJudgements:
    """The policy's own judgements of the round before, as far as the cascade itself vouches for them.

    A yes is vouched for when its candidate was accepted: every vote of every stage agreed. A no is vouched for when
    the same prompt has an accepted candidate, so that unanimity picked another answer. Verdicts of yes and of no are
    drawn in equal number, since what anchors a judge must not teach it to agree; inferred questions, which are no
    verdicts, come along with the yes votes. The first round has no round before it and gets none, and so does a round
    that follows one from which nothing was learned, such as one whose judge was found unhealthy.
    """

    ledger: LedgerReader

    def __call__(self, count: int, round: int) -> Sequence[TrainingRow]:
        """Up to `count` rows; fewer when the round before holds fewer."""
        generator = random.Random(f"own judgements/{round}")
        found = [self._judgements(round - 1, value) for value in (VoteValue.YES, VoteValue.NO)]
        half = min(count // 2, *map(len, found))
        return [self._row(reply) for replies in found for reply in generator.sample(replies, half)]

    def _judgements(self, round: int, value: VoteValue) -> list[Mapping[str, Any]]:
        """Replies behind the vouched votes of a round with this value, in a fixed order."""
        return list(self.ledger.query(_VOUCHED, (round, value.value, value is VoteValue.YES)))

    def _row(self, reply: Mapping[str, Any]) -> TrainingRow:
        prompt, answer = self.ledger.ids(reply["prompt_ids"]), self.ledger.ids(reply["token_ids"])
        return TrainingRow((*prompt, *answer), len(prompt), "anchor", prompt_id=reply["prompt_id"])


_VOUCHED = """
SELECT replies.prompt_id, replies.prompt_ids, replies.token_ids
FROM votes
JOIN verdicts USING (round, prompt_id, candidate)
JOIN replies ON replies.purpose = 'train' AND replies.round = votes.round AND replies.prompt_id = votes.prompt_id
    AND replies.candidate = votes.candidate AND replies.stage = votes.stage AND replies.vote = votes.vote
WHERE votes.round = ?1 AND votes.value = ?2 AND replies.finish_reason = 'stop' AND replies.attempt = 0
    AND verdicts.accepted = ?3 AND (?3 OR replies.role != 'question_inferrer')
    AND EXISTS (SELECT 1 FROM updates WHERE updates.round = votes.round)
    AND EXISTS (SELECT 1 FROM verdicts AS other
                WHERE other.round = votes.round AND other.prompt_id = votes.prompt_id AND other.accepted)
ORDER BY votes.prompt_id, votes.candidate, votes.place, replies.role
"""
