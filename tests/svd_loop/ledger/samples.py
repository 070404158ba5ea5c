"""Small made-up jobs for the ledger's tests: a configuration, a deterministic policy, a round."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from svd_loop.config import Config, parse_config
from svd_loop.contracts import (
    AgentCall,
    CallId,
    Candidate,
    Domain,
    Episode,
    Estimate,
    FinishReason,
    HealthFigure,
    HealthMeasure,
    HealthReport,
    JudgeRow,
    Message,
    PolicyVersion,
    Prompt,
    Rejection,
    Reply,
    Role,
    RoundRecord,
    Scores,
    Stage,
    StageName,
    StepRates,
    TrainingRow,
    UpdateResult,
    Usage,
    UsagePurpose,
    Verdict,
    Vote,
    VoteValue,
)

PROMPTS = tuple(Prompt(f"p{n}", f"What is {n} + 1?", Domain.MATH, f"made.jsonl:{n}") for n in range(8))


def config(**job: Any) -> Config:
    """A scripted job; `job` overrides keys of its `job` section."""
    source = {"type": "arithmetic", "count": 8}
    return parse_config(
        {
            "job": {"name": "sample", **job},
            "model": {"path": "nano"},
            "engine": {"type": "scripted"},
            "data": {"train": source, "development": source | {"seed": 1}},
        }
    )


def version(round: int) -> PolicyVersion:
    return PolicyVersion(round, hashlib.sha256(f"weights {round}".encode()).hexdigest())


def solve(prompt_id: str, candidate: int, round: int = 1, purpose: str = "train") -> AgentCall:
    id = CallId(purpose, round, Role.SOLVER, prompt_id, candidate)
    return AgentCall(id, (Message("user", f"solve {prompt_id}"),), "test/solver")


def vote(prompt_id: str, candidate: int, number: int, round: int = 1, stage: StageName = Stage.FACTUALITY) -> AgentCall:
    id = CallId("train", round, Role.FACT_CHECKER, prompt_id, candidate, stage, number)
    return AgentCall(id, (Message("user", f"check {prompt_id} {candidate}"),), "test/fact_checker")


class StubPolicy:
    """Answers from a hash of the question; counts what it was asked."""

    def __init__(self, round: int = 0) -> None:
        self.asked: list[list[AgentCall]] = []
        self._version = version(round)

    @property
    def version(self) -> PolicyVersion:
        return self._version

    def key(self, call: AgentCall) -> str:
        return hashlib.sha256(repr((self._version.fingerprint, call)).encode()).hexdigest()

    def generate(self, calls: Sequence[AgentCall]) -> list[Reply]:
        self.asked.append(list(calls))
        return [self.reply(call) for call in calls]

    def reply(self, call: AgentCall) -> Reply:
        seed = int(self.key(call)[:8], 16)
        text = f"{call.id.role} says {seed % 97}. [[{'N' if seed % 5 == 0 else 'Y'}]]"
        prompt_ids = tuple(b"".join(message.content.encode("utf-8", "replace") for message in call.messages))
        ids = tuple(text.encode())
        return Reply(call.id, text, FinishReason.STOP, self._version, prompt_ids, ids, len(prompt_ids), len(ids))

    def close(self) -> None:
        pass


def items(calls: Sequence[AgentCall], policy: StubPolicy | None = None) -> list[tuple[str, AgentCall, Reply]]:
    policy = policy or StubPolicy()
    return [(policy.key(call), call, policy.reply(call)) for call in calls]


def scores(round: int) -> Scores:
    correct = tuple((number + round) % 3 for number in range(4))
    estimates = {"overall": {"pass@1": Estimate(sum(correct) / 8, 0.1, 0.9)}}
    return Scores("development", 2, ("q0", "q1", "q2", "q3"), ("math",) * 4, correct, estimates)


def record(round: int) -> RoundRecord:
    if round == 0:
        return RoundRecord(0, version(0), scores(0), usage={UsagePurpose.EVALUATION: {"solver": Usage(8)}})
    return RoundRecord(
        round,
        version(round),
        scores(round),
        accepted_prompts=2,
        prompts=4,
        rows=2,
        usage={UsagePurpose.ROUND: {"solver": Usage(4, 9, 7)}, UsagePurpose.EVALUATION: {"solver": Usage(8)}},
        votes={Stage.CORRECTNESS: {VoteValue.YES: 3, VoteValue.INVALID: 1}},
        health=HealthReport(
            {HealthFigure(HealthMeasure.INVALID, Stage.CORRECTNESS): Estimate(0.25, 0.05, 0.7)},
            entropy=0.5,
            drift=Estimate(0.0, -0.1, 0.1),
        ),
        audit={"complete": StepRates(0.5, 1.0, None)},
        update=update(round).metrics,
        metrics={"order.correctness.0": 0.0},
        seconds={"sample": 1.5},
        funnel={"generated": 4, "complete": 4, "factuality": 2},
    )


def episode(round: int) -> Episode:
    policy = StubPolicy(round - 1)
    replies = [policy.reply(solve(prompt.id, 0, round)) for prompt in PROMPTS[:4]]
    candidates = tuple(
        Candidate(
            reply.call.prompt_id, 0, reply.text, reply.finish_reason, reply.policy, reply.prompt_ids, reply.token_ids
        )
        for reply in replies
    )
    verdicts = tuple(verdict(candidate.prompt_id, accepted=place < 2) for place, candidate in enumerate(candidates))
    return Episode(round, 4, candidates, verdicts, candidates[:2], {"generated": 4})


def verdict(prompt_id: str, *, accepted: bool) -> Verdict:
    cast = Vote(prompt_id, 0, Stage.FACTUALITY, 0, VoteValue.YES if accepted else VoteValue.NO, "so it is")
    if accepted:
        return Verdict(prompt_id, 0, True, votes=(cast,))
    return Verdict(prompt_id, 0, False, Rejection.VOTE, Stage.FACTUALITY, 0, (cast,))


def rows(round: int) -> list[TrainingRow]:
    return [
        TrainingRow(
            (*candidate.prompt_ids, *candidate.token_ids),
            len(candidate.prompt_ids),
            "accepted",
            candidate.prompt_id,
            candidate.index,
            round,
            "math",
        )
        for candidate in episode(round).selected
    ]


def update(round: int) -> UpdateResult:
    return UpdateResult(version(round), Path(f"versions/round-{round:03d}"), 2, 4, {"loss": 1.0 / round})


def judge_rows(round: int) -> tuple[JudgeRow, ...]:
    """Two judgements of `round` that are trained on: a verdict, and what prepares one."""
    first, second, *_ = rows(round)
    return (
        JudgeRow(replace(first, origin="judge"), "correctness", VoteValue.NO, "planted"),
        JudgeRow(replace(second, origin="judge"), "cycle_consistency", None, "accepted"),
    )


def commit_rounds(ledger: Any, until: int) -> None:
    """Commit rounds 0 to `until`."""
    for round in range(until + 1):
        if round == 0:
            ledger.commit_round(record(0), None, (), None)
        else:
            ledger.commit_round(record(round), episode(round), rows(round), update(round), judge_rows(round))
