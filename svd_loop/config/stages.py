"""Stages of the cascade: what verifies a candidate.

A stage's configuration class says which roles it calls and which canaries it ought to refuse, and holds the stage's own
settings if it has any. How it asks and reads a vote is a file in `envs.cascade`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from svd_loop.config.base import Section
from svd_loop.config.domains import section_of
from svd_loop.config.variants import OneOf
from svd_loop.contracts import Asking, DomainName, Role, RoleName, StageName
from svd_loop.errors import ConfigError
from svd_loop.support.plugins import Seam, Variant


class StageSection(Section):
    """What every stage's section has; a plug-in's section derives from it."""

    type: str
    """Name of the stage."""

    roles: ClassVar[tuple[RoleName, ...]] = ()
    """Roles called for one vote, in this order; the last one gives the verdict. Empty for one that asks no judge."""
    roles_by_asking: ClassVar[Mapping[Asking, tuple[RoleName, ...]]] = {}
    """The ways of asking (`cascade.asking`) in which a vote calls other roles than `roles`."""
    refuses: ClassVar[frozenset[str]] = frozenset()
    """Kinds of canaries (`envs.canaries.CanaryKind`) that the stage ought to refuse, and is measured on."""
    sees_all: ClassVar[bool] = False
    """Whether the stage decides about all candidates of a prompt at once, by one vote on each and without a judge."""

    @classmethod
    def roles_for(cls, asking: Asking) -> tuple[RoleName, ...]:
        """Roles called for one vote under a way of asking; `Role.REFERENCE_SOLVER` once per vote and prompt."""
        return cls.roles_by_asking.get(asking, cls.roles)

    def refuse_count(self, candidates: int) -> None:
        """Raise `ValueError` if a prompt with this many candidates (`sampling.n`) can never pass."""

    def refuse_domain(self, domain: DomainName) -> None:
        """Raise `ConfigError` if the stage cannot judge candidates of the domain."""


class CycleConsistencySection(StageSection):
    """From the solution alone a question is inferred, and compared with the one that was asked."""

    type: Literal["cycle_consistency"] = "cycle_consistency"

    roles: ClassVar[tuple[RoleName, ...]] = (Role.QUESTION_INFERRER, Role.QUESTION_COMPARER)
    roles_by_asking: ClassVar[Mapping[Asking, tuple[RoleName, ...]]] = dict.fromkeys(
        (Asking.TWO_TURNS, Asking.SOLVE_FIRST), (Role.QUESTION_INFERRER, Role.QUESTION_REVIEWER, Role.VERDICT_GIVER)
    )
    refuses: ClassVar[frozenset[str]] = frozenset({"master_key", "foreign", "forged"})


class FactualitySection(StageSection):
    """Whether anything in the solution is clearly wrong."""

    type: Literal["factuality"] = "factuality"

    roles: ClassVar[tuple[RoleName, ...]] = (Role.FACT_CHECKER,)
    roles_by_asking: ClassVar[Mapping[Asking, tuple[RoleName, ...]]] = {
        Asking.TWO_TURNS: (Role.FACT_REVIEWER, Role.VERDICT_GIVER),
        Asking.SOLVE_FIRST: (Role.REFERENCE_SOLVER, Role.FACT_COMPARER, Role.VERDICT_GIVER),
    }
    refuses: ClassVar[frozenset[str]] = frozenset({"corrupted", "near_miss"})


class CorrectnessSection(StageSection):
    """Whether the solution is right in process and conclusion."""

    type: Literal["correctness"] = "correctness"

    roles: ClassVar[tuple[RoleName, ...]] = (Role.GRADER,)
    roles_by_asking: ClassVar[Mapping[Asking, tuple[RoleName, ...]]] = {
        Asking.TWO_TURNS: (Role.ANSWER_REVIEWER, Role.VERDICT_GIVER),
        Asking.SOLVE_FIRST: (Role.REFERENCE_SOLVER, Role.ANSWER_COMPARER, Role.VERDICT_GIVER),
    }
    refuses: ClassVar[frozenset[str]] = frozenset({"master_key", "foreign", "corrupted", "cut", "forged", "near_miss"})


class AgreementSection(StageSection):
    """Candidates whose final answer enough of the prompt's candidates reach. Asks no judge, costs no call."""

    type: Literal["agreement"] = "agreement"
    share: Annotated[float, Field(gt=0.0, le=1.0)] = 0.375
    """Share of the prompt's candidates that have to reach a candidate's final answer, itself included: 0.375 is 3 of 8.
    Truncated and empty candidates count among the prompt's. Never fewer than two candidates."""
    count: Annotated[int, Field(ge=2)] | None = None
    """Number of candidates in place of `share`; null uses `share`."""

    sees_all: ClassVar[bool] = True
    refuses: ClassVar[frozenset[str]] = frozenset({"master_key", "foreign", "cut", "forged"})

    def needed(self, candidates: int) -> int:
        """How many of a prompt's candidates have to reach an answer."""
        return self.count or max(2, math.ceil(self.share * candidates - 1e-9))  # 0.3 * 10 is above 3 as a float

    def refuse_count(self, candidates: int) -> None:
        """Refuse a threshold that no prompt can reach."""
        if self.needed(candidates) > candidates:
            raise ValueError(
                f"cascade.stages: agreement needs {self.needed(candidates)} candidates with the same answer, and "
                f"sampling.n is {candidates}; raise sampling.n or lower the stage's count"
            )

    def refuse_domain(self, domain: DomainName) -> None:
        """Refuse programs: nothing runs them, so their answers cannot be compared."""
        if section_of(domain).gold == "tests":
            raise ConfigError(
                f"cascade.stages: agreement compares final answers, and the domain {domain} has programs, which are "
                "never run to compare them; remove the stage, or the prompts of this domain"
            )


STAGES = Seam(
    "stage",
    "cascade.stages",
    "svd_loop.stages",
    Variant(CycleConsistencySection, "envs.cascade.cycle_consistency:make_stage"),
    Variant(FactualitySection, "envs.cascade.factuality:make_stage"),
    Variant(CorrectnessSection, "envs.cascade.correctness:make_stage"),
    Variant(AgreementSection, "envs.cascade.agreement_stage:make_stage"),
)
"""Stages; `build` takes the stage's section and gives an `envs.cascade.stage.CascadeStage`."""

AnyStage = Annotated[StageSection, OneOf(STAGES, by_name=True)]
"""Any stage's section, or its name alone."""

PAPER: tuple[StageSection, ...] = (CycleConsistencySection(), FactualitySection(), CorrectnessSection())
"""The stages of the method, in the paper's order."""


def stage_section(name: StageName) -> type[StageSection]:
    """The configuration class of a stage.

    Raises:
        ConfigError: no stage has this name; lists the known ones.
    """
    found: type[StageSection] = STAGES.find(name).section
    return found


def known_roles() -> list[RoleName]:
    """The solver's role, and those of all stages known so far."""
    return list(dict.fromkeys([Role.SOLVER, *(role for roles in _sequences() for role in roles)]))


def roles_before_the_verdict() -> frozenset[RoleName]:
    """Roles whose replies are no verdicts, such as an inferred question, of all stages known so far."""
    return frozenset(role for roles in _sequences() for role in roles[:-1])


def _sequences() -> Iterator[tuple[RoleName, ...]]:
    """The roles of one vote, of every stage known so far and every way of asking."""
    return (row.section.roles_for(asking) for row in STAGES.known() for asking in Asking)
