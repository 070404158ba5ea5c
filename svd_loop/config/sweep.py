"""A sweep's file: arms, seeds and claims. Separate from `Config`, which describes one job."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from svd_loop.config.base import Positive, Section
from svd_loop.config.controls import AnyControl
from svd_loop.config.data import Source

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,59}$")]
PassAtK = Annotated[str, Field(pattern=r"^pass@[1-9][0-9]*$")]
Group = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]*$")]
"""`overall`, or a domain."""


class ArmSection(Section):
    """One arm: the sweep's configuration with some keys changed."""

    says: str
    """Name of the arm in tables."""
    like: Name | None = None
    """Begin with another arm's changed keys."""
    set: dict[str, Any] = Field(default_factory=dict)
    """Dotted keys of the job's configuration and their values."""
    control: AnyControl | None = None
    """What accepts in place of the judges; null is the method. An arm that is `like` another takes over its control."""
    accepts_as: Name | None = None
    """Accept as many prompts at random, round by round, as this arm did with the same seed (the unverified control)."""
    kind: Literal["job", "test_time"] = "job"
    """`job` trains. `test_time` trains nothing: the base samples n candidates of every test problem, judges them and
    answers with the first accepted one, or with the first if none is (UQ's validators at test time)."""
    figure: Literal["last", "kept"] = "last"
    """Version that is reported: the last round's, or the one the job keeps (best on the development split)."""
    guarded: bool = False
    """Keep the job's own stop rule and health action. Otherwise an arm runs all its rounds."""
    group: str = ""
    """Heading of the table the arm belongs to."""
    also: tuple[Name, ...] = ()
    """Further held-out sets (`held_out`) this arm's versions are measured on."""
    seeds: tuple[int, ...] = ()
    """Seeds of this arm, where a comparison needs more of them; empty means the sweep's."""


class ClaimSection(Section):
    """A claim that holds or not: one arm's test pass@1 exceeds another's (both from the same base)."""

    claim: str
    """The claim in words."""
    paper: str = ""
    """The paper's figures; empty for claims of this project."""
    better: Name
    """Arm that should come out ahead."""
    than: Name | None = None
    """Arm it is compared with; null is the base itself."""
    on: Annotated[tuple[Group, ...], Field(min_length=1)] = ("overall",)
    """Groups it is tested in, each separately."""
    share: Annotated[float, Field(gt=0.0)] = 1.0
    """Share of the other's gain over the base that it must reach at least."""
    metric: PassAtK | Name = "pass@1"
    """`pass@k`, or the name of a held-out set for pass@1 there."""


class QuickSection(Section):
    """The short form (`--quick`)."""

    seeds: Annotated[tuple[int, ...], Field(min_length=1)] = (1,)
    """Seeds of the short form."""
    arms: Annotated[tuple[Name, ...], Field(min_length=1)]
    """Its arms."""


class SweepSection(Section):
    """Arms times seeds."""

    name: Name
    """Folder under `<root>/sweeps`."""
    config: Path
    """The job's configuration that every arm changes; relative to the sweep's file."""
    root: Path = Path("mlruns")
    """Where sweeps are written; relative to the working directory."""
    seeds: Annotated[tuple[int, ...], Field(min_length=1)] = (1, 2, 3)
    """Job seeds, for every arm without seeds of its own."""
    set: dict[str, Any] = Field(default_factory=dict)
    """Dotted keys changed in every arm."""
    held_out: dict[Name, Source] = Field(default_factory=dict)
    """Further held-out sets, measured for the arms that name them in `also`."""
    arms: Annotated[dict[Name, ArmSection], Field(min_length=1)]
    """The arms, in the order in which they run and are shown."""
    control: Name | None = None
    """The unverified control: every gain is also shown as a lift over it."""
    ceiling: Name | None = None
    """The gold ceiling: every gain is also shown as a share of its gain."""
    claims: tuple[ClaimSection, ...] = ()
    """Comparisons between arms."""
    quick: QuickSection | None = None
    """The short form (`--quick`)."""
    confidence: Annotated[float, Field(gt=0.5, lt=1.0)] = 0.95
    """Level of every interval."""
    threads: Positive = 1
    """CPU threads of one process."""

    def seeds_of(self, arm: str) -> tuple[int, ...]:
        """Seeds that an arm plays when nothing else is asked for."""
        return self.arms[arm].seeds or self.seeds

    @model_validator(mode="after")
    def _names_are_known(self) -> SweepSection:
        def known(name: str | None, where: str, names: Any) -> None:
            if name is not None and name not in names:
                raise ValueError(f"{where}: {name} is not one of {', '.join(names) or '(none)'}")

        for name, arm in self.arms.items():
            known(arm.like, f"arms.{name}.like", self.arms)
            known(arm.accepts_as, f"arms.{name}.accepts_as", self.arms)
            if arm.accepts_as and (alone := set(self.seeds_of(name)) - set(self.seeds_of(arm.accepts_as))):
                raise ValueError(
                    f"arms.{name}.seeds: {arm.accepts_as}, which it accepts as, does not play "
                    f"seed {', '.join(map(str, sorted(alone)))}"
                )
            if arm.control and (arm.accepts_as or arm.kind == "test_time"):
                other = "accepts_as, which is a control" if arm.accepts_as else "kind: test_time, where judges decide"
                raise ValueError(f"arms.{name}.control: {arm.control.type} contradicts {other}; remove one of them")
            for other in arm.also:
                known(other, f"arms.{name}.also", self.held_out)
        known(self.control, "control", self.arms)
        known(self.ceiling, "ceiling", self.arms)
        for name in self.quick.arms if self.quick else ():
            known(name, "quick.arms", self.arms)
        for place, claim in enumerate(self.claims):
            known(claim.better, f"claims.{place}.better", self.arms)
            known(claim.than, f"claims.{place}.than", self.arms)
            if not claim.metric.startswith("pass@"):
                known(claim.metric, f"claims.{place}.metric", self.held_out)
        return self
