"""One model, one GPU, ten minutes: forecast, rounds with their unverified controls, held-out measurement, a page.

python -m benchmarks.one_gpu CHECKPOINT --gsm8k FOLDER [--minutes 10] [--rounds 2] [--engine vllm] [-o KEY=VALUE ...]

CHECKPOINT is a folder, a GGUF file, or `nano` (its own generated problems; no --gsm8k). The stages, each a command of
its own with what is left of the time:

1. `svd-loop data prepare gsm8k`: prompts of the training split without answers, held-out problems of the test split.
2. `svd-loop check --probe`: speed, what the model can verify, and the forecast; a quarter of the time at most.
3. The size of a round and of the held-out set follow from the measured speed, the verifier from the forecast.
4. `svd-loop sweep`: the method, random acceptance of as many rows, and hot unverified sampling, with the same prompts.
5. `OUT/one-gpu.md`: the curve, gains with paired intervals, cost, tokens per second by phase, peak memory.

The same command with the same --out goes on where it was stopped. When the time is over, the sweep is interrupted, and
the page shows what is there: finished arms with their intervals, the others by the rounds in their ledgers.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from benchmarks.one_gpu_page import write_page
from benchmarks.peak_memory import PeakMemory

PROBE_PROMPTS, DEVELOPMENT = 64, 48
"""Prompts of a round in the probed job, and development problems, whose answers decide nothing here."""
CHECK_SHARE, PLAY_SHARE, MARGIN = 0.25, 0.92, 0.8
"""Of the time: at most for the check; until when the sweep may run; of that, what the estimate may fill."""
HELD_OUT = (300, 200, 100, 50)
"""Sizes of the held-out set, the first of which takes less than half of the time of the sweep."""
ROUNDS_OF_CONTROLS = 0.8
"""Work of both controls on a round, as a share of the method's: they train as long, and sample at most one."""


@dataclass(frozen=True, slots=True)
class Size:
    """What fits into the time: prompts of a round, held-out problems, and how long that was expected to take."""

    prompts: int
    problems: int
    seconds: float


def sized(estimate: Mapping[str, Any] | None, seconds: float, *, rounds: int, most: int) -> Size:
    """Return the largest round that the time allows.

    Args:
        estimate: of `svd-loop check --json`, for rounds of `PROBE_PROMPTS`; None where the check did not end in time.
        seconds: time for all arms.
        rounds: rounds of an arm.
        most: prompts there are.
    """
    if estimate is None:
        return Size(min(16, most), HELD_OUT[-1], seconds)
    a_round = 3600 * estimate["round"]["hours"]["value"] / PROBE_PROMPTS
    evaluation = max(0.0, 3600 * estimate["job"]["hours"]["value"] - rounds * PROBE_PROMPTS * a_round)
    each = evaluation / ((rounds + 1) * DEVELOPMENT)  # a held-out problem, answered once
    a_prompt = rounds * a_round * (1 + ROUNDS_OF_CONTROLS)
    versions = 3 * (rounds + 1)
    for problems in HELD_OUT:
        measuring = each * (4 * problems + versions * DEVELOPMENT)  # the base and three last versions
        if measuring <= seconds / 2 or problems == HELD_OUT[-1]:
            break
    prompts = int(max(0.0, seconds - measuring) / a_prompt) if a_prompt else most
    prompts = max(8, min(prompts, most))
    return Size(prompts, problems, measuring + prompts * a_prompt)


def best_stages(forecast: Mapping[str, Any] | None, n: int) -> list[Any]:
    """Return `cascade.stages` of the verifier whose gain has the highest lower bound; agreement without a forecast."""
    options = [option for option in (forecast or {}).get("options", []) if option["n"] == n]
    name = max(options, key=lambda option: option["low"])["verifier"] if options else "agreement_2"
    if name in ("cascade", "judges"):
        return ["cycle_consistency", "factuality", "correctness"]
    parts = name.split("+")
    return [{"type": "agreement", "count": int(part.split("_")[1])} if "agreement" in part else part for part in parts]


@dataclass(frozen=True)
class Run:
    """One run of the script: its options, its folder, and its end.

    Attributes:
        options: the command line.
        out: folder of everything it writes.
        deadline: monotonic time at which the run has to end.
    """

    options: argparse.Namespace
    out: Path
    deadline: float

    def left(self, share: float = 1.0) -> float:
        """Seconds until a share of the time is over."""
        whole: float = 60.0 * self.options.minutes
        return max(1.0, self.deadline - (1 - share) * whole - time.monotonic())

    def command(self, *words: str, share: float = 1.0) -> str | None:
        """Run `svd-loop` in the folder; returns its stdout, or None if it had to be stopped.

        Raises:
            SystemExit: it failed.
        """
        line = [sys.executable, "-m", "svd_loop.cli", *words]
        with (self.out / "log.txt").open("a") as log, PeakMemory(self.out / "memory.json", words[0]):
            print(f"$ svd-loop {' '.join(words)}", file=log, flush=True)
            child = subprocess.Popen(line, cwd=self.out, stdout=subprocess.PIPE, stderr=log, text=True)
            try:
                printed, _ = child.communicate(timeout=self.left(share))
            except subprocess.TimeoutExpired:
                child.send_signal(signal.SIGINT)  # it ends after its chunk, and everything so far is written
                try:
                    child.communicate(timeout=max(5.0, 0.05 * 60 * self.options.minutes))
                except subprocess.TimeoutExpired:
                    child.kill()
                    child.communicate()
                return None
        if child.returncode:
            with (self.out / "log.txt").open("a") as log:
                log.write(f"\n{printed}")
            raise SystemExit(f"svd-loop {' '.join(words)} failed; the end of {self.out / 'log.txt'} says why")
        return printed

    def stored(self, name: str) -> Any:
        """Return what a stage of an earlier run wrote, or None."""
        path = self.out / f"{name}.json"
        return json.loads(path.read_text()) if path.is_file() else None

    def store(self, name: str, value: Any) -> Any:
        """Write what a stage found, and return it."""
        (self.out / f"{name}.json").write_text(json.dumps(value, indent=1))
        return value


def base_job(run: Run) -> dict[str, Any]:
    """The probed job: small rounds of four candidates, greedy held-out answers, LoRA from the base."""
    options = run.options
    embedded = options.checkpoint == "nano"
    source: dict[str, Any] = {"type": "nano", "count": 400} if embedded else _files("prompts.jsonl")
    held_out = {"type": "nano", "count": 16} if embedded else {**_files("development.jsonl"), "limit": DEVELOPMENT}
    checkpoint = "nano" if embedded else str(Path(options.checkpoint).resolve())
    longest = 96 if embedded else 400
    job: dict[str, Any] = {
        "job": {"name": "one-gpu", "rounds": options.rounds, "root": "mlruns"},
        "model": {"path": checkpoint, "max_context": 512 if embedded else 4096, "dtype": "auto"},
        "engine": {"type": options.engine},
        "data": {"train": source, "development": held_out, "test": held_out, "prompts_per_round": PROBE_PROMPTS},
        "sampling": {"n": 4, "max_tokens": longest, "temperature": 0.8, "top_p": 0.95},
        "cascade": {"votes": 1, "judge": {"max_tokens": min(longest, 256)}},
        "health": {"canaries": 2, "verify": 0},
        "update": {"learning_rate": 2e-4, "epochs": 3, "batch_size": 16, "micro_batch_size": 4, "max_length": 1024},
        "evaluation": {"samples": 1, "sampling": {"temperature": 0, "max_tokens": longest}},
        "tracking": {"enabled": False},
    }
    if embedded:
        job["model"]["templates"] = "nano"
        job["update"]["max_length"] = 512
        job["sampling"]["temperature"] = 1.0
    else:
        job["update"] |= {"method": "lora", "lora": {"rank": 32, "alpha": 64}, "start": "base", "bf16": True}
    return job


def _files(*names: str) -> dict[str, Any]:
    return {"type": "files", "paths": [f"gsm8k/{name}" for name in names], "domain": "math"}


def prepare(run: Run) -> None:
    """Write prompts and held-out rows; the last rows of the training split are the development split."""
    if run.options.checkpoint == "nano" or (run.out / "gsm8k" / "held-out.jsonl").is_file():
        return
    run.command("data", "prepare", "gsm8k", "--from", str(Path(run.options.gsm8k).resolve()), "--to", "gsm8k")
    folder = run.out / "gsm8k"
    prompts = (folder / "train.prompts.jsonl").read_text().splitlines(keepends=True)
    answered = (folder / "train.jsonl").read_text().splitlines(keepends=True)
    (folder / "prompts.jsonl").write_text("".join(prompts[:-DEVELOPMENT]))
    (folder / "development.jsonl").write_text("".join(answered[-DEVELOPMENT:]))
    (folder / "held-out.jsonl").write_text((folder / "test.jsonl").read_text())


def check(run: Run) -> dict[str, Any]:
    """Probe the model; returns the check's JSON, or {} where the time for it was over."""
    found = run.stored("check")
    if found is None:
        _write_yaml(run.out / "job.yaml", base_job(run))
        changed = [word for item in run.options.override for word in ("-o", item)]
        probed = ("--probe", str(run.options.probe))
        printed = run.command("check", "job.yaml", "--json", *probed, *changed, share=CHECK_SHARE)
        found = run.store("check", json.loads(printed) if printed else {})
    return dict(found)


def plan(run: Run, checked: Mapping[str, Any]) -> Size:
    """Choose size and verifier, and write the sweep's file; an earlier run's choice stays."""
    if (found := run.stored("size")) is not None:
        return Size(**found)
    embedded = run.options.checkpoint == "nano"
    most = 1200 if embedded else 7000
    size = sized(checked.get("estimate"), MARGIN * run.left(PLAY_SHARE), rounds=run.options.rounds, most=most)
    test = {"type": "nano", "count": max(1, size.problems // 3)} if embedded else None
    every = {
        "data.prompts_per_round": size.prompts,
        "data.test": test or {**_files("held-out.jsonl"), "limit": size.problems},
        **{key: yaml.safe_load(value) for key, _, value in (item.partition("=") for item in run.options.override)},
    }
    hot = {"sampling.n": 1, "sampling.temperature": 1.6, "sampling.top_p": 0.8, "sampling.top_k": 20}
    arms = {
        "method": {"says": "the verifier", "set": {"cascade.stages": best_stages(checked.get("forecast"), 4)}},
        "random": {"says": "as many rows, accepted at random", "accepts_as": "method"},
        "hot": {"says": "unverified, hot sampling", "control": {"type": "random"}, "set": hot},
    }
    sweep = {"name": "arms", "config": "job.yaml", "seeds": [1], "control": "random", "set": every, "arms": arms}
    _write_yaml(run.out / "sweep.yaml", sweep)
    run.store("size", asdict(size))
    return size


def _write_yaml(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(yaml.safe_dump(dict(value), sort_keys=False))


def main(arguments: Sequence[str] | None = None) -> None:
    """Run all stages within the time, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", help="folder, GGUF file, or nano")
    parser.add_argument("--gsm8k", type=Path, help="folder or package with GSM8K, as `svd-loop data prepare` reads it")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--probe", type=int, default=24, help="candidates that the check judges")
    parser.add_argument("--engine", default="transformers", help="transformers, or vllm where it is installed")
    parser.add_argument("--out", type=Path, default=Path("build/one-gpu"))
    parser.add_argument("-o", dest="override", action="append", default=[], metavar="KEY=VALUE")
    options = parser.parse_args(arguments)
    if options.checkpoint != "nano" and options.gsm8k is None:
        parser.error("--gsm8k FOLDER is needed: prompts and held-out problems of a real model are GSM8K's")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    options.out.mkdir(parents=True, exist_ok=True)
    run = Run(options, options.out.resolve(), time.monotonic() + 60.0 * options.minutes)
    prepare(run)
    size = plan(run, check(run))
    # Without --json a sweep draws its plots, which the page does not need.
    finished = run.command("sweep", "sweep.yaml", "--root", "mlruns", "--json", share=PLAY_SHARE) is not None
    page = write_page(run.out, options.checkpoint, asdict(size), finished=finished)
    print(page.read_text())


if __name__ == "__main__":
    main()
