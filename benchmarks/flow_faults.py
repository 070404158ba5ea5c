"""Seeded schedules of faults against a round in the flow: `python -m benchmarks.flow --faults N [--seed FIRST]`.

A schedule plays one small round over the flow, the job's own storing policy (`svd_loop.ledger.DurablePolicy`) and a
simulated fleet, and draws from its seed: replicas that are slow or die while they answer, replies that are lost, a disk
that is full, how far the thread gets that stores answers, and kills at any step (between any two of put, take and
store; also between an answer and its commit, and after a store and before its replies are used). After each fault that
ends the process the round begins again over what was stored, as a job resumes. In the
end:

- candidates, verdicts and votes are those of the waves on a fleet without faults;
- nothing was asked whose answer was stored;
- every stored answer is still there, as it was stored, and answers everything that a verdict needed.

A seed that breaks one is printed, and `--faults 1 --seed SEED` plays it again.
"""

from __future__ import annotations

import random
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace

from benchmarks.simulated_engine import Fleet, SimulatedEngine, Traits
from envs.cascade.cascade import Cascade
from envs.cascade.template_sets import TemplateSet
from envs.flow.flow import Flow
from envs.flow.prompt_flow import PromptFlow, RoundRules
from envs.round_env import SelfVerificationEnv
from envs.solving import SolverAgent
from svd_loop.config.sections import CascadeSection
from svd_loop.contracts import AgentCall, CallId, CallStream, Candidate, Domain, Prompt, Reply, Selection, Verdict
from svd_loop.errors import EngineError, LedgerError
from svd_loop.ledger import DurablePolicy
from svd_loop.support.streams import stream_of
from svd_loop.support.wrapping import PolicyWrapper

TEMPLATES = TemplateSet.load("chat")
_LATEST_KILL = 60
"""A process is killed before this many steps, if it is killed."""

Answered = tuple[str, AgentCall, Reply]


class Killed(BaseException):
    """The process died."""


@dataclass(slots=True)
class Faults:
    """What goes wrong in one process; each step asks it."""

    draws: random.Random
    kills: bool
    lost: float
    full: float
    steps: int = 0
    last: int = field(init=False)

    def __post_init__(self) -> None:
        self.last = self.draws.randrange(_LATEST_KILL) if self.kills else -1

    def step(self) -> None:
        """Die here, or not."""
        self.steps += 1
        if self.steps == self.last:
            raise Killed


@dataclass(slots=True)
class Disk:
    """What survives a process: the store of answers, and how often each answer was asked after it was stored."""

    stored: dict[str, Reply] = field(default_factory=dict)
    first: dict[str, Reply] = field(default_factory=dict)
    asked_again: int = 0
    ended: Counter[str] = field(default_factory=Counter)


class Store:
    """The answer store of one process, whose thread (`svd_loop.ledger.answer_writer`) gets on as far as is drawn."""

    def __init__(self, disk: Disk, faults: Faults) -> None:
        self._disk = disk
        self._faults = faults
        self._waiting: deque[Sequence[Answered]] = deque()
        self._error: LedgerError | None = None

    def lookup(self, keys: Iterable[str]) -> dict[str, Reply]:
        """The stored replies, and those that wait."""
        self._get_on()
        known = self._disk.stored | {key: reply for items in self._waiting for key, _, reply in items}
        return {key: known[key] for key in keys if key in known}

    def record(self, items: Sequence[Answered]) -> None:
        """Store all, or fail and store none."""
        self.record_later(items)
        self.flush()

    def record_later(self, items: Sequence[Answered]) -> None:
        """Queue a batch."""
        self._faults.step()
        self._get_on()
        self._waiting.append(list(items))
        self._faults.step()

    def flush(self) -> None:
        """Store everything, as is done before a round is committed."""
        self._get_on(len(self._waiting))

    def _get_on(self, batches: int | None = None) -> None:
        """Store some batches, and raise what the thread failed of."""
        for _ in range(self._faults.draws.randint(0, len(self._waiting)) if batches is None else batches):
            if self._faults.draws.random() < self._faults.full:
                self._error = LedgerError("the disk is full")
                self._waiting.clear()
                break
            for key, _, reply in self._waiting.popleft():
                self._disk.stored.setdefault(key, reply)
                self._disk.first.setdefault(key, reply)
        if self._error is not None:
            raise self._error


class Losing(PolicyWrapper):
    """The engine of one process: loses replies, and tells the disk what it is asked."""

    def __init__(self, engine: SimulatedEngine, disk: Disk, faults: Faults) -> None:
        super().__init__(engine)
        self._disk = disk
        self._faults = faults

    def stream(self) -> CallStream:
        """Calls in flight."""
        return _LosingStream(super().stream(), self.key, self._disk, self._faults)


class _LosingStream:
    def __init__(self, stream: CallStream, key: Callable[[AgentCall], str], disk: Disk, faults: Faults) -> None:
        self._stream = stream
        self._key = key
        self._disk = disk
        self._faults = faults

    @property
    def slots(self) -> int:
        return self._stream.slots

    def put(self, calls: Sequence[AgentCall]) -> None:
        self._faults.step()
        self._disk.asked_again += sum(self._key(call) in self._disk.stored for call in calls)
        self._stream.put(calls)

    def drop(self, calls: Collection[CallId]) -> None:
        self._faults.step()
        self._stream.drop(calls)

    def take(self) -> list[Reply]:
        self._faults.step()
        replies = self._stream.take()
        return [reply for reply in replies if self._faults.draws.random() >= self._faults.lost]

    def close(self) -> None:
        self._stream.close()


@dataclass(frozen=True, slots=True)
class Schedule:
    """One seed's round and faults."""

    seed: int
    rules: RoundRules
    prompts: tuple[Prompt, ...]
    fleet: Fleet
    traits: Traits
    fill_rows: int | None
    kills: int
    lost: float
    full: float
    write_every: float

    @classmethod
    def of(cls, seed: int) -> Schedule:
        """Draw a schedule."""
        draws = random.Random(seed)
        section = CascadeSection(
            votes=draws.randint(1, 3), early_exit=draws.random() < 0.8, audit_share=draws.choice([0.0, 0.2])
        )
        cascade = Cascade(TEMPLATES, section)
        n = draws.randint(1, 4)
        rules = RoundRules(
            cascade,
            SolverAgent(TEMPLATES),
            cascade.units(1),
            1,
            n,
            draws.randint(1, n),
            draws.choice([Selection.FIRST_VALID, Selection.FIRST_VALID, Selection.ALL_VALID]),
        )
        prompts = tuple(Prompt(f"s{seed}p{place}", "question?", Domain.MATH) for place in range(draws.randint(1, 8)))
        fleet = Fleet(
            draws.randint(1, 4),
            draws.randint(1, 8),
            slow=draws.choice([0.0, 0.3]),
            lives=draws.choice([0.0, 200.0, 2_000.0]),
            away=draws.choice([10.0, 300.0]),
            seed=seed,
        )
        traits = replace(Traits(), invalid=draws.choice([0.0, 0.1]), longest=draws.choice([8_000, 28_672]))
        fill_rows = draws.choice([None, 4, 64])
        return cls(
            seed,
            rules,
            prompts,
            fleet,
            traits,
            fill_rows,
            draws.randrange(6),
            draws.choice([0.0, 0.01]),
            draws.choice([0.0, 0.02]),
            draws.choice([0.0, 0.0, 3_600.0]),
        )

    def broken(self) -> tuple[list[str], Counter[str]]:
        """The invariants that do not hold at the end, and what ended the processes."""
        disk, draws = Disk(), random.Random(f"faults {self.seed}")
        played: list[tuple[Candidate, Verdict]] | None = None
        process = 0
        while played is None:
            # The last process has no faults: a schedule always ends.
            calm = process >= 40
            faults = Faults(
                draws, not calm and process < self.kills, 0.0 if calm else self.lost, 0.0 if calm else self.full
            )
            try:
                played = self._process(disk, faults, process)
            except (Killed, EngineError, LedgerError) as error:
                disk.ended[type(error).__name__] += 1
            process += 1
        expected, needed = self._in_waves()
        found = [] if played == expected else ["verdicts differ"]
        found += ["an answer was asked again that was stored"] if disk.asked_again else []
        found += ["a stored answer was lost or replaced"] if disk.stored != disk.first else []
        found += ["an answer that a verdict needed was not stored"] if not needed <= set(disk.stored) else []
        return found, disk.ended

    def _process(self, disk: Disk, faults: Faults, number: int) -> list[tuple[Candidate, Verdict]]:
        engine = SimulatedEngine(replace(self.fleet, seed=self.fleet.seed + number), self.traits)
        store = Store(disk, faults)
        policy = DurablePolicy(Losing(engine, disk, faults), store, 64, write_every=self.write_every)
        rules, stream = replace(self.rules), stream_of(policy)
        flow = Flow(stream, fill_rows=self.fill_rows)
        done = {one.prompt.id: one.played() for one in flow.play(PromptFlow(prompt, rules) for prompt in self.prompts)}
        stream.close()  # a process that dies does not: what it took last is asked again
        store.flush()
        return [pair for prompt in self.prompts for pair in done[prompt.id]]

    def _in_waves(self) -> tuple[list[tuple[Candidate, Verdict]], set[str]]:
        """Candidates and verdicts by `envs.round_env`, and the keys of the calls behind them."""
        rules, keys = self.rules, set[str]()
        engine = SimulatedEngine(Fleet(1, 64), self.traits)

        class Noting(PolicyWrapper):
            def generate(self, calls: Sequence[AgentCall]) -> list[Reply]:
                keys.update(map(self.key, calls))
                return super().generate(calls)

        policy = Noting(engine)
        env = SelfVerificationEnv(
            prompts=self.prompts,
            judge=policy,
            cascade=rules.cascade,
            n=rules.n,
            block=rules.block,
            selection=rules.selection,
        )
        _, info = env.reset()
        assert rules.solver is not None
        while info["open"]:
            wanted = [self.prompts[place] for place in info["open"]]
            *_, info = env.step(env.action(rules.solver.sample(policy, wanted, info["indices"], round=1)))
        episode = info["outcome"]
        return list(zip(episode.candidates, episode.verdicts, strict=True)), keys


def run(count: int, first: int = 0) -> dict[str, object]:
    """Play `count` schedules; returns how many held, the seeds of the others, and the faults that ended processes."""
    broken: dict[int, list[str]] = {}
    ended: Counter[str] = Counter()
    for seed in range(first, first + count):
        found, faults = Schedule.of(seed).broken()
        ended += faults
        if found:
            broken[seed] = found
    return {"schedules": count, "broken": broken, "processes_ended_by": dict(ended)}
