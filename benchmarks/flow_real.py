"""A round on a real engine in waves and in the flow, in both orders, on one machine and in one run.

    python -m benchmarks.flow_real [--config JOB.yaml] [--engine vllm] [-o engine.batch_size=64 ...]

Plays the sampling and judging of round 1 on the embedded model, or on that of a job's file, four times after one of
each to warm up: waves, flow, flow, waves, all on one engine. `outside` is the share of the round in which no call of
the engine (or of its stream) was running: rendering, reading votes, scheduling, and the ledger. For vLLM the engine
works in a child meanwhile, whose processor time is part of `cpu_seconds`. `differ` counts the flow's candidates whose
text, acceptance or rejecting vote is not that of the waves.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import torch

import policies.opening
from benchmarks.throughput import CONFIG, VLLM
from svd_loop.assembly.job import build_job
from svd_loop.config import Config, load_config
from svd_loop.contracts import Episode, Generation, GenerationRequest
from svd_loop.ledger import Interrupt
from svd_loop.support.allocator import keep_freed_memory

ORDER = ("waves", "flow", "flow", "waves")
"""Played after one round in waves and one in the flow that are not counted."""


@dataclass
class Clock:
    """Time inside an engine."""

    wall: float = 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        """Count the block."""
        began = time.perf_counter()
        yield
        self.wall += time.perf_counter() - began


class TimedStream:
    """A stream that keeps time."""

    def __init__(self, stream: Any, clock: Clock) -> None:
        self._stream = stream
        self._clock = clock

    @property
    def slots(self) -> int:
        """Those of the stream."""
        return int(self._stream.slots)

    def put(self, requests: Sequence[tuple[int, GenerationRequest]]) -> None:
        """Queue requests."""
        with self._clock.running():
            self._stream.put(requests)

    def drop(self, numbers: Collection[int]) -> None:
        """Forget requests."""
        with self._clock.running():
            self._stream.drop(numbers)

    def take(self, seconds: float | None = None) -> list[tuple[int, Generation]]:
        """Wait for answers."""
        with self._clock.running():
            return list(self._stream.take(seconds))

    def close(self) -> None:
        """Close the stream."""
        self._stream.close()


class TimedEngine:
    """An engine that keeps time, and stays open for the next round."""

    def __init__(self, engine: Any) -> None:
        self.engine = engine
        self.clock = Clock()

    def generate(self, requests: Sequence[GenerationRequest], *, label: str = "") -> list[Generation]:
        """Answer all requests."""
        with self.clock.running():
            return list(self.engine.generate(requests, label=label))

    def stream(self, *, label: str = "", total: int = 0) -> TimedStream:
        """Requests in flight."""
        return TimedStream(self.engine.stream(label=label, total=total), self.clock)

    def close(self) -> None:
        """Do nothing."""


Outcomes = dict[tuple[str, int], tuple[str, bool, object]]
"""The text, acceptance and rejecting vote of each candidate, by prompt and index."""


def played(config: Config, opened: Sequence[TimedEngine]) -> tuple[Outcomes, dict[str, float]]:
    """Sampling and judging of round 1, and what they took."""
    with build_job(config, interrupt=Interrupt()) as job:
        controller = job.controller
        state = controller.record_baseline()
        prompts = controller.parts.prompts.for_round(1, config.data.prompts_per_round, config.job.seed)
        with controller.policy(0) as policy:
            (engine,) = opened
            clock = engine.clock
            inside, wall, cpu = clock.wall, time.perf_counter(), cpu_seconds(engine)
            episode, *_ = controller.play_episode(policy, prompts, state)
            wall, cpu = time.perf_counter() - wall, cpu_seconds(engine) - cpu
        found = outcomes(episode)  # while the job is open: its ledger holds the texts
    return found, {"seconds": wall, "cpu_seconds": cpu, "outside": 1.0 - (clock.wall - inside) / wall}


def cpu_seconds(engine: TimedEngine) -> float:
    """Processor time of this process and the engine's own."""
    ticks = 0
    for pid in getattr(engine.engine, "pids", ()):
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return time.process_time() + ticks / os.sysconf("SC_CLK_TCK")


def outcomes(episode: Episode) -> Outcomes:
    """What a round came to."""
    pairs = zip(episode.candidates, episode.verdicts, strict=True)
    return {
        (one.prompt_id, one.index): (one.text, two.accepted, (two.rejection, two.stage, two.vote)) for one, two in pairs
    }


def differing(flow: Outcomes, waves: Outcomes) -> int:
    """The flow's candidates that are not those of the waves."""
    return sum(waves.get(key) != outcome for key, outcome in flow.items())


def compare(config: Config) -> dict[str, object]:
    """Play the round in both schedules, in both orders."""
    opened: list[TimedEngine] = []
    open_engine = policies.opening.open_engine

    def timed(*arguments: Any) -> Any:
        if not opened:
            opened.append(TimedEngine(open_engine(*arguments)))
        return opened[0]

    figures: dict[str, list[dict[str, float]]] = {"waves": [], "flow": []}
    rounds: dict[str, Outcomes] = {}
    with mock.patch.object(policies.opening, "open_engine", timed), tempfile.TemporaryDirectory() as scratch:
        for number, name in enumerate(("waves", "flow", *ORDER)):
            placed = config.job.model_copy(update={"root": Path(scratch) / str(number)})
            cascade = config.cascade.model_copy(update={"flow": name == "flow"})
            rounds[name], found = played(config.model_copy(update={"job": placed, "cascade": cascade}), opened)
            if number >= 2:
                figures[name].append({key: round(value, 4) for key, value in found.items()})
    opened[0].engine.close()
    mean = {name: sum(one["seconds"] for one in some) / len(some) for name, some in figures.items()}
    return {
        "engine": config.engine.type,
        **figures,
        "waves_to_flow": round(mean["waves"] / mean["flow"], 4),
        "candidates": len(rounds["flow"]),
        "differ": differing(rounds["flow"], rounds["waves"]),
    }


def main() -> None:
    """Measure and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", choices=("transformers", "vllm"), default="transformers")
    parser.add_argument("--config", type=Path, default=CONFIG, help="a job's file; its baseline is measured each time")
    parser.add_argument("--prompts", type=int, default=150)
    parser.add_argument("-o", action="append", default=[], help="an override of the configuration")
    options = parser.parse_args()
    keep_freed_memory()
    torch.set_num_threads(1)
    embedded = ["data.development.count=3"] if options.config == CONFIG else []
    small = ("data.test=null", "evaluation.audit=0", "tracking.enabled=false", *embedded)
    others = (f"data.prompts_per_round={options.prompts}", "health.canaries=0", "engine.threads=1")
    config = load_config(options.config, [*small, *others, *(VLLM if options.engine == "vllm" else ()), *options.o])
    print(json.dumps(compare(config)))


if __name__ == "__main__":
    main()
