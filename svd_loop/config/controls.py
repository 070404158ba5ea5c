"""Controls: acceptors used in place of the cascade or behind it, for comparison.

Arms of a sweep declare them (`control`); the configuration of a job has no such key. `svd_loop.experiments.controls`
builds them.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from svd_loop.config.base import Fraction, Section


class RandomControl(Section):
    """The unverified control: prompts drawn by chance have their first complete candidate accepted."""

    type: Literal["random"] = "random"
    rates: Annotated[tuple[Fraction, ...], Field(min_length=1)] = (1.0,)
    """Share of prompts accepted in round 1, 2, ...; the last one holds for later rounds. An arm with `accepts_as` takes
    the accepted fractions of another arm."""


class SelfConsistencyControl(Section):
    """Each prompt's first candidate with its most frequent final answer is accepted."""

    type: Literal["self_consistency"] = "self_consistency"


class SelfCertaintyControl(Section):
    """Each prompt's candidate of which the policy was most certain is accepted (best of n)."""

    type: Literal["self_certainty"] = "self_certainty"


class GoldControl(Section):
    """The ceiling: what is right by gold is accepted. Needs training prompts from a generator."""

    type: Literal["gold"] = "gold"


class GoldAndCascadeControl(Section):
    """What the judges accept and gold confirms. Needs training prompts from a generator."""

    type: Literal["gold_and_cascade"] = "gold_and_cascade"


AnyControl = Annotated[
    RandomControl | SelfConsistencyControl | SelfCertaintyControl | GoldControl | GoldAndCascadeControl,
    Field(discriminator="type"),
]
