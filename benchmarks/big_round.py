"""A large round through the product's own path, with an engine that answers at once: what memory and ledger take.

    python -m benchmarks.big_round [--prompts 250 500 1000] [--candidate 6000] [--vote 150] [--waves]

Policy, durable policy, environment, flow and ledger are those of a job; only engine and tokenizer are made
(`benchmarks.big_text`). Eight candidates of each prompt are asked at once, each with three stages of five votes under
early exit. `--rows` plays nothing and commits rows that share their texts, of rounds that take too long to play. Every
size is a process of its own and prints:

- `rss`: MiB of resident memory at the peak of the round above those before it; nothing of it is an engine's;
- `book_wall`, `book_main`, `book_cpu`: microseconds a call in the ledger and for keys: by the clock and of processor
  time on the thread that plays the round, which waits for them, and of processor time of all threads;
- `other_cpu`: microseconds a call elsewhere: environment, templates, and the made engine and tokenizer;
- `bytes`: of the ledger on disk a call, after it is closed;
- `open`, `report`, `explain`, `list`: processor seconds that the commands take, start of the program included.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import psutil

from benchmarks.big_text import VERSION, big_policy
from envs.solving import SolverAgent
from svd_loop.assembly.job import make_environment, template_set
from svd_loop.config import Config, parse_config
from svd_loop.contracts import (
    Candidate,
    Episode,
    Estimate,
    Policy,
    Prompt,
    Rejection,
    RoundRecord,
    Scores,
    Stage,
    TrainingRow,
    Verdict,
    Vote,
    VoteValue,
)
from svd_loop.ledger import DurablePolicy, Ledger
from svd_loop.loop.health_rule import episode_health
from svd_loop.loop.replay import accepted_rows
from svd_loop.support.shelved import ShelvedCandidates
from svd_loop.support.usage import MeteredPolicy, votes_cast

SOURCE = {"type": "arithmetic", "count": 8}
JOB = "big"
TIMED = ("record", "record_later", "lookup", "shelve", "complete", "commit_round")
"""Methods of the ledger; an earlier one has fewer."""
OPENED = """
import sys; from pathlib import Path; from svd_loop.ledger import LedgerReader
LedgerReader.open_for_reading(Path(sys.argv[1])).state()
"""


@dataclass
class Clock:
    """Wall clock and processor time of the round's thread inside watched functions, nested ones counted once."""

    wall: float = 0.0
    cpu: float = 0.0
    parts: dict[str, float] = field(default_factory=dict)
    _inside: bool = False

    def watched(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, timed."""

        def timed(*arguments: Any, **named: Any) -> Any:
            if self._inside or threading.current_thread() is not threading.main_thread():
                return function(*arguments, **named)
            self._inside = True
            wall, cpu = time.perf_counter(), time.thread_time()
            try:
                return function(*arguments, **named)
            finally:
                self._inside = False
                self.wall += time.perf_counter() - wall
                taken = time.thread_time() - cpu
                self.cpu += taken
                self.parts[name] = self.parts.get(name, 0.0) + taken

        return timed


def config_of(root: Path) -> Config:
    """A job of one round."""
    return parse_config(
        {
            "job": {"name": JOB, "root": str(root)},
            "model": {"path": "scripted"},
            "engine": {"type": "scripted"},
            "data": {"train": SOURCE, "development": SOURCE},
            "sampling": {"n": 8, "block": 8},
            "cascade": {"flow": True},
            "tracking": {"enabled": False},
        }
    )


def prompts_of(count: int) -> list[Prompt]:
    """Made prompts."""
    words = "Question {0}: how many are {0} and 17?"
    return [Prompt(f"{number:016x}", words.format(number), "math") for number in range(count)]


@contextmanager
def watched(clock: Clock, policy: DurablePolicy) -> Iterator[None]:
    """Time the ledger and the keys."""
    names = [name for name in TIMED if hasattr(Ledger, name)]
    originals = {name: getattr(Ledger, name) for name in names}
    for name in names:
        setattr(Ledger, name, clock.watched(name, originals[name]))
    policy.key = clock.watched("key", policy.key)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for name in names:
            setattr(Ledger, name, originals[name])


def play(ledger: Ledger, config: Config, policy: Policy, prompts: list[Prompt], *, waves: bool) -> Episode:
    """One round, as the controller plays it."""
    environment = make_environment(config, template_set(config), ledger, None)
    solver = SolverAgent(template_set(config))
    _, info = environment.reset(options={"prompts": prompts, "round": 1, "judge": policy})
    if not waves:
        return environment.unwrapped.flow(policy, solver)
    while "outcome" not in info:
        wanted = [prompts[place] for place in info["open"]]
        candidates = solver.sample(policy, wanted, info["indices"], round=1)
        *_, info = environment.step(environment.unwrapped.action(candidates))
    return info["outcome"]


def committed(ledger: Ledger, episode: Episode, prompts: Sequence[Prompt]) -> None:
    """Measure the judge's health, which reads all candidates, and commit the round with its rows."""
    rows: list[TrainingRow] = accepted_rows(episode, prompts)
    record = RoundRecord(
        1,
        VERSION,
        scores(),
        episode.accepted,
        episode.prompts,
        len(rows),
        votes=votes_cast(episode),
        health=episode_health(episode),
    )
    ledger.commit_round(record, episode, rows)


def scores() -> Scores:
    """Held-out scores."""
    share = Estimate(0.5, 0.4, 0.6)
    return Scores("development", 1, ("h",), ("math",), (1,), {"overall": {"pass@1": share}})


def measure(count: int, options: argparse.Namespace) -> dict[str, float]:
    """Play a round in this process, and read it back in others."""
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        config, clock = config_of(Path(folder)), Clock()
        prompts = prompts_of(count)
        model = big_policy(options.candidate, options.vote, options.yes, options.slots)
        before, cpu, began = psutil.Process().memory_info().rss, time.process_time(), time.perf_counter()
        main = time.thread_time()
        with Ledger.open(config.job.paths.folder, config) as ledger:
            ledger.record_prompts(prompts)
            ledger.commit_round(RoundRecord(0, VERSION, scores()))
            durable = DurablePolicy(model, ledger, config.engine.chunk_size)
            metered = MeteredPolicy(durable)
            with watched(clock, durable), closing(metered):
                episode = play(ledger, config, metered, prompts, waves=options.waves)
                calls = sum(usage.calls for usage in metered.take_usage().values())
                committed(ledger, episode, prompts)
            accepted = episode.accepted
        cpu, wall = time.process_time() - cpu, time.perf_counter() - began
        book = clock.cpu + cpu - (time.thread_time() - main)  # other threads do nothing else
        peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        size = sum(path.stat().st_size for path in config.job.paths.folder.glob("ledger*"))
        return {
            "prompts": count,
            "accepted": accepted,
            "calls": calls,
            "seconds": round(wall, 1),
            "rss": round((peak - before) / 2**20),
            "book_wall": round(1e6 * clock.wall / calls),
            "book_main": round(1e6 * clock.cpu / calls),
            "book_cpu": round(1e6 * book / calls),
            "other_cpu": round(1e6 * (cpu - book) / calls),
            "bytes": round(size / calls),
            **{f"cpu_{name}": round(1e6 * taken / calls) for name, taken in clock.parts.items()},
            **reading(Path(folder), prompts[count // 2].id),
        }


def rows_alone(count: int, options: argparse.Namespace) -> dict[str, float]:
    """Commit a round of eight candidates a prompt with eight votes each that all share one text; read it back."""
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        config, prompts = config_of(Path(folder)), prompts_of(count)
        before, cpu = psutil.Process().memory_info().rss, time.process_time()
        with Ledger.open(config.job.paths.folder, config) as ledger:
            ledger.record_prompts(prompts)
            ledger.commit_round(RoundRecord(0, VERSION, scores()))
            shelved: list[tuple[Candidate, Verdict]] = []
            for start in range(0, count, 32):
                part = [judged(prompt.id, index) for prompt in prompts[start : start + 32] for index in range(8)]
                shelved += ledger.shelve(part, {(prompt.id, 0) for prompt in prompts[start : start + 32]})
            candidates = ShelvedCandidates([one for one, _ in shelved], ledger)
            selected = tuple(one for one, _ in shelved if one.index == 0)
            episode = Episode(1, count, candidates, tuple(verdict for _, verdict in shelved), selected)
            committed(ledger, episode, prompts)
        cpu, votes = time.process_time() - cpu, 8 * 8 * count
        peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        size = sum(path.stat().st_size for path in config.job.paths.folder.glob("ledger*"))
        return {
            "prompts": count,
            "votes": votes,
            "cpu_vote": round(1e6 * cpu / votes, 1),
            "rss": round((peak - before) / 2**20),
            "bytes_vote": round(size / votes),
            **reading(Path(folder), prompts[count // 2].id),
        }


def judged(prompt_id: str, index: int) -> tuple[Candidate, Verdict]:
    """Candidate 0 is accepted, the others fall at the eighth vote."""
    votes = [
        Vote(
            prompt_id, index, Stage.CORRECTNESS, number, VoteValue.NO if number == 7 and index else VoteValue.YES, "so"
        )
        for number in range(8)
    ]
    verdict = Verdict(prompt_id, index, True, votes=tuple(votes))
    if index:
        verdict = replace(verdict, accepted=False, rejection=Rejection.VOTE, stage=Stage.CORRECTNESS, vote=7)
    return Candidate(prompt_id, index, "an answer", policy=VERSION, prompt_ids=(1, 2), token_ids=(3, 4)), verdict


def reading(root: Path, prompt: str) -> dict[str, float]:
    """Processor seconds of the commands that read the job."""
    commands = {
        "open": ["-c", OPENED, str(root / "jobs" / JOB)],
        "report": ["-m", "svd_loop.cli", "report", JOB, "--root", str(root)],
        "explain": ["-m", "svd_loop.cli", "explain", JOB, prompt, "--root", str(root)],
        "list": ["-m", "svd_loop.cli", "explain", JOB, "--root", str(root)],
    }
    taken = {}
    for name, command in commands.items():
        before = sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])
        done = subprocess.run([sys.executable, *command], capture_output=True, text=True, check=False)
        taken[name] = round(sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2]) - before, 2)
        if done.returncode:
            sys.stderr.write(f"{name}: {done.stderr[-500:]}\n")
    return taken


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, nargs="+", default=[250, 500, 1000])
    parser.add_argument("--candidate", type=int, default=6000, help="characters of a solution")
    parser.add_argument("--vote", type=int, default=150, help="characters of a judge's reply")
    parser.add_argument("--yes", type=float, default=0.85, help="chance of a yes vote")
    parser.add_argument("--slots", type=int, default=1024, help="calls in flight")
    parser.add_argument("--waves", action="store_true", help="play in waves instead of the flow")
    parser.add_argument("--folder", type=Path, help="for the ledgers; the system's temporary folder unless given")
    parser.add_argument("--rows", action="store_true", help="play nothing: commit made rows that share their texts")
    parser.add_argument("--profile", type=Path, help="write a profile of the round")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside:
        run: Callable[[], dict[str, float]] = partial(
            rows_alone if options.rows else measure, options.prompts[0], options
        )
        print(json.dumps(run() if options.profile is None else profiled(run, options.profile)))
        return
    for count in options.prompts:
        command = [sys.executable, "-m", "benchmarks.big_round", *sys.argv[1:], "--inside", "--prompts", str(count)]
        subprocess.run(command, check=True)


def profiled(run: Callable[[], dict[str, float]], path: Path) -> dict[str, float]:
    """Run, and write a profile."""
    profile = cProfile.Profile()
    result: dict[str, float] = profile.runcall(run)
    profile.dump_stats(path)
    return result


if __name__ == "__main__":
    main()
