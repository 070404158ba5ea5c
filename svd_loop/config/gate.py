"""The `gate` section: the rules that a new version must pass before it replaces the one in use."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from svd_loop.config.base import Fraction, Section


class GateSection(Section):
    """Challenger against champion on `data.test`, problem by problem. All shares are fractions (points / 100)."""

    margin: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.005
    """The lower bound of the paired difference of pass@1 must lie above this. 0 accepts any gain, however small."""
    confidence: Annotated[float, Field(gt=0.5, lt=1.0)] = 0.95
    """Level of that bound over the life of a test set: with 0.95 the chance is at most 5% that any version passes on it
    whose true gain is no more than the margin. Each comparison gets a part of the 5%; see `looks`."""
    looks: Annotated[int, Field(ge=1, le=10_000)] = 52
    """Comparisons that one test set may decide about. Early ones get a larger part of the error budget than late ones,
    and a promotion hands its part on. When the budget is spent the gate refuses until `data.test` is a fresh set. 1
    gives a single comparison all of it."""
    domain_tolerance: Fraction = 0.05
    """No domain's pass@1 may fall by more than this. The difference itself is compared, not a bound of it: single
    domains rarely hold enough problems for a useful bound."""
    pass_at_k_tolerance: Fraction = 0.05
    """pass@k, with k the number of samples, may fall by at most this: a policy that lost its variety is hard to train
    further."""
    length_factor: Annotated[float, Field(ge=1.0)] = 1.5
    """Mean output tokens may grow or shrink at most by this factor; 1 allows no change."""
    truncation_tolerance: Fraction = 0.02
    """The share of truncated samples may rise by at most this."""
