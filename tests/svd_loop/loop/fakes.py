"""The parts of a job without files, engines or judges: what the controller's protocols ask for, and no more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from svd_loop.config.health import HealthSection
from svd_loop.config.sections import PlateauSection
from svd_loop.contracts import (
    AgentCall,
    CallId,
    Candidate,
    Domain,
    Episode,
    Estimate,
    FinishReason,
    Half,
    HealthReport,
    JobResult,
    JobState,
    JudgeRow,
    Message,
    Policy,
    PolicyVersion,
    Prompt,
    Reply,
    Role,
    RoleName,
    RoundInfo,
    RoundRecord,
    Scores,
    StepChoice,
    StepRates,
    TrainingRow,
    UpdateMaterial,
    UpdateResult,
    Usage,
    Verdict,
    VerifierReport,
)
from svd_loop.loop.health_rule import HealthRule
from svd_loop.loop.parts import Parts
from svd_loop.loop.plateau import PlateauRule
from svd_loop.loop.replay import Replay
from svd_loop.support.usage import MeteredPolicy

PROMPTS = [Prompt(f"p{number}", f"question {number}", Domain.MATH) for number in range(4)]


def version(round: int) -> PolicyVersion:
    return PolicyVersion(round, f"weights {round}")


def call(role: RoleName, prompt: Prompt, round: int, purpose: str) -> AgentCall:
    return AgentCall(CallId(purpose, round, role, prompt.id), (Message("user", prompt.text),), "v1")


@dataclass
class FakePolicy:
    """Answers everything with one word, and notes when it is opened and closed."""

    round: int
    events: list[str]

    def __post_init__(self) -> None:
        self.events.append(f"open {self.round}")

    @property
    def version(self) -> PolicyVersion:
        return version(self.round)

    def key(self, call: AgentCall) -> str:
        return f"{self.round}/{call.id}"

    def generate(self, calls: Sequence[AgentCall]) -> list[Reply]:
        return [Reply(call.id, "word", FinishReason.STOP, self.version, output_tokens=1) for call in calls]

    def close(self) -> None:
        self.events.append(f"close {self.round}")


class FakeSolver:
    """One candidate for each prompt, of one token."""

    def sample(
        self, policy: Policy, prompts: Sequence[Prompt], indices: Sequence[int], *, round: int, purpose: str = "train"
    ) -> list[Candidate]:
        replies = policy.generate([call(Role.SOLVER, prompt, round, purpose) for prompt in prompts])
        return [Candidate(reply.call.prompt_id, 0, reply.text, prompt_ids=(1,), token_ids=(2,)) for reply in replies]


class FakeEnvironment:
    """A round of one step, in which the judge is asked once about each prompt and the first `accepts` are accepted."""

    def __init__(self, accepts: int) -> None:
        self.accepts = accepts
        self.options: dict[str, Any] = {}

    @property
    def unwrapped(self) -> FakeEnvironment:
        return self

    def action(self, candidates: Sequence[str | Candidate]) -> Any:
        return candidates

    def reset(self, *, options: dict[str, Any]) -> tuple[Any, RoundInfo]:
        self.options = options
        return (), {"open": tuple(range(len(options["prompts"]))), "indices": range(1), "verdicts": ()}

    def step(self, action: Any, /) -> tuple[Any, float, bool, bool, RoundInfo]:
        prompts, round, judge = (self.options[name] for name in ("prompts", "round", "judge"))
        judge.generate([call(Role.GRADER, prompt, round, "train") for prompt in prompts])
        verdicts = tuple(Verdict(one.prompt_id, 0, place < self.accepts) for place, one in enumerate(action))
        selected = tuple(action[: self.accepts])
        episode = Episode(round, len(prompts), tuple(action), verdicts, selected, {"generated": len(action)})
        return (), 0.0, True, False, {"open": (), "indices": range(0), "verdicts": verdicts, "outcome": episode}


class FakePrompts:
    """The same prompts every round."""

    def for_round(self, round: int, count: int | None, seed: int) -> list[Prompt]:
        return PROMPTS[:count]


@dataclass
class FakeEvaluator:
    """Scores that each version is given beforehand, on a hundred problems; a version without has those of round 0."""

    right: dict[int, int]

    def count(self, policy: Policy, half: Half, indices: Sequence[int]) -> list[tuple[int, int]]:
        raise NotImplementedError

    def evaluate(self, policy: Policy, split: str) -> Scores:
        policy.generate([call(Role.SOLVER, PROMPTS[0], 0, split)])
        right = self.right.get(policy.version.round, self.right[0])
        ids = tuple(f"q{number}" for number in range(100))
        estimates = {"overall": {"pass@1": Estimate(right / 100, right / 100, right / 100)}}
        correct = (1,) * right + (0,) * (100 - right)
        return Scores(split, 1, ids, ("math",) * 100, correct, estimates)


@dataclass
class MemoryLedger:
    """What was committed, in lists."""

    history: list[RoundRecord] = field(default_factory=list)
    rows: list[TrainingRow] = field(default_factory=list)
    judged: list[JudgeRow] = field(default_factory=list)
    episodes: list[Episode | None] = field(default_factory=list)
    result: JobResult | None = None
    spent: float = 0.0

    def state(self) -> JobState:
        return JobState("fake", tuple(self.history), self.result.stop if self.result else None)

    def hours(self) -> float:
        return self.spent

    def accepted_rows(self) -> list[TrainingRow]:
        return list(self.rows)

    def judge_rows(self) -> list[JudgeRow]:
        return list(self.judged)

    def commit_round(
        self,
        record: RoundRecord,
        episode: Episode | None,
        rows: Sequence[TrainingRow],
        update: UpdateResult | None,
        judged: Sequence[JudgeRow] = (),
    ) -> None:
        self.history.append(record)
        self.episodes.append(episode)
        self.rows += rows
        self.judged += judged

    def commit_stop(self, result: JobResult) -> None:
        self.result = result


@dataclass
class FakeTracker:
    """Notes what it is told."""

    told: list[str] = field(default_factory=list)

    def start(self) -> None:
        self.told.append("start")

    def sync(self, history: Sequence[RoundRecord]) -> None:
        self.told.append(f"{len(history)} rounds")

    def finish(self, result: JobResult) -> None:
        self.told.append(f"finish {result.stop}")

    def pause(self) -> None:
        self.told.append("pause")


@dataclass
class FakeJob:
    """The parts of a job, and what happened to them.

    Attributes:
        right: right answers of a hundred, by the round that made the version.
        accepts: prompts accepted in every round.
        health: what the judge's watch reports of every round.
        action: what an alarm does.
        verifiers: what the verifier test of round 0 reports.
        candidates: steps of an update's checkpoints, of which the first one is chosen.
    """

    right: dict[int, int]
    accepts: int = 2
    health: HealthReport | None = None
    action: str = "stop"
    verifiers: VerifierReport | None = None
    candidates: tuple[int, ...] = ()
    events: list[str] = field(default_factory=list)
    ledger: MemoryLedger = field(default_factory=MemoryLedger)
    tracker: FakeTracker = field(default_factory=FakeTracker)

    def parts(self) -> Parts:
        return Parts(
            ledger=self.ledger,
            prompts=FakePrompts(),
            environment=FakeEnvironment(self.accepts),
            firewall=lambda episode: episode,
            solver=FakeSolver(),
            open_policy=lambda round: MeteredPolicy(FakePolicy(round, self.events)),
            usable=lambda rows: (list(rows), {"rows_refused.long": 0.0}),
            update=self.update,
            replay=Replay(),
            evaluator=FakeEvaluator(self.right),
            judge_watch=lambda judge, played: self.health,
            judge_rows=lambda judge, episode, others, prompts: [],
            health=HealthRule(HealthSection.model_validate({"action": self.action})),
            audit=lambda policy: {"complete": StepRates(precision=0.5)},
            verify=lambda policy, usage: self.verifiers,
            plateau=PlateauRule(PlateauSection()),
            tracker=self.tracker,
            register=lambda result: self.events.append(f"register {result.best.version.round}"),
            choose_step=lambda round, steps: (StepChoice((), steps[0], steps[0]), {Role.SOLVER: Usage(7)}),
            keep_step=lambda round, step: PolicyVersion(round, f"weights {round} at {step}"),
        )

    def update(self, material: UpdateMaterial, round: int, parent: int) -> UpdateResult:
        self.events.append(f"train {round} from {parent} on {len(material.rows)}")
        metrics = {"loss": 1.0 / round}
        return UpdateResult(version(round), Path("nowhere"), len(material.rows), 1, metrics, self.candidates)
