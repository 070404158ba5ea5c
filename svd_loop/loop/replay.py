"""The training mixture of an update: this round's accepted rows, earlier rounds' rows, and anchors.

Replacing the data each round lets errors grow without bound, accumulating bounds them (Gerstgrasser et al.,
2404.01413); anchors keep the judge's roles from being forgotten while the solver's are trained. Pure and
seeded: the same rows in give the same mixture out, in the same order.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile

from svd_loop.contracts import (
    Candidate,
    Episode,
    JudgeRow,
    Prompt,
    RefusedRow,
    Rejection,
    TrainingRow,
    Verdict,
    VoteValue,
)

Usable = Callable[[Sequence[TrainingRow]], tuple[list[TrainingRow], dict[str, float]]]
"""The rows that an update can train on, and counts of the others by reason."""
_TRUTHS = (VoteValue.YES, VoteValue.NO)

AnchorSource = Callable[[int, int], Sequence[TrainingRow]]
"""`(count, round) -> rows`: up to `count` anchor rows for an update of `round`."""


def no_anchors(count: int, round: int) -> Sequence[TrainingRow]:
    """An anchor source without rows."""
    return ()


@dataclass(frozen=True, slots=True)
class Replay:
    """The declared training mixture.

    Attributes:
        rounds: how many earlier rounds are replayed; None all, 0 none.
        ratio: replayed rows per new row at most; None means no limit.
        anchor_ratio: anchor rows per accepted row, new and replayed together.
        seed: the job's seed.
        anchors: where anchor rows come from.
        inherited: rows of earlier jobs, as rows of round 0: replayed like those of this job's own rounds.
        judge_share: verdicts of judge rows per accepted row at most, new and replayed together.
    """

    rounds: int | None = None
    ratio: float | None = None
    anchor_ratio: float = 0.0
    seed: int = 0
    anchors: AnchorSource = no_anchors
    inherited: Sequence[TrainingRow] = ()
    judge_share: float = 0.0

    def mix(
        self,
        new: Sequence[TrainingRow],
        earlier: Sequence[TrainingRow],
        *,
        round: int,
        judged: Sequence[JudgeRow] = (),
        earlier_judged: Sequence[JudgeRow] = (),
    ) -> list[TrainingRow]:
        """All of `new`, the allowed part of `earlier`, anchors and judge rows, shuffled by seed and round.

        A prompt accepted again keeps only its newest row, which the current policy wrote.

        Returns:
            The rows of the update; empty when `new` is empty, since anchors alone teach the solver nothing.
        """
        if not new:
            return []
        generator = random.Random(f"{self.seed}/replay/{round}")
        replayed = self._replayed(new, [*self.inherited, *earlier], round, generator)
        accepted = [*new, *replayed]
        anchors = self.anchors(math.ceil(self.anchor_ratio * len(accepted)), round) if self.anchor_ratio > 0 else ()
        rows = [*accepted, *anchors, *self._judged(judged, earlier_judged, len(accepted), round)]
        generator.shuffle(rows)
        return rows

    def _judged(
        self, new: Sequence[JudgeRow], earlier: Sequence[JudgeRow], accepted: int, round: int
    ) -> list[TrainingRow]:
        """All new judge rows, and replayed ones up to the share, of every stage as many that say yes as no."""
        oldest = 0 if self.rounds is None else round - self.rounds
        verdicts = [one for one in earlier if one.value is not None and oldest <= one.row.round < round]
        stages = list(dict.fromkeys(one.stage for one in verdicts))
        room = math.floor(self.judge_share * accepted) - sum(one.value is not None for one in new)
        generator = random.Random(f"{self.seed}/replayed judge rows/{round}")
        rows = [one.row for one in new]
        for stage in stages if room > 0 else ():
            pools = [[one.row for one in verdicts if (one.stage, one.value) == (stage, value)] for value in _TRUTHS]
            count = min(room // (2 * len(stages)), *map(len, pools))
            rows += [row for pool in pools for row in generator.sample(pool, count)]
        return rows

    def _replayed(
        self, new: Sequence[TrainingRow], earlier: Sequence[TrainingRow], round: int, generator: random.Random
    ) -> list[TrainingRow]:
        oldest = 0 if self.rounds is None else round - self.rounds
        seen = {row.prompt_id for row in new}
        newest_round = {row.prompt_id: row.round for row in sorted(earlier, key=lambda row: row.round)}
        kept = [
            row
            for row in earlier
            if oldest <= row.round < round and row.prompt_id not in seen and newest_round[row.prompt_id] == row.round
        ]
        limit = len(kept) if self.ratio is None else math.floor(self.ratio * len(new))
        return kept if len(kept) <= limit else generator.sample(kept, limit)


def accepted_rows(episode: Episode, prompts: Sequence[Prompt]) -> list[TrainingRow]:
    """The selected candidates as training rows: exactly the sampled ids, loss on the solution only."""
    domains = {prompt.id: prompt.domain for prompt in prompts}
    return [_row(candidate, "accepted", episode.round, domains) for candidate in episode.selected]


def usable_judge_rows(judged: Sequence[JudgeRow], usable: Usable) -> tuple[list[JudgeRow], dict[str, float]]:
    """The judge rows that an update can train on, and the round's counts of them: by reason, and of those refused."""
    if not judged:
        return [], {}
    rows, refused = usable([one.row for one in judged])
    kept = {row.input_ids for row in rows}
    left = [one for one in judged if one.row.input_ids in kept]
    counts = Counter(one.reason for one in left)
    return left, {
        **{f"judge_rows.{reason}": float(count) for reason, count in counts.items()},
        **{f"judge_{name}": count for name, count in refused.items()},
    }


def further_candidates(episode: Episode) -> list[Candidate]:
    """The candidates that were not selected and whose verdict says something, in the episode's order.

    They were refused with certainty (see `refused_by`), or accepted when another one of their prompt was selected.
    """
    verdicts = {(verdict.prompt_id, verdict.candidate): verdict for verdict in episode.verdicts}
    selected = {(candidate.prompt_id, candidate.index) for candidate in episode.selected}
    return [
        candidate
        for candidate in episode.candidates
        if (key := (candidate.prompt_id, candidate.index)) not in selected
        and (verdict := verdicts.get(key))
        and (verdict.accepted or refused_by(verdict))
    ]


def sibling_rows(episode: Episode, others: Sequence[Candidate], prompts: Sequence[Prompt]) -> list[TrainingRow]:
    """The accepted ones among further candidates of the episode as rows."""
    domains = {prompt.id: prompt.domain for prompt in prompts}
    accepted = {(verdict.prompt_id, verdict.candidate) for verdict in episode.verdicts if verdict.accepted}
    return [_row(one, "sibling", episode.round, domains) for one in others if (one.prompt_id, one.index) in accepted]


def refused_rows(episode: Episode, others: Sequence[Candidate], prompts: Sequence[Prompt]) -> list[RefusedRow]:
    """The refused ones among further candidates of the episode as rows, with what refused them."""
    domains = {prompt.id: prompt.domain for prompt in prompts}
    verdicts = {(verdict.prompt_id, verdict.candidate): verdict for verdict in episode.verdicts}
    return [
        RefusedRow(_row(candidate, "refused", episode.round, domains), stage, yes_before(verdict))
        for candidate in others
        if (stage := refused_by(verdict := verdicts[candidate.prompt_id, candidate.index]))
    ]


def refused_by(verdict: Verdict) -> str:
    """The stage whose no-vote refused a candidate, `static` or `truncated`; empty if it says nothing about it.

    A candidate that was not judged to the end, an invalid vote that decided, an empty answer and a choice among
    candidates are no evidence that an answer is wrong.
    """
    if verdict.accepted or verdict.rejection is None:
        return ""
    if verdict.rejection in (Rejection.STATIC, Rejection.TRUNCATED):
        return str(verdict.rejection)
    if verdict.rejection is not Rejection.VOTE:
        return ""
    deciding = [vote for vote in verdict.votes if (vote.stage, vote.vote) == (verdict.stage, verdict.vote)]
    return str(verdict.stage) if deciding and deciding[-1].value is VoteValue.NO else ""


def yes_before(verdict: Verdict) -> int:
    """Yes votes before the one that refused a candidate: with early exit all that is known of how near it came.

    Votes after it (of `early_exit: false`, `fill_rows`, an audit) are not counted, so these settings change nothing.
    """
    before = takewhile(lambda vote: (vote.stage, vote.vote) != (verdict.stage, verdict.vote), verdict.votes)
    return sum(vote.value is VoteValue.YES for vote in before)


def _row(candidate: Candidate, origin: str, round: int, domains: Mapping[str, str]) -> TrainingRow:
    return TrainingRow(
        input_ids=(*candidate.prompt_ids, *candidate.token_ids),
        supervised_from=len(candidate.prompt_ids),
        origin=origin,
        prompt_id=candidate.prompt_id,
        candidate=candidate.index,
        round=round,
        domain=domains[candidate.prompt_id],
    )
