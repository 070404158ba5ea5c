"""Measure the judge of a round: canaries made from accepted candidates, the panel, and figures of the episode.

This needs no labels. If the user has labelled answers, `svd_loop.judge_health.labelled` adds the judge's true and
false positive rates; `svd_loop.evaluation.audit` measures the judge on held-out problems.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from envs.canaries import Solved, plant, watch
from envs.cascade.cascade import Cascade
from envs.corruption_search import Tally, search
from envs.panel import Panel, ask_panel, draw_panel
from svd_loop.contracts import (
    HealthFigure,
    HealthMeasure,
    HealthReport,
    PanelVotes,
    Policy,
    Role,
    RoundRecord,
    Usage,
)
from svd_loop.judge_health.labelled import LabelledAnswers
from svd_loop.loop.health_rule import FALSE_ACCEPT, episode_health, first_panel
from svd_loop.loop.parts import PlayedRound
from svd_loop.support.shelved import by_prompt

PANEL_SIZE, LEAST_PANEL = 400, 200
"""Most votes of either half of the panel, and fewest with which a panel is drawn (docs/results/drift.md)."""
_MOST_SOURCES = 200
SEARCHED = 2
"""Canaries of the search for kinds of error, in multiples of `health.canaries`."""

Recorded = Callable[[int, Sequence[tuple[str, int]]], list[Solved]]
"""`(round, [(prompt id, number)])`: candidates of a committed round with their prompts."""


@dataclass(frozen=True, slots=True)
class JudgeWatch:
    """Measures the health of a round's judge.

    Attributes:
        cascade: the job's cascade.
        per_kind: canaries of each kind; with 0 only the figures of the episode are reported.
        seed: the job's seed; seed and round decide which canaries are planted.
        recorded: reads solutions of earlier rounds.
        panel: most tokens of the panel, as a share of the tokens of its first round's sampling and judging; 0 is off.
        labelled: labelled answers of the user, if any.
    """

    cascade: Cascade
    per_kind: int
    seed: int
    recorded: Recorded
    panel: float = 0.0
    labelled: LabelledAnswers = field(default_factory=LabelledAnswers)

    def __call__(self, judge: Policy, played: PlayedRound) -> HealthReport | None:
        """Return the round's figures; None if nothing could be measured.

        Canaries are made from accepted candidates and measure stages that ask the judge; without either there are none.

        Raises:
            EngineError: a call of the judge got no reply.
            LedgerError: a recorded solution cannot be read.
        """
        episode = played.episode
        report = episode_health(episode)
        shares = {**report.shares, **self.labelled.shares(self.cascade, judge, episode.round)}
        by_id = {prompt.id: prompt for prompt in played.prompts}
        solved = [(by_id[candidate.prompt_id], candidate) for candidate in episode.selected]
        if not self.cascade.settings.with_judge_only().stages:
            solved = []
        votes = self._panel_votes(judge, played, solved)
        report = replace(report, shares=shares, panel=votes)
        groups = by_prompt(episode.candidates)
        canaries = plant(solved, per_kind=self.per_kind, seed=self.seed, round=episode.round)
        if not canaries:
            return None if report.is_empty else report
        found = watch(self.cascade, judge, canaries, round=episode.round, groups=groups)
        shares[FALSE_ACCEPT] = found.overall
        shares |= {HealthFigure(HealthMeasure.FALSE_ACCEPT, stage): share for stage, share in found.by_stage.items()}
        searched = search(
            self.cascade,
            judge,
            solved,
            _searched_before(played.history),
            count=SEARCHED * self.per_kind,
            seed=self.seed,
            round=episode.round,
            groups=groups,
        )
        shown = {kind.value: share.value for kind, share in found.by_kind.items()}
        return replace(report, shares=shares, canaries=shown, searched=searched)

    def _panel_votes(self, judge: Policy, played: PlayedRound, solved: Sequence[Solved]) -> PanelVotes | None:
        """The votes on the panel of the job's first round that has one; a new panel if there is none yet."""
        if not self.panel:
            return None
        if first := first_panel(played.history):
            panel = self._drawn(self.recorded(first.round, first.sources), first.size, first.round)
            if panel.digest == first.digest:
                right, wrong = ask_panel(self.cascade, judge, panel)
                return replace(first, right=right, wrong=wrong)
        size = self._affordable(played)
        chosen = solved[:: _stride(len(solved))]
        if not chosen or size < LEAST_PANEL:
            return None
        panel = self._drawn(chosen, size, played.episode.round)
        sources = tuple((prompt.id, candidate.index) for prompt, candidate in chosen)
        return PanelVotes(played.episode.round, sources, size, panel.digest, *ask_panel(self.cascade, judge, panel))

    def _drawn(self, solved: Sequence[Solved], size: int, round: int) -> Panel:
        return draw_panel(self.cascade, solved, size=size, seed=self.seed, round=round)

    def _affordable(self, played: PlayedRound) -> int:
        """Votes of a half of the panel that its share of the round's tokens pays for, at most `PANEL_SIZE`."""
        spent = sum(usage.output_tokens for usage in played.usage.values())
        judging = spent - played.usage.get(Role.SOLVER, Usage()).output_tokens
        free = self.cascade.settings.deciding_stages
        votes = sum(vote.stage not in free for verdict in played.episode.verdicts for vote in verdict.votes)
        return min(PANEL_SIZE, affordable_panel(self.panel, spent, judging, votes))


def affordable_panel(share: float, spent: float, judging: float, votes: float) -> int:
    """Votes of a half that a share of a round's tokens pays for.

    Args:
        share: `health.panel`.
        spent: tokens that the round generated.
        judging: those of them that are not the solver's.
        votes: of its stages that ask a judge.
    """
    price = max(judging / max(votes, 1), 1.0)
    return int(share * spent / (2 * price))


def sources_of_panel(accepted: float) -> float:
    """Of so many accepted solutions, those that a panel asks about."""
    return accepted / _stride(math.ceil(accepted))


def _stride(accepted: int) -> int:
    return max(1, -(-accepted // _MOST_SOURCES))


def no_watch(judge: Policy, played: PlayedRound) -> None:
    """Return None; used by controls, which have no judge."""
    return None


def _searched_before(history: Sequence[RoundRecord]) -> dict[str, Tally]:
    """By kind of error, canaries judged and accepted in all earlier rounds."""
    judged: Counter[str] = Counter()
    accepted: Counter[str] = Counter()
    for record in history:
        for kind, (asked, passed) in (record.health.searched if record.health else {}).items():
            judged[kind] += asked
            accepted[kind] += passed
    return {kind: (count, accepted[kind]) for kind, count in judged.items()}
