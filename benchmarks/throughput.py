"""What the project costs on top of its engine and its trainer, against bare loops over the very same work.

    OMP_NUM_THREADS=1 python -m benchmarks.throughput [phase|update|both] [--engine transformers|vllm] [--repeats 5]

*phase*: one round's sampling and judging as a job plays it (environment, cascade, templates, tokenizer, ledger,
metering), and every request it makes, straight to the engine. A repetition is both in either order, each order on a
freshly opened version: what comes second finds vLLM's prefix cache and the allocator warm. *update*: a job's update of
nano's post-training rows, then a plain PyTorch loop over the same batches with the same optimizer. Both alternate, so
that whatever else the machine does falls on both; one JSON object on stdout gives the median and the range of the
repetitions. Wall-clock figures of a busy machine are indicative; processor seconds (of this process: not of vLLM's)
bear other work better.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any
from unittest import mock

import torch

import policies.opening
import policies.versions.checkpoints
from policies.training.rows import dataset_columns, sample_count, training_order
from policies.training.sft import SftUpdater
from policies.training.updater import _seed
from policies.versions.checkpoints import load_codec, load_model
from policies.versions.weights import WeightStore
from svd_loop.assembly.anchors import posttrain_rows
from svd_loop.assembly.backends import make_backend
from svd_loop.assembly.job import build_job
from svd_loop.config import Config, load_config
from svd_loop.config.update import UpdateSection
from svd_loop.contracts import Engine, Generation, GenerationRequest, TrainingRow
from svd_loop.ledger import Interrupt
from svd_loop.nano import NANO_CHECKPOINT
from svd_loop.support.allocator import keep_freed_memory, let_threads_sleep

CONFIG = Path(__file__).parents[1] / "configs" / "nano.yaml"
VLLM = ("engine.type=vllm", "engine.enforce_eager=true", "engine.kv_cache_gib=0.5", "engine.block_size=32")


@dataclass
class Clock:
    """Wall-clock and processor seconds of what runs under `running`."""

    wall: float = 0.0
    cpu: float = 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        """Count the block."""
        wall, cpu = time.perf_counter(), time.process_time()
        yield
        self.wall += time.perf_counter() - wall
        self.cpu += time.process_time() - cpu


@dataclass
class TimedEngine:
    """An engine that keeps time and remembers what it was asked."""

    engine: Any
    clock: Clock = field(default_factory=Clock)
    asked: list[list[GenerationRequest]] = field(default_factory=list)

    def generate(self, requests: Sequence[GenerationRequest], *, label: str = "") -> list[Generation]:
        """Answer, and count the time."""
        self.asked.append(list(requests))
        with self.clock.running():
            return self.engine.generate(requests, label=label)  # type: ignore[no-any-return]

    def close(self) -> None:
        """Close the engine."""
        self.engine.close()


def phase(config: Config, repeats: int) -> dict[str, Any]:
    """Sampling and judging of a round, the rest of the job's work included, against the engine alone."""
    opened: list[TimedEngine] = []
    open_engine = policies.opening.open_engine

    def timed(*args: Any) -> Engine:
        opened.append(TimedEngine(open_engine(*args)))
        return opened[-1]

    with mock.patch.object(policies.opening, "open_engine", timed), tempfile.TemporaryDirectory() as scratch:
        turns = (_placed(config, Path(scratch) / str(number)) for number in count())
        requests = _phase_once(next(turns), opened).requests  # warms up, and says what is asked
        found = [
            _compared(_phase_once(next(turns), opened), _phase_once(next(turns), opened, requests))
            for _ in range(repeats)
        ]
    return {"engine": config.engine.type, **summary(found)}


@dataclass(frozen=True)
class Turn:
    """A phase and its bare loop on one version: what was asked, and what each took."""

    requests: list[list[GenerationRequest]]
    phase: Clock
    generate: Clock
    bare: Clock


def _phase_once(config: Config, opened: list[TimedEngine], first: Sequence[list[GenerationRequest]] = ()) -> Turn:
    """The phase, then its bare loop; the other way round where the requests are known from before."""
    with build_job(config, interrupt=Interrupt()) as job:
        controller, parts = job.controller, job.controller.parts
        state = controller.record_baseline()
        prompts = parts.prompts.for_round(1, config.data.prompts_per_round, config.job.seed)
        with closing(parts.open_policy(0)) as policy:
            engine, whole, bare = opened[-1], Clock(), Clock()
            _bare(engine, first, bare)
            with whole.running():
                controller.play_episode(policy, prompts, state)
            if not first:
                _bare(engine, engine.asked, bare)
            assert not first or list(first) == engine.asked, "a phase asks the same every time"
    return Turn(engine.asked, whole, engine.clock, bare)


def _bare(engine: TimedEngine, asked: Sequence[list[GenerationRequest]], clock: Clock) -> None:
    with clock.running():
        for requests in asked:
            engine.engine.generate(requests)


def _compared(one: Turn, other: Turn) -> dict[str, float]:
    """Return both orders of a repetition as one, and by order the part of the bare loop's share due to warm-up."""
    wall, cpu = one.phase.wall + other.phase.wall, one.phase.cpu + other.phase.cpu
    return {
        "requests": sum(map(len, one.requests)),
        "phase_seconds": wall / 2,
        "phase_cpu_seconds": cpu / 2,
        "outside_generate_percent": 100 * (wall - one.generate.wall - other.generate.wall) / wall,
        "outside_generate_cpu_percent": 100 * (cpu - one.generate.cpu - other.generate.cpu) / cpu,
        "of_bare_loop": (one.bare.wall + other.bare.wall) / wall,
        "of_bare_loop_cpu": (one.bare.cpu + other.bare.cpu) / cpu,
        "of_bare_loop_after_the_phase": one.bare.wall / one.phase.wall,
        "of_bare_loop_before_the_phase": other.bare.wall / other.phase.wall,
    }


def update(rows_wanted: int, repeats: int) -> dict[str, Any]:
    """Training tokens per second of an update, against a bare loop."""
    config = load_config(CONFIG, [])
    found: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory() as scratch:
        backend = make_backend(config, Path(scratch))
        rows = posttrain_rows(backend.encode_rows, rows_wanted, 0)
        for repeat in range(repeats + 1):
            found.append(_update_once(Path(scratch) / str(repeat), config.update, rows))
    return summary(found[1:])


def _update_once(folder: Path, settings: UpdateSection, rows: list[TrainingRow]) -> dict[str, float]:
    store = WeightStore(folder)
    base = store.add_base(NANO_CHECKPOINT)
    codec = load_codec(base)
    updater = SftUpdater(
        store, settings, tokenizer=codec.tokenizer, stop_ids=codec.stop_ids, pad_id=codec.pad_id, device="cpu"
    )
    whole = Clock()
    with whole.running():
        result = updater.fit(rows, round=1, parent=store.path(0))
    samples = sample_count(len(rows), epochs=settings.epochs, steps=settings.steps, batch_size=settings.batch_size)
    order = training_order(
        [len(row.input_ids) for row in rows], samples=samples, batch_size=settings.batch_size, seed=_seed(0, 1)
    )
    batches = [
        [rows[index] for index in order[start : start + settings.batch_size]]
        for start in range(0, samples, settings.batch_size)
    ]
    model = load_model(base, device="cpu").train()
    bare = Clock()
    with bare.running():
        loss = bare_loop(model, settings, batches, codec.pad_id)
    tokens = sum(len(rows[index].input_ids) for index in order)
    return {
        "tokens": tokens,
        "tokens_per_second": result.metrics["tokens_per_second"],
        "bare_tokens_per_second": tokens / bare.wall,
        "of_bare_loop": result.metrics["tokens_per_second"] * bare.wall / tokens,
        # Reading, checking, loading and storing included; a fixed cost that a longer update hardly feels.
        "whole_update_of_bare_loop": bare.wall / whole.wall,
        "whole_update_of_bare_loop_cpu": bare.cpu / whole.cpu,
        "loss_over_bare_loss": result.metrics["loss"] / loss,
    }


def bare_loop(model: Any, settings: UpdateSection, batches: Sequence[Sequence[TrainingRow]], pad: int) -> float:
    """What anyone would write first: pad, forward with labels, backward, clip, step. Returns the mean loss."""
    from transformers import get_scheduler

    optimizer = torch.optim.AdamW(model.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay)
    warmup = min(-int(-settings.warmup * len(batches) // 1), len(batches) - 1)
    schedule = get_scheduler(settings.schedule, optimizer, warmup, len(batches))
    losses = []
    for batch in batches:
        columns = {name: [torch.tensor(ids) for ids in lists] for name, lists in dataset_columns(batch).items()}
        fill = {"input_ids": pad, "labels": -100}
        inputs = {
            name: torch.nn.utils.rnn.pad_sequence(items, batch_first=True, padding_value=fill[name])
            for name, items in columns.items()
        }
        lengths = torch.tensor([len(row.input_ids) for row in batch])
        inputs["attention_mask"] = (torch.arange(int(lengths.max())) < lengths[:, None]).long()
        loss = model(**inputs, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), settings.max_grad_norm)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        losses.append(float(loss))
    return statistics.fmean(losses)


def summary(found: Sequence[dict[str, float]]) -> dict[str, Any]:
    """Median and range of every figure."""
    return {
        name: {"median": round(statistics.median(values), 4), "range": [round(min(values), 4), round(max(values), 4)]}
        for name in found[0]
        if (values := [figures[name] for figures in found])
    }


def _placed(config: Config, root: Path) -> Config:
    return config.model_copy(update={"job": config.job.model_copy(update={"root": root})})


def main() -> None:
    """Measure and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("what", nargs="?", choices=("phase", "update", "both"), default="both")
    parser.add_argument("--engine", choices=("transformers", "vllm"), default="transformers")
    parser.add_argument("--prompts", type=int, default=150)
    parser.add_argument("--rows", type=int, default=1280)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    let_threads_sleep()
    keep_freed_memory()
    torch.set_num_threads(options.threads)
    overrides = [
        f"data.prompts_per_round={options.prompts}",
        "data.development.count=3",
        "data.test=null",
        "evaluation.audit=0",
        "tracking.enabled=false",
        *(VLLM if options.engine == "vllm" else ()),
        f"engine.threads={options.threads}",
    ]
    work: dict[str, Callable[[], dict[str, Any]]] = {
        "phase": lambda: phase(load_config(CONFIG, overrides), options.repeats),
        "update": lambda: update(options.rows, options.repeats),
    }
    wanted = work if options.what == "both" else {options.what: work[options.what]}
    json.dump({name: measure() for name, measure in wanted.items()}, sys.stdout, indent=2)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
