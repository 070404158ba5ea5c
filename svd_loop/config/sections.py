"""The configuration as data: strict pydantic models, one per section of the YAML file.

Nothing here imports torch or builds an object (that is `svd_loop.assembly`'s work). A variant is chosen by
its `type` field. Every field says its unit and what 0 or null means, since the configuration
reference is generated from these docstrings.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from svd_loop.config.base import Fraction, Positive, Section
from svd_loop.config.data import DataSection, FilesSource, fill_in_domain
from svd_loop.config.domains import AnyDomain
from svd_loop.config.engines import AnyEngine, TransformersEngineSection
from svd_loop.config.gate import GateSection
from svd_loop.config.health import HealthSection
from svd_loop.config.schedule import ScheduleSection
from svd_loop.config.stages import PAPER, AnyStage
from svd_loop.config.tracking import TrackingSection
from svd_loop.config.update import UpdateSection
from svd_loop.contracts import (
    BUILT_IN_DOMAINS,
    THOUGHT_MARKS,
    Asking,
    DomainName,
    JobPaths,
    Role,
    RoleName,
    RootPaths,
    Sampling,
    Selection,
    StageName,
)

Mark = Annotated[str, Field(min_length=2)]

# ------------------------------------------------------------------------------------------------ job


class JobSection(Section):
    """The job as a whole."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,79}$")] = "job"
    """Folder name under `<root>/jobs` and name of the MLflow parent run: up to 80 letters, digits, `.`, `_` and `-`."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Every sample of the job is derived from this seed."""
    rounds: Annotated[int, Field(ge=0)] = 8
    """Most rounds; 0 only evaluates the base model."""
    root: Path = Path("mlruns")
    """Where jobs, versions and the MLflow store are written; relative to the working directory."""
    hours: float | None = Field(default=None, gt=0)
    """Wall-clock budget of the job in hours, checked between rounds; null means no limit."""
    tokens: int | None = Field(default=None, gt=0)
    """Budget of generated tokens, checked between rounds; null means no limit."""

    @property
    def paths(self) -> JobPaths:
        """The job's files and folders."""
        return RootPaths(self.root).job(self.name)


class ModelSection(Section):
    """The starting checkpoint (round 0)."""

    path: str
    """A checkpoint directory, a GGUF file, a hub name, or `nano` for the embedded checkpoint."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Precision of inference weights. `auto` is bfloat16 where the device has instructions for it, else float32; models
    narrower than 256, such as the embedded one, are float32. A job that moves to another device should name it."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Device of the transformers engine and of training; vLLM uses its build's device."""
    templates: str = "chat"
    """Prompt template set: a folder name under `envs/templates`, a path, or `plain` for base models without a chat
    template (the chat set's words, as plain paragraphs)."""
    max_context: Annotated[int, Field(ge=16)] = 32768
    """Longest prompt plus answer in tokens. Longer prompts are left out or refused, never cut."""
    thought: tuple[Mark, Mark] | None = THOUGHT_MARKS
    """Marks before and behind the model's thought. What stands behind is the answer, which judges see and evaluation
    reads; training takes all that was sampled. null is for a model that marks no thoughts."""


# ---------------------------------------------------------------------------------- sampling and judging


class SamplingSection(Section):
    """Sampling parameters of one role."""

    max_tokens: Positive = 4096
    """Longest answer in tokens; an answer that reaches it is truncated and never trained on."""
    temperature: Annotated[float, Field(ge=0.0)] = 1.0
    """Divides the logits; 0 is greedy."""
    top_p: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    """Sample among the most likely tokens whose probabilities reach this sum; 1 is off."""
    top_k: Annotated[int, Field(ge=0)] = 0
    """Sample among this many most likely tokens; 0 is off."""
    min_p: Fraction = 0.0
    """Leave out tokens less likely than this share of the most likely one; 0 is off."""
    thinking: bool = False
    """Let a reasoning model think before it answers, where its chat template has a switch for it (Qwen3). Thoughts
    count towards `max_tokens`. A template that always opens a thought does so either way."""
    max_answer: Positive | None = None
    """Longest final answer in tokens, without the thought; a longer one counts as truncated. Judges see the final
    answer only, so this bounds what it takes of their context. null allows `max_tokens`."""

    def to_sampling(self) -> Sampling:
        """These parameters as the type that engines take."""
        return Sampling(
            self.max_tokens, self.temperature, self.top_p, self.top_k, self.min_p, self.thinking, self.max_answer
        )


class SolverSection(SamplingSection):
    """How candidates are sampled."""

    n: Positive = 8
    """Candidates per prompt, at most."""
    block: Positive | None = None
    """Candidates of a prompt that are sampled together. A prompt whose block holds an accepted candidate is settled and
    costs nothing more. null samples all n at once. Only `selection: first_valid` can stop early."""


class AtLeast(Section):
    """A rule of k yes votes of v."""

    at_least: Positive
    """Yes votes that a stage needs, at most `cascade.votes`."""


_THINKING = {"thinking": True, "temperature": 0.6, "top_p": 0.95, "max_tokens": 16_384}
"""How the paper's judge samples, but for its longest reply of 32,768 tokens, which would leave a prompt no room."""
_VERDICT_TOKENS = 16
"""Room for a marker."""


def _thinking(given: Any) -> Any:
    """A role's settings, with those of a thinking judge where it gives none."""
    return {**_THINKING, **given} if isinstance(given, dict) else given


class StaticSection(Section):
    """What a candidate must contain before it is judged at all; free, since no model is called."""

    thought: bool = False
    """A closed thought before the answer, for models that think. A thought that never ends is refused either way: it
    leaves no answer."""
    boxed: tuple[DomainName, ...] = ()
    """Domains whose final answer must hold a `\\boxed{...}` that is not blank."""

    @property
    def is_on(self) -> bool:
        """Whether anything is checked."""
        return self.thought or bool(self.boxed)


class CascadeSection(Section):
    """How candidates are judged and chosen."""

    votes: Positive = 5
    """Votes of every stage. All must say yes unless `rule` says otherwise."""
    stages: Annotated[tuple[AnyStage, ...], Field(min_length=1)] = PAPER
    """Stages asked, in order, each by its name or as a section: `[factuality, {type: correctness}]`."""
    asking: Asking = Asking.DIRECT
    """How a vote of the built-in stages is asked (docs/guides/asking.md). `direct`: one reply, findings and verdict.
    `think`: the same, and the judge thinks first by the switch of its chat template; judge roles then sample by default
    at temperature 0.6 and `top_p` 0.95, up to 16,384 tokens. `two_turns`: findings in a first turn, and in a second one
    a verdict that can be nothing but one of the two markers. `solve_first`: the judge solves the question without sight
    of a candidate, once per vote and prompt, compares the candidate with that, and gives the verdict as in
    `two_turns`."""
    static: StaticSection = StaticSection()
    """Checks of a candidate's form, before any vote; a step of its own in the funnel."""
    rule: Literal["unanimous", "majority"] | AtLeast = "unanimous"
    """`unanimous` is the method: every vote of every stage says yes. `majority` (more than half of a stage's votes) and
    `{at_least: k}` approximate the method: they accept more candidates, wrong ones among them."""
    selection: Selection = Selection.FIRST_VALID
    """Which accepted candidates become training rows."""
    early_exit: bool = True
    """Stop asking about a candidate when its outcome is settled: under `unanimous` at its first vote that is not yes.
    Never changes which candidates are accepted."""
    order: Literal["stage_major", "measured"] = "stage_major"
    """All votes of a stage before the next stage (the paper's), or `measured`: the cheapest rejection first, by the
    votes and tokens of the round before (the first round keeps the paper's order). Never changes which candidates are
    accepted, only the cost."""
    audit_share: Fraction = 0.0
    """Share of the candidates, drawn by a hash, that get every vote of every stage, for unbiased yes rates (the round's
    `audit.*` metrics). Never changes which candidates are accepted. 0 is off; 0.03 costs little."""
    fill_rows: Positive | None = None
    """Rows that a batch should hold. Where early exit and `sampling.block` leave fewer, next votes and next candidates
    are asked ahead until the batch is full, each at most as far as it has been asked already (1, 2, 4, ...). Never
    changes which candidates are accepted: fewer and fuller batches for some more tokens. null asks nothing ahead.
    docs/results/judging-cost.md has measurements."""
    flow: bool = False
    """Let every candidate and every vote of a round move on as soon as it can, instead of in waves: the engine's slots
    stay filled. Never changes which candidates are accepted, nor a vote that decides; with `fill_rows`, next votes and
    candidates are asked ahead where slots are free and it is likely enough that they are needed
    (docs/concepts/cascade.md); their number depends on what finished first. On an engine whose floats depend on the
    rows of a batch, a resumed job may sample differently (docs/concepts/decisions.md)."""
    invalid_retries: Annotated[int, Field(ge=0)] = 1
    """Repeats of a vote without a readable verdict."""
    frozen_judge: bool = False
    """Judge with the weights of round 0 instead of the current ones."""
    show_thought: bool = False
    """Show the solver's thought to the fact checker and the grader too. The question inferrer never sees it: thoughts
    restate the question that it has to infer."""
    roles: dict[RoleName, SamplingSection] = Field(default_factory=dict)
    """Sampling parameters by judge role; other roles use `judge`."""
    judge: SamplingSection = SamplingSection()
    """Sampling parameters of judge roles not named in `roles`."""

    @model_validator(mode="before")
    @classmethod
    def _thinking_is_sampled_as_published(cls, data: Any) -> Any:
        """Fill in what judge roles leave open under `asking: think`, so that the resolved settings say it."""
        if not isinstance(data, dict) or data.get("asking") != Asking.THINK:
            return data
        roles = data.get("roles", {})
        filled = {role: _thinking(given) for role, given in roles.items()} if isinstance(roles, dict) else roles
        return {**data, "judge": _thinking(data.get("judge", {})), "roles": filled}

    @field_validator("rule", mode="before")
    @classmethod
    def _rule_is_known(cls, rule: Any) -> Any:
        """One message for a wrong rule; a union would give one for each of its kinds."""
        if isinstance(rule, dict) and list(rule) == ["at_least"]:
            counts = type(rule["at_least"]) is int and rule["at_least"] >= 1
        else:
            counts = isinstance(rule, AtLeast)
        if counts or rule in ("unanimous", "majority"):
            return rule
        raise ValueError(f"cascade.rule: unanimous, majority, or {{at_least: k}} with k from 1 on (found {rule!r})")

    @property
    def needed(self) -> int:
        """Yes votes that a stage needs."""
        if isinstance(self.rule, AtLeast):
            return self.rule.at_least
        return self.votes if self.rule == "unanimous" else self.votes // 2 + 1

    @property
    def stage_names(self) -> tuple[StageName, ...]:
        """The stages' names, in order."""
        return tuple(stage.type for stage in self.stages)

    @property
    def deciding_stages(self) -> frozenset[StageName]:
        """The stages that decide about all candidates of a prompt at once, by a single vote on each."""
        return frozenset(stage.type for stage in self.stages if stage.sees_all)

    def needed_of(self, stage: StageName) -> int:
        """Yes votes that a stage needs to pass a candidate."""
        return 1 if stage in self.deciding_stages else self.needed

    def votes_of(self, stage: StageName) -> int:
        """Votes that a stage casts on a candidate."""
        return 1 if stage in self.deciding_stages else self.votes

    def with_judge_only(self) -> CascadeSection:
        """These settings without the stages that see all candidates, for judging candidates one by one."""
        return self.model_copy(update={"stages": tuple(stage for stage in self.stages if not stage.sees_all)})

    @property
    def judge_roles(self) -> tuple[RoleName, ...]:
        """The roles that the built-in stages and the configured ones call."""
        called = (role for stage in (*PAPER, *self.stages) for role in stage.roles_for(self.asking))
        return tuple(dict.fromkeys(called))

    def sampling_of(self, role: RoleName) -> SamplingSection:
        """Sampling parameters of a judge role; a verdict that can only be a marker is short and without a thought."""
        section = self.roles.get(role, self.judge)
        if role == Role.VERDICT_GIVER:
            return section.model_copy(update={"max_tokens": _VERDICT_TOKENS, "max_answer": None, "thinking": False})
        return section

    @model_validator(mode="after")
    def _roles_are_judges(self) -> CascadeSection:
        if self.needed > self.votes:
            raise ValueError(
                f"cascade.rule: at_least: {self.needed} can never be reached with cascade.votes: {self.votes}"
            )
        if Role.SOLVER in self.roles:
            raise ValueError("cascade.roles.solver: the solver is configured under `sampling`")
        if unknown := set(self.roles) - set(self.judge_roles):
            raise ValueError(
                f"cascade.roles.{min(unknown)}: no stage calls this role; known: {', '.join(self.judge_roles)}"
            )
        if len(set(self.stage_names)) != len(self.stages):
            raise ValueError(f"cascade.stages: a stage is named twice in {list(self.stage_names)}")
        return self


# ----------------------------------------------------------------------------- evaluation and stopping


class EvaluationSection(Section):
    """Measurement on held-out problems."""

    samples: Positive = 4
    """Samples per problem (K)."""
    pass_at: tuple[Positive, ...] = (1,)
    """The k of pass@k to report; each at most `samples`."""
    sampling: SamplingSection | None = None
    """null uses the solver's parameters."""
    resamples: Annotated[int, Field(ge=100)] = 2000
    """Bootstrap resamples over problems."""
    confidence: Annotated[float, Field(gt=0.5, lt=1.0)] = 0.95
    """Level of every interval."""
    test_seconds: Annotated[float, Field(gt=0.0)] = 5.0
    """Coding: seconds of processor time for all assertions of a problem, and for each of its calls and scripts."""
    domains: tuple[AnyDomain, ...] = ()
    """Settings of domains that have any (the built-in ones have none); a domain that is not listed takes its
    defaults. List a domain of another package here if only rows name it, so that forecasts and served models know
    it."""
    audit: Annotated[int, Field(ge=0)] = 0
    """Development problems whose first sample the policy judges after every round, to measure the judge's precision and
    recall by stage; never trained on. 0 is off."""

    @model_validator(mode="after")
    def _k_fits(self) -> EvaluationSection:
        if 1 not in self.pass_at:
            raise ValueError("evaluation.pass_at: must contain 1, the stop rule reads pass@1")
        if max(self.pass_at) > self.samples:
            raise ValueError(
                f"evaluation.pass_at: k = {max(self.pass_at)} needs at least as many evaluation.samples, "
                f"there are {self.samples}"
            )
        return self


class PlateauSection(Section):
    """When to stop: paired differences of held-out pass@1 against the best round so far."""

    minimal_effect: Fraction = 0.01
    """A round must exceed the best so far by more than this to count as progress (a fraction: points / 100)."""
    patience: Positive = 2
    """Rounds in a row without progress after which the job stops."""
    regression: Annotated[float, Field(gt=0.0, le=1.0)] = 0.05
    """Stop at once when the upper bound of (round - best) lies below minus this."""
    confidence: Annotated[float, Field(gt=0.5, lt=1.0)] = 0.9
    """Level of the paired interval."""


class Config(Section):
    """One job, complete."""

    job: JobSection = JobSection()
    model: ModelSection
    engine: AnyEngine = TransformersEngineSection()
    """What runs the model."""
    data: DataSection
    sampling: SolverSection = SolverSection()
    cascade: CascadeSection = CascadeSection()
    health: HealthSection = HealthSection()
    update: UpdateSection = UpdateSection()
    evaluation: EvaluationSection = EvaluationSection()
    plateau: PlateauSection = PlateauSection()
    tracking: TrackingSection = TrackingSection()
    schedule: ScheduleSection = ScheduleSection()
    gate: GateSection = GateSection()

    @property
    def domains(self) -> tuple[DomainName, ...]:
        """The built-in domains, and the others that the configuration names."""
        sources = (self.data.train, self.data.development, self.data.test)
        named = [self.data.domain, *(source.domain for source in sources if isinstance(source, FilesSource))]
        named += [section.type for section in self.evaluation.domains]
        return tuple(dict.fromkeys([*BUILT_IN_DOMAINS, *(name for name in named if name is not None)]))

    @model_validator(mode="before")
    @classmethod
    def _domain_is_filled_in(cls, data: Any) -> Any:
        """`{domain}` in the job's name and in paths stands for `data.domain`."""
        return fill_in_domain(data)

    @model_validator(mode="after")
    def _sections_agree(self) -> Config:
        if self.cascade.selection is Selection.ALL_VALID and self.sampling.block not in (None, self.sampling.n):
            raise ValueError(
                f"sampling.block: {self.sampling.block} stops at the first accepted candidate, which "
                "contradicts cascade.selection: all_valid; remove sampling.block"
            )
        for stage in self.cascade.stages:
            stage.refuse_count(self.sampling.n)
            if stage.sees_all and self.sampling.block not in (None, self.sampling.n):
                raise ValueError(
                    f"sampling.block: {self.sampling.block} hides candidates from cascade.stages: {stage.type}, which "
                    f"decides about all {self.sampling.n} of a prompt at once; remove sampling.block"
                )
        self.engine.refuse_conflicts(self)
        self.update.refuse_conflicts(self)
        if self.sampling.max_tokens >= self.model.max_context:
            raise ValueError(
                f"sampling.max_tokens: {self.sampling.max_tokens} leaves no room for a prompt within "
                f"model.max_context: {self.model.max_context}"
            )
        return self
