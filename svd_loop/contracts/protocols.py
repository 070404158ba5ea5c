"""The interfaces between the controller and the layers, as Protocols."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any, NotRequired, Protocol, TypedDict

from svd_loop.contracts.history import JobResult, JobState, RoundRecord
from svd_loop.contracts.records import (
    AgentCall,
    CallId,
    Candidate,
    Episode,
    Generation,
    GenerationRequest,
    JudgeRow,
    PolicyVersion,
    Prompt,
    Reply,
    Scores,
    TrainingRow,
    UpdateResult,
    Verdict,
)
from svd_loop.contracts.words import Half


class GenerationStream(Protocol):
    """Requests in flight at an engine, under numbers of the caller: new ones may be put while others run.

    An engine that can stream has a method `stream(label="", total=0)` that returns one; no other method of the engine
    may be called while it is open. Used by one thread.
    """

    @property
    def slots(self) -> int:
        """Requests that run side by side at present."""
        ...

    def put(self, requests: Sequence[tuple[int, GenerationRequest]]) -> None:
        """Queue requests under numbers (from 0 on) that are not in flight."""
        ...

    def drop(self, numbers: Collection[int]) -> None:
        """Forget requests, queued or running; numbers that are not in flight are ignored."""
        ...

    def take(self, seconds: float | None = None) -> list[tuple[int, Generation]]:
        """Wait until answers are there and return them, at least one; empty if nothing is in flight.

        With `seconds` it waits for so long at most, and then returns nothing.
        """
        ...

    def close(self) -> None:
        """Drop what is in flight. May be repeated."""
        ...


class Engine(Protocol):
    """Runs one set of weights. Works on tokens and seeds only, without roles, prompts or rounds."""

    def generate(self, requests: Sequence[GenerationRequest], *, label: str = "") -> list[Generation]:
        """Answer all requests in their order; `label` is shown on the progress bar."""
        ...

    def close(self) -> None:
        """Free the memory held. The engine cannot be used afterwards."""
        ...


class CallStream(Protocol):
    """Calls in flight at a policy: new ones may be put while others run. Used by one thread.

    A policy that can stream has a method `stream()` that returns one; `svd_loop.support.streams.stream_of` gives one
    for every policy. No other method of the policy may be called while its stream is open.
    """

    @property
    def slots(self) -> int:
        """Calls that run side by side at present; 0 if all that are put run together."""
        ...

    def put(self, calls: Sequence[AgentCall]) -> None:
        """Queue calls, each with an id that is not in flight; they begin in this order as slots become free."""
        ...

    def drop(self, calls: Collection[CallId]) -> None:
        """Forget calls in flight: queued ones are not asked, running ones aborted, and no reply to them is taken.

        Calls that are not in flight are ignored.
        """
        ...

    def take(self) -> list[Reply]:
        """Wait until replies are there and return them, at least one; empty if nothing is in flight."""
        ...

    def close(self) -> None:
        """Drop what is in flight. May be repeated."""
        ...


class Shelf(Protocol):
    """Keeps the texts and token ids of settled candidates while a round is played, so that memory need not."""

    def shelve(
        self, played: Sequence[tuple[Candidate, Verdict]], kept: Collection[tuple[str, int]]
    ) -> list[tuple[Candidate, Verdict]]:
        """Store texts and ids; return the records without them, but for candidates in `kept` (prompt id and index)."""
        ...

    def complete(self, candidates: Sequence[Candidate]) -> list[Candidate]:
        """The candidates with their texts and ids."""
        ...


class Policy(Protocol):
    """A model in a version, able to answer calls in any role."""

    @property
    def version(self) -> PolicyVersion:
        """The weights that answer."""
        ...

    def key(self, call: AgentCall) -> str:
        """Content key of the answer: hex digest over fingerprint, template, messages, sampling and seed."""
        ...

    def generate(self, calls: Sequence[AgentCall]) -> list[Reply]:
        """Answer all calls, in their order; raises `EngineError` if an answer is missing."""
        ...

    def close(self) -> None:
        """Free the engine's memory. The policy cannot be used afterwards."""
        ...


class Solver(Protocol):
    """The policy's solver role."""

    def sample(
        self, policy: Policy, prompts: Sequence[Prompt], indices: Sequence[int], *, round: int, purpose: str = "train"
    ) -> list[Candidate]:
        """Candidates number `indices` of every prompt, prompt-major."""
        ...

    def calls(
        self, prompts: Sequence[Prompt], indices: Sequence[int], *, round: int, purpose: str = "train"
    ) -> list[AgentCall]:
        """The calls that ask for them."""
        ...


class RoundInfo(TypedDict):
    """The `info` that `reset` and `step` of a round's environment return.

    `open` are the places of the prompts still open, `indices` the numbers of the candidates wanted of each now,
    `verdicts` those of this step. `outcome` comes with the last step; Gymnasium keeps the key `episode` for its own
    statistics.
    """

    open: tuple[int, ...]
    indices: Sequence[int]
    verdicts: tuple[Verdict, ...]
    outcome: NotRequired[Episode]


class ActionMaker(Protocol):
    """An environment without the wrappers around it."""

    def action(self, candidates: Sequence[str | Candidate]) -> Any:
        """Candidates, prompt-major, in the form that `step` takes."""
        ...

    def flow(
        self, policy: Policy, solver: Solver, watch: Callable[[Sequence[Verdict]], None] = lambda verdicts: None
    ) -> Episode:
        """Play a round that was just reset to its end without waves; `watch` gets the verdicts of each prompt."""
        ...


class RoundEnvironment(Protocol):
    """A round as a Gymnasium environment, reduced to what the loop uses."""

    @property
    def unwrapped(self) -> ActionMaker:
        """The environment itself."""
        ...

    def reset(self, *, options: dict[str, Any]) -> tuple[Any, RoundInfo]:
        """Begin a round; `options` are its `prompts`, its number `round` and its `judge`."""
        ...

    def step(self, action: Any, /) -> tuple[Any, float, bool, bool, RoundInfo]:
        """Judge a block of candidates: observation, reward, terminated, truncated, info."""
        ...


class PromptSource(Protocol):
    """The source of a job's unlabeled prompts."""

    def for_round(self, round: int, count: int | None, seed: int) -> list[Prompt]:
        """The prompts of a round, the same at every call; `count` None means all."""
        ...


class Evaluator(Protocol):
    """Held-out measurement: the only reader of gold."""

    def evaluate(self, policy: Policy, split: str) -> Scores:
        """Scores on `development` or `test`."""
        ...

    def count(self, policy: Policy, half: Half, indices: Sequence[int]) -> list[tuple[int, int]]:
        """Of each problem of one half of `development`: right samples among `indices`, and decided ones."""
        ...


class Ledger(Protocol):
    """The durable record of a job. Every commit is atomic and may be repeated."""

    def state(self) -> JobState:
        """The current state of the job."""
        ...

    def hours(self) -> float:
        """Time spent on the job by all processes so far, killed ones included."""
        ...

    def accepted_rows(self) -> list[TrainingRow]:
        """Accepted rows of all committed rounds, oldest first."""
        ...

    def judge_rows(self) -> list[JudgeRow]:
        """Judge rows of all committed rounds, oldest first."""
        ...

    def commit_round(
        self,
        record: RoundRecord,
        episode: Episode | None,
        rows: Sequence[TrainingRow],
        update: UpdateResult | None,
        judged: Sequence[JudgeRow] = (),
    ) -> None:
        """Record a finished round; `rows` are the round's own accepted rows, `judged` its judge rows.

        Round 0 has neither episode nor update.
        """
        ...

    def commit_stop(self, result: JobResult) -> None:
        """Record how the job ended."""
        ...


class Tracker(Protocol):
    """An index of a job's rounds for people, such as MLflow. Only its start may fail; it never stops a job later."""

    def start(self) -> None:
        """Open the job's run; raises `ConfigError` when the tracker cannot work."""
        ...

    def sync(self, history: Sequence[RoundRecord]) -> None:
        """Log the rounds that are not logged yet."""
        ...

    def finish(self, result: JobResult) -> None:
        """Log the end and close the run; may be repeated by a later process."""
        ...

    def pause(self) -> None:
        """Mark the run as interrupted, to be resumed later."""
        ...
