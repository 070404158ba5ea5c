"""The controller's inputs: the parts of a job, and its plan."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from svd_loop.contracts import (
    Candidate,
    Episode,
    Evaluator,
    HealthReport,
    JobResult,
    JudgeRow,
    Ledger,
    Policy,
    PolicyVersion,
    Prompt,
    PromptSource,
    RoundEnvironment,
    RoundRecord,
    Solver,
    StepChoice,
    StepRates,
    Tracker,
    TrainingRow,
    UpdateMaterial,
    UpdateResult,
    Usage,
    VerifierReport,
)
from svd_loop.loop.health_rule import HealthRule
from svd_loop.loop.limits import Limits
from svd_loop.loop.plateau import PlateauRule
from svd_loop.loop.replay import Replay
from svd_loop.support.usage import MeteredPolicy


@dataclass(frozen=True, slots=True)
class PlayedRound:
    """What a round's judge is measured on.

    Attributes:
        episode: the round.
        prompts: of the round.
        history: the committed rounds before it.
        usage: of sampling and judging in the round, by role.
    """

    episode: Episode
    prompts: Sequence[Prompt]
    history: Sequence[RoundRecord]
    usage: Mapping[str, Usage]


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of a job.

    `open_policy(round)` loads the version a round produced (0 is the base); `update(material, round, parent)` trains
    from the version of round `parent` and stores that of `round`; `usable(rows)` keeps those it can train on and
    counts the others by reason; `environment` is a `SelfVerification` environment;
    `firewall` removes completions that hold held-out problems from an episode;
    `judge_watch` measures judge health without labels, and `health` decides the consequence;
    `judge_rows(judge, episode, others, prompts)` makes training rows of judgements whose verdict can be inferred;
    `audit` measures how well a policy judges; `verify(policy, usage)` tests the base's verifiers within a share of the
    job's tokens, given the usage of the baseline's measurement; `choose_step(round, steps)` chooses among the
    checkpoints of an update, and `keep_step(round, step)` makes one the round's version; `register` offers the best
    version of a finished job for use.
    """

    ledger: Ledger
    prompts: PromptSource
    environment: RoundEnvironment
    firewall: Callable[[Episode], Episode]
    solver: Solver
    open_policy: Callable[[int], MeteredPolicy]
    usable: Callable[[Sequence[TrainingRow]], tuple[list[TrainingRow], dict[str, float]]]
    update: Callable[[UpdateMaterial, int, int], UpdateResult]
    replay: Replay
    evaluator: Evaluator
    judge_watch: Callable[[Policy, PlayedRound], HealthReport | None]
    health: HealthRule
    judge_rows: Callable[[Policy, Episode, Sequence[Candidate], Sequence[Prompt]], Sequence[JudgeRow]]
    audit: Callable[[Policy], Mapping[str, StepRates]]
    verify: Callable[[MeteredPolicy, Mapping[str, Usage]], VerifierReport | None]
    plateau: PlateauRule
    tracker: Tracker
    register: Callable[[JobResult], None]
    choose_step: Callable[[int, Sequence[int]], tuple[StepChoice, Mapping[str, Usage]]]
    keep_step: Callable[[int, int], PolicyVersion]


@dataclass(frozen=True, slots=True)
class Plan:
    """The user's settings that the loop needs."""

    job: str
    seed: int
    limits: Limits
    prompts_per_round: int | None = None
    frozen_judge: bool = False
    flow: bool = False
    test_split: bool = False
    learns_from_refused: bool = False
