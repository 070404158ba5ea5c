"""Rows of the judge's roles: anchors, so that training the solver does not degrade them, and judge rows.

Anchors have two sources, neither of which ever sees gold of a training prompt: nano's own post-training mixture (its
judge roles, on problems of the post-training split), and the policy's own verified judgements. Judge rows
(`envs.judge_rows`) come from the round itself.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from envs.cascade.cascade import Cascade
from envs.judge_rows import judge_rows
from svd_loop.config import Config
from svd_loop.contracts import (
    Candidate,
    Episode,
    JudgeRow,
    Outcome,
    Policy,
    Prompt,
    Role,
    RoleName,
    TrainingRow,
)
from svd_loop.ledger import LedgerReader


def posttrain_rows(
    encode: Callable[[list[tuple[str, str]]], list[TrainingRow]], count: int, seed: int
) -> list[TrainingRow]:
    """`count` rows of nano's judge roles, newly generated from the post-training split."""
    from svd_loop.nano.corpus import anchor_rows

    return encode([(row.user_text, row.completion_text) for row in anchor_rows(count, seed)])


JudgeRowSource = Callable[[Policy, Episode, Sequence[Candidate], Sequence[Prompt]], Sequence[JudgeRow]]


def make_judge_rows(config: Config, cascade: Cascade) -> JudgeRowSource:
    """Build the source of judge rows."""
    return partial(judge_rows, cascade, share=config.update.judge_rows.share, seed=config.job.seed)


def no_judge_rows(
    judge: Policy, episode: Episode, others: Sequence[Candidate], prompts: Sequence[Prompt]
) -> Sequence[JudgeRow]:
    """Return no rows; used by controls, which have no judge."""
    return ()


class SameAnswers(Protocol):
    """Compares two solutions of a prompt by their final answers, for many pairs at once."""

    def __call__(self, pairs: Sequence[tuple[Prompt, str, str]]) -> list[Outcome]:
        """RIGHT if the two solutions of a prompt agree, aligned; only the texts are read."""
        ...


@dataclass(frozen=True, slots=True)
class OwnJudgements:
    """The policy's own judgements of the previous round, as far as the cascade verifies them.

    A yes is verified when its candidate was accepted: every vote of every stage agreed. A no is verified when
    unanimity picked another answer: the same prompt has accepted candidates, and all of them were found to differ from
    it; an undecided comparison verifies nothing. Without the second condition no-votes teach the judge to
    reject, the more so the better the solver is: in the fourth round of nano, nearly three in four were cast against
    the very answer that was accepted (docs/concepts/decisions.md).

    Verdicts of yes and of no are drawn in equal number, so that anchors favour neither; inferred
    questions of accepted candidates, which are not verdicts, are added, one to two of each. The first round has
    no previous round and gets none, and so does a round that follows one without an update, such as one
    whose judge was found unhealthy.
    """

    ledger: LedgerReader
    same_answers: SameAnswers
    before_the_verdict: frozenset[RoleName] = frozenset({Role.QUESTION_INFERRER})

    def __call__(self, count: int, round: int) -> Sequence[TrainingRow]:
        """Up to `count` rows; fewer when the round before holds fewer."""
        self.ledger.verify(round - 1, answers=True)
        generator = random.Random(f"own judgements/{round}")
        vouched: list[Mapping[str, Any]] = list(self.ledger.query(_OF_ACCEPTED, (round - 1,)))
        yes = [reply for reply in vouched if reply["role"] not in self.before_the_verdict]
        inferred = [reply for reply in vouched if reply["role"] in self.before_the_verdict]
        no = self._contradicted(round - 1)
        verdicts = min(2 * count // 5, len(yes), len(no))
        shares = [(yes, verdicts), (no, verdicts), (inferred, min(verdicts // 2, len(inferred)))]
        return [self._row(reply) for replies, share in shares for reply in generator.sample(replies, share)]

    def _contradicted(self, round: int) -> list[Mapping[str, Any]]:
        """No-votes on candidates whose answer matches no accepted one, in a fixed order."""
        prompts = {prompt.id: prompt for prompt in self.ledger.prompts()}
        accepted: dict[str, list[int]] = defaultdict(list)
        for row in self.ledger.query(_ACCEPTED, (round,)):
            accepted[row["prompt_id"]].append(row["text"])
        found = [
            reply
            for reply in self.ledger.query(_OF_REFUSED, (round,))
            if reply["prompt_id"] in accepted and reply["role"] not in self.before_the_verdict
        ]
        pairs = dict.fromkeys(
            (reply["prompt_id"], reply["refused"], other) for reply in found for other in accepted[reply["prompt_id"]]
        )
        same = self.same_answers(
            [(prompts[name], self.ledger.text(one), self.ledger.text(other)) for name, one, other in pairs]
        )
        perhaps_agreed = {
            (name, one) for (name, one, _), equal in zip(pairs, same, strict=True) if equal is not Outcome.WRONG
        }
        return [reply for reply in found if (reply["prompt_id"], reply["refused"]) not in perhaps_agreed]

    def _row(self, reply: Mapping[str, Any]) -> TrainingRow:
        prompt, answer = self.ledger.ids(reply["prompt_ids"]), self.ledger.ids(reply["token_ids"])
        return TrainingRow((*prompt, *answer), len(prompt), "anchor", prompt_id=reply["prompt_id"])


_JUDGED = """
FROM votes
JOIN verdicts USING (round, prompt_id, candidate)
JOIN candidates USING (round, prompt_id, candidate)
JOIN replies ON replies.purpose = 'train' AND replies.round = votes.round AND replies.prompt_id = votes.prompt_id
    AND replies.candidate = votes.candidate AND replies.stage = votes.stage AND replies.vote = votes.vote
WHERE votes.round = ?1 AND replies.finish_reason = 'stop' AND replies.attempt = 0
    AND EXISTS (SELECT 1 FROM updates WHERE updates.round = votes.round)
"""
_ORDER = "ORDER BY votes.prompt_id, votes.candidate, votes.place, replies.role"
_OF_ACCEPTED = f"""
SELECT replies.prompt_id, replies.prompt_ids, replies.token_ids, replies.role {_JUDGED}
    AND votes.value = 'yes' AND verdicts.accepted {_ORDER}
"""
_OF_REFUSED = f"""
SELECT replies.prompt_id, replies.prompt_ids, replies.token_ids, replies.role, candidates.text AS refused {_JUDGED}
    AND votes.value = 'no' AND NOT verdicts.accepted {_ORDER}
"""
_ACCEPTED = """
SELECT prompt_id, candidates.text FROM verdicts JOIN candidates USING (round, prompt_id, candidate)
WHERE round = ?1 AND accepted ORDER BY prompt_id, candidate
"""
