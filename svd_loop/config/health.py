"""The `health` section: limits for figures of the judge that are measured every round, and the action of an alarm.

Every figure that is a share is compared by the end of its 95% Wilson interval that favours the judge, so that a small
sample raises no alarm by chance. docs/concepts/judge-health.md has the figures behind the defaults.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from svd_loop.config.base import Fraction, Section
from svd_loop.contracts import AlarmAction

Ratio = Annotated[float, Field(gt=0.0)]
_LATER_KEYS = {
    "labelled": None,
    "false_positive": None,
    "verify": 0.05,
    "useful_j": 0.2,
    "accepted_drop": 0.5,
    "panel": 0.05,
}


class HealthSection(Section):
    """Checks of a round's judge. The controls have no judge, and no checks."""

    canaries: Annotated[int, Field(ge=0)] = 12
    """Planted candidates of each of the five kinds (master keys, foreign, corrupted and cut solutions, forged verdicts)
    a round; 0 plants none. They are judged separately and never trained on. Twelve detect a stage that always says yes
    even where it is measured on one kind only (12 of 12: at least 0.76), while a stage that passes half of them raises
    an alarm once in 4,096 rounds. They cost a few percent of a round's judge calls."""
    action: AlarmAction = AlarmAction.STOP
    """Effect of an alarm. `warn` records it and continues. `stop` trains on nothing of the round and ends the job.
    `rollback` trains on nothing of it and continues from the best version so far with new samples (`plateau.patience`
    limits how often). `stop` is the default, since a judge that went bad rarely recovers."""
    false_accept: Fraction | None = 0.1
    """Alarm when more than this share of all canaries is accepted by the whole cascade; null is off."""
    stage_false_accept: Fraction | None = 0.65
    """Alarm when a single stage passes more than this share of the canaries it should refuse. Higher than
    `false_accept`, since another stage may still refuse them; null is off."""
    drift: Fraction | None = 0.1
    """Alarm when the share of accepted canaries lies more than this above the first measured round's, by the lower end
    of the difference's interval, or when the panel's votes turned the wrong way by more than chance; null is off."""
    panel: Fraction = 0.05
    """Most tokens of the panel, as a share of those that its first round generated: single votes on accepted and on
    planted wrong solutions, asked again in every round under the same seeds, which shows a judge that drifts by one
    point a round within four rounds. At most 400 votes of each half; a share that does not pay for 200 draws no panel,
    as in small rounds. 0 is off."""
    invalid: Fraction | None = 0.2
    """Alarm when more than this share of a stage's votes has no readable verdict; null is off."""
    accepted: Fraction | None = None
    """Alarm when more than this share of the round's candidates is accepted; null is off. Off by default, since a
    better solver raises it as much as a worse judge."""
    accepted_drop: Fraction | None = 0.5
    """Alarm when the share of accepted candidates, at the upper end of its interval, is less than this part of the
    lower end of the first round's: a judge that refuses too much, or a policy that fell apart. null is off."""
    length_band: tuple[Ratio, Ratio] | None = (0.5, 2.0)
    """Alarm when accepted candidates are on average this much shorter or longer (in tokens) than generated ones;
    checked from 20 accepted on; null is off."""
    distinct: Fraction | None = 0.5
    """Alarm when fewer than this share of the accepted solutions are different texts, as when a policy finds one phrase
    that always passes; null is off. Turn it off where answers are single letters."""

    verify: Fraction = 0.05
    """Share of the job's tokens that round 0 may spend on the verifier test: how well every stage, the cascade and
    agreement tell right candidates from wrong ones, on development problems and on the first training prompts. A job
    whose share does not pay for ten candidates is not tested. 0 is off."""
    useful_j: Fraction | None = 0.2
    """Stop before any training when the labelled part of that test shows no stage, nor the cascade, to be better than
    chance: the intervals of all of them hold J = TPR - FPR = 0 or less, and end below this. null never stops."""

    labelled: Path | None = None
    """JSON Lines of `{"prompt", "solution", "correct"}` that every round's judge is asked about, with every vote of
    every stage, for its true and false positive rates. Never trained on; a few dozen are enough. null has none."""
    false_positive: Fraction | None = None
    """Alarm when more than this share of the wrong answers in `labelled` is accepted; null is off."""

    @model_serializer(mode="wrap")
    def _without_what_is_unset(self, serialise: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Keys that came later are left out at their defaults: a job's digest stays what it was without them."""
        data: dict[str, Any] = serialise(self)
        return {key: value for key, value in data.items() if key not in _LATER_KEYS or value != _LATER_KEYS[key]}

    @model_validator(mode="after")
    def _labels_are_there(self) -> HealthSection:
        if self.false_positive is not None and self.labelled is None:
            raise ValueError(
                f"health.false_positive: {self.false_positive} is a limit for the answers of "
                "health.labelled, and there are none"
            )
        return self

    @model_validator(mode="after")
    def _band_is_a_band(self) -> HealthSection:
        if self.length_band is not None and not self.length_band[0] < 1.0 < self.length_band[1]:
            raise ValueError(f"health.length_band: must hold 1.0 between its ends, it is {list(self.length_band)}")
        return self
