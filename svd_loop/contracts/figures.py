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
    """Number of calls, and of tokens in and out.

    Attributes:
        calls: answered ones.
        prompt_tokens: of all their prompts.
        output_tokens: of all their answers.
        cached_tokens: prompt tokens that no engine had to read, since it knew them. Not compared: they depend on which
            calls were in a batch, and those of answers that were taken from the ledger are not known and not counted.
    """

    calls: int = 0
    prompt_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = field(default=0, compare=False)

    @property
    def read_tokens(self) -> int:
        """Prompt tokens that were read."""
        return self.prompt_tokens - self.cached_tokens

    def counts(self) -> dict[str, int]:
        """Every number by its name; `cached_tokens` only if there are any."""
        named = {"calls": self.calls, "prompt_tokens": self.prompt_tokens, "output_tokens": self.output_tokens}
        return named | ({"cached_tokens": self.cached_tokens} if self.cached_tokens else {})

    def __add__(self, other: Usage) -> Usage:
        """The sum of both."""
        return Usage(
            self.calls + other.calls,
            self.prompt_tokens + other.prompt_tokens,
            self.output_tokens + other.output_tokens,
            self.cached_tokens + other.cached_tokens,
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
class StepFigure:
    """One checkpoint of an update, as far as it was measured on the choosing half of the development problems.

    Attributes:
        step: optimizer steps it was trained for.
        samples: samples of each problem that it answered.
        pass_at_1: share of them that were right.
        difference: mean paired difference of pass@1 to the last checkpoint, on the same samples.
    """

    step: int
    samples: int
    pass_at_1: float
    difference: float


@dataclass(frozen=True, slots=True)
class StepChoice:
    """The choice among the checkpoints of an update.

    Attributes:
        steps: all checkpoints, in order; the last one is the end of the update.
        best: step of the best checkpoint on the choosing half.
        kept: step of the checkpoint that became the round's version: the best one if it was confirmed, else the last.
        confirmed: paired difference of pass@1 between `best` and the last checkpoint on the confirming half, which had
            no part in finding `best`; None if the last one was the best.
    """

    steps: tuple[StepFigure, ...]
    best: int
    kept: int
    confirmed: Estimate | None = None


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
class PanelVotes:
    """A judge's votes on the panel, the questions that every round's judge is asked again (`envs.panel`).

    Attributes:
        round: the panel's first round, whose accepted solutions the questions are made of.
        sources: prompt and number of these solutions.
        size: most votes of either half.
        digest: of the questions; votes are compared with those of another round only where it is the same.
        right: votes on accepted solutions, a letter each: y, n, or i for one without a verdict.
        wrong: votes on planted wrong solutions.
    """

    round: int
    sources: tuple[tuple[str, int], ...]
    size: int
    digest: str
    right: str
    wrong: str


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
        searched: by kind of error, planted solutions that were judged, and those of them that were accepted.
        panel: the judge's votes on the panel; None without a panel.
    """

    shares: Mapping[HealthFigure, Estimate] = field(default_factory=dict)
    length_ratio: float | None = None
    entropy: float | None = None
    canaries: Mapping[str, float] = field(default_factory=dict)
    drift: Estimate | None = None
    alarms: tuple[HealthAlarm, ...] = ()
    action: AlarmAction | None = None
    searched: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    panel: PanelVotes | None = None

    @property
    def is_empty(self) -> bool:
        """Whether nothing was measured."""
        return not (self.shares or self.canaries) and self.length_ratio is None and self.entropy is None


@dataclass(frozen=True, slots=True)
class VerifierRates:
    """The rates of one verifier, with their 95% intervals.

    Attributes:
        name: a stage, `cascade`, or `agreement_<k>_of_<n>`.
        tpr: share of the right candidates that it accepts.
        fpr: share of the wrong candidates that it accepts.
        j: `tpr - fpr`; 0 is chance, 1 is a verifier without errors.
        labelled: whether gold said which candidates are right; if not, a latent class model estimated it.
        right, wrong: candidates behind the two rates; expected numbers without labels.
    """

    name: str
    tpr: Estimate
    fpr: Estimate
    j: Estimate
    labelled: bool
    right: float
    wrong: float


@dataclass(frozen=True, slots=True)
class VoteFigures:
    """What the votes of one stage look like; NaN without votes.

    Attributes:
        votes: votes cast.
        invalid: share without a readable verdict.
        characters: median length of a reply.
        bare: share of the replies that begin with the verdict, so that no reason can have led to it.
        spread: standard deviation, between candidates, of the share of yes votes; 0: all candidates are alike to it.
        split: share of the candidates with several votes on which the votes differ.
    """

    votes: int
    invalid: float
    characters: float
    bare: float
    spread: float
    split: float


@dataclass(frozen=True, slots=True)
class GainForecast:
    """What the first round is expected to bring with one verifier.

    Attributes:
        verifier: a name as in `VerifierRates`, or two joined by `+`: both have to accept.
        n: candidates per prompt.
        v: votes of a stage; 0 where no judge is asked.
        precision: share of the selected candidates that are right.
        recall: share of the right candidates that the verifier accepts.
        accepted: share of the prompts with an accepted candidate.
        tokens: generated for a prompt, candidates and votes.
        gain: of held-out pass@1 (a fraction), with its 90% interval.
    """

    verifier: str
    n: int
    v: int
    precision: float
    recall: float
    accepted: float
    tokens: float
    gain: Estimate


@dataclass(frozen=True, slots=True)
class VerifierReport:
    """The result of a verifier test.

    Attributes:
        rates: by verifier; with labels first.
        votes: by stage.
        canaries: share of the planted wrong candidates that the cascade accepted, by kind.
        complete: share of the wrong candidates that were neither truncated nor empty; the rates are of complete ones.
        candidates: candidates that were judged, canaries not counted.
        tokens: generated for the test.
        forecasts: by verifier, n and v; the first one is of the job as configured. Empty without labels.
        detectable: smallest difference in pass@1 that the development problems can show (80% power).
        recommended: a sentence.
    """

    rates: tuple[VerifierRates, ...] = ()
    votes: Mapping[StageName, VoteFigures] = field(default_factory=dict)
    canaries: Mapping[str, Estimate] = field(default_factory=dict)
    complete: float = 1.0
    candidates: int = 0
    tokens: int = 0
    forecasts: tuple[GainForecast, ...] = ()
    detectable: float = 1.0
    recommended: str = ""
