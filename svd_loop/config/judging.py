"""Optional parts of the cascade, each off by default and measured in docs/concepts/cascade.md."""

from __future__ import annotations

from typing import Literal

from svd_loop.config.base import Fraction, Section
from svd_loop.contracts import Stage


class PrefilterSection(Section):
    """A verdict in one forward pass ahead of the votes, an approximation of the method.

    It rejects some candidates that the votes would have accepted.
    """

    stage: Literal[Stage.FACTUALITY, Stage.CORRECTNESS] = Stage.CORRECTNESS
    """Whose prompt is shown to the judge."""
    threshold: Fraction = 0.0
    """Candidates with a smaller probability of yes are rejected without a vote. 0 rejects none and only takes the
    figures, from which `svd-loop threshold JOB` derives a threshold; a fork of the job then uses it."""
