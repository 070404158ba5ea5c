"""The judge's panel in the estimate: the votes that its share pays for, their cost, and the drift they can show.

The panel is as large as its share of the first round's tokens allows (`svd_loop.judge_health.judge_watch`), so its size
follows from the estimate of a round. Left out: kinds of canaries that cannot be made from a solution.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from envs.canaries import CanaryKind, caught_by
from svd_loop.config import Config
from svd_loop.judge_health.judge_watch import LEAST_PANEL, PANEL_SIZE, affordable_panel, sources_of_panel
from svd_loop.loop.health_rule import PANEL_LEVEL
from svd_loop.support.statistics import net_change

WITHIN = 4
"""Rounds in which a drift is to be caught."""
_CHANCE = 0.95


@dataclass(frozen=True, slots=True)
class PanelEstimate:
    """The panel of a job as estimated.

    Attributes:
        share: `health.panel`.
        affordable: votes of a half that the share pays for.
        votes: of a half that are asked; 0 where there is no panel.
        tokens: generated for it in every round.
        drift: rise of the wrong votes by round, as a share, that is caught within `WITHIN` rounds with a chance of 95%
            where votes do not change otherwise; None without a panel.
        share_needed: the share that pays for the smallest panel; None where nothing is judged.
    """

    share: float
    affordable: float
    votes: float
    tokens: float
    drift: float | None
    share_needed: float | None


@dataclass(frozen=True, slots=True)
class RoundTokens:
    """The figures of a round that the panel's size depends on.

    Attributes:
        written: tokens generated for sampling and judging.
        judging: those of them that judge.
        votes: of stages that ask a judge.
        accepted: prompts with an accepted candidate.
    """

    written: float
    judging: float
    votes: float
    accepted: float


def panel_votes(config: Config, played: RoundTokens) -> float:
    """The votes of a half that are asked; 0 where the share does not pay for a panel."""
    affordable = affordable_panel(config.health.panel, played.written, played.judging, played.votes)
    if played.votes <= 0.0 or affordable < LEAST_PANEL:
        return 0.0
    return min(float(affordable), PANEL_SIZE, _available(config, played.accepted))


def estimate_panel(config: Config, played: RoundTokens) -> PanelEstimate:
    """The panel of a job whose rounds are like this one."""
    share, votes = config.health.panel, panel_votes(config, played)
    judged = played.votes > 0.0 and played.written > 0.0
    price = played.judging / played.votes if judged else 0.0
    return PanelEstimate(
        share=share,
        affordable=affordable_panel(share, played.written, played.judging, played.votes) if judged else 0,
        votes=votes,
        tokens=2 * votes * price,
        drift=slowest_drift(votes),
        share_needed=2 * LEAST_PANEL * max(price, 1.0) / played.written if judged else None,
    )


def slowest_drift(votes: float) -> float | None:
    """The smallest rise by round that so many votes show within `WITHIN` rounds with a chance of 95%; None if none.

    Votes that change otherwise hide some of it (docs/results/drift.md).
    """
    from scipy import stats

    asked = int(votes)
    fewest = next((g for g in range(1, asked + 1) if net_change(g, 0, asked, level=PANEL_LEVEL).low > 0.0), None)
    if fewest is None:
        return None
    turned = float(stats.beta.ppf(_CHANCE, fewest, asked - fewest + 1))  # P(fewest or more of `asked` turned) = 95%
    return turned / WITHIN


def describe_panel(found: PanelEstimate) -> str:
    """A sentence for people: the panel's votes, cost and power, or why there is none."""
    if found.share == 0.0:
        return "off (health.panel: 0), so that a judge that drifts slowly is not seen"
    if found.share_needed is None:
        return "none: no stage asks a judge, or no candidate is complete"
    if found.drift is None:
        cause = f"health.panel: {found.share:g} pays for {found.affordable:,.0f} votes of each half"
        if found.affordable >= LEAST_PANEL:
            return f"none: {cause}, and too few solutions are accepted to ask them about"
        return (
            f"none: {cause} of the {LEAST_PANEL} that a panel takes, so that a judge that drifts slowly is not seen; "
            f"{_larger_share(found.share_needed)}"
        )
    return (
        f"{found.votes:,.0f} votes of each half for {found.tokens:,.0f} tokens a round; a drift by "
        f"{100 * found.drift:.1f} points a round is seen within {WITHIN} rounds (95%), if votes do not change otherwise"
    )


def _available(config: Config, accepted: float) -> float:
    """Votes of a half that can be asked about the accepted solutions and the canaries made of them."""
    judges = config.cascade.with_judge_only()
    sources = sources_of_panel(accepted)
    wrong = sum(len(caught_by(kind, judges.stage_names)) for kind in CanaryKind)
    return sources * min(len(judges.stages) * judges.votes, wrong)


def _larger_share(least: float) -> str:
    """The shares that pay for the smallest and the largest panel, as far as they are shares."""
    shares = {LEAST_PANEL: least, PANEL_SIZE: least * PANEL_SIZE / LEAST_PANEL}
    paying = [f"{math.ceil(100 * share) / 100:.2f} pays for {votes}" for votes, share in shares.items() if share <= 1.0]
    return f"health.panel: {', '.join(paying)}" if paying else "no share pays for it: play more prompts a round"
