"""The configuration sections and rows: all that is imported when a configuration names one of them."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from svd_loop.config.domains import DomainSection
from svd_loop.config.engines import EngineSection, EngineVariant
from svd_loop.config.stages import StageSection
from svd_loop.config.tracking import TrackerSection
from svd_loop.config.update import AlgorithmSection
from svd_loop.support.plugins import Variant


class SumsSection(DomainSection):
    """Adding up whole numbers."""

    type: Literal["sums"] = "sums"
    slack: int = 0
    """How far a total may be off."""

    instruction: ClassVar[str | None] = "$question\nState the result as: total = N"


class NinesSection(StageSection):
    """The judge checks a total by casting out nines."""

    type: Literal["nines"] = "nines"

    roles: ClassVar[tuple[str, ...]] = ("abacist",)
    refuses: ClassVar[frozenset[str]] = frozenset({"master_key", "foreign"})


class AbacusSection(EngineSection):
    """Adds up, with slips; judges by adding up again."""

    type: Literal["abacus"] = "abacus"
    skill: float = Field(default=0.3, ge=0.0, le=1.0)
    """Share of right totals of the base."""


class PracticeSection(AlgorithmSection):
    """Removes a share of the slips."""

    type: Literal["practice"] = "practice"
    gain: float = 0.5


class LinesSection(TrackerSection):
    """One line of text a round."""

    type: Literal["lines"] = "lines"
    path: Path


DOMAIN = Variant(SumsSection, "svd_abacus.domain:make_domain")
STAGE = Variant(NinesSection, "svd_abacus.stage:make_stage")
ENGINE = EngineVariant(AbacusSection, "svd_abacus.engine:open_engine", check="svd_abacus.engine:check")
UPDATE = Variant(PracticeSection, "svd_abacus.update:make_updater")
TRACKER = Variant(LinesSection, "svd_abacus.tracker:make_tracker")
