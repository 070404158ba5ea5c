"""Types of a round's measurements: estimates, usage, and the health and quality of the judge.

Trackers and reports show these under dotted names (`svd_loop.report.round_metrics`), which are never read back.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from svd_loop.contracts.words import AlarmAction, HealthMeasure, StageName


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value with its interval, all in the same unit (a fraction unless said otherwise)."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Usage:
    """Number of calls, and of tokens in and out."""

    calls: int = 0
    prompt_tokens: int = 0
    output_tokens: int = 0

    def __add__(self, other: Usage) -> Usage:
        """The sum of both."""
        return Usage(
            self.calls + other.calls,
            self.prompt_tokens + other.prompt_tokens,
            self.output_tokens + other.output_tokens,
        )


@dataclass(frozen=True, slots=True)
class StepRates:
    """Quality of one step of the funnel, on candidates with known correctness; None where there were none.

    Attributes:
        precision: share of correct ones among those alive after the step.
        recall: share of the correct ones that are alive after it (the true positive rate).
        false_positive: share of the wrong ones that are alive after it.
    """

    precision: float | None = None
    recall: float | None = None
    false_positive: float | None = None


@dataclass(frozen=True, slots=True)
class HealthFigure:
    """The name of a judge-health measure: of the whole cascade, or of one stage."""

    measure: HealthMeasure
    stage: StageName | None = None

    @property
    def name(self) -> str:
        """Dotted, such as `false_accept.correctness`."""
        return self.measure.value if self.stage is None else f"{self.measure.value}.{self.stage}"


@dataclass(frozen=True, slots=True)
class HealthAlarm:
    """A judge-health value out of bounds, and the limit it crossed."""

    figure: HealthFigure
    limit: float


@dataclass(frozen=True, slots=True)
class HealthReport:
    """Judge-health measurements of a round; `svd_loop.loop.health_rule` defines each.

    Attributes:
        shares: fractions with their 95% intervals.
        length_ratio: length of accepted over generated candidates; None with too few of them.
        entropy: bits in the texts of a prompt's candidates; None without several.
        canaries: share of the canaries of each kind that were accepted.
        drift: rise of the accepted canaries since the first round with canaries; None if there is none to compare with.
        alarms: values out of bounds.
        action: effect of the alarms on the round; None without alarms.
    """

    shares: Mapping[HealthFigure, Estimate] = field(default_factory=dict)
    length_ratio: float | None = None
    entropy: float | None = None
    canaries: Mapping[str, float] = field(default_factory=dict)
    drift: Estimate | None = None
    alarms: tuple[HealthAlarm, ...] = ()
    action: AlarmAction | None = None

    @property
    def is_empty(self) -> bool:
        """Whether nothing was measured."""
        return not (self.shares or self.canaries) and self.length_ratio is None and self.entropy is None
