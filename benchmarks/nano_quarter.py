"""Weekly drops of prompts for nano: real weights, the real registry, the real gate, and what becomes of it all.

Every drop holds new problems, some of the week before again, one held-out problem; the second one comes with a file
that was cut off. The first champion is nano itself. Prints one JSON object: how each week ended and why, the prompts
by fate, and the model's history. `python -m benchmarks.nano_quarter --root DIR`; a test plays three small weeks.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.controls import REPOSITORY
from envs.problems.nano import DOMAINS, generate
from policies.versions.weights import WeightStore
from svd_loop.assembly.job import template_set
from svd_loop.config import Config, load_config
from svd_loop.contracts import RootPaths
from svd_loop.mlflow_store.connection import open_store
from svd_loop.mlflow_store.packaging import make_loadable
from svd_loop.mlflow_store.registry import Registry
from svd_loop.mlflow_store.tags import manifest_tags
from svd_loop.nano import NANO_CHECKPOINT
from svd_loop.promotion.history import model_history
from svd_loop.promotion.lookup import registry_of
from svd_loop.promotion.promotion import consider
from svd_loop.schedule import RegisteredModels, Schedule, StateDb, schedule_folder, schedule_health

MODEL = "nano"
START, WEEK = 1_750_000_000.0, 7 * 86_400.0
AGAIN = 2
"""Prompts of the week before that come once more, by domain."""


@dataclass(frozen=True, slots=True)
class Quarter:
    """What was played: the configuration of the schedule, and rows that were dropped and can be read."""

    config: Config
    dropped: int
    weeks: tuple[dict[str, Any], ...]


def play(root: Path, weeks: int, prompts: int, overrides: Sequence[str] = ()) -> Quarter:
    """Play weeks of `prompts` new prompts by domain; nano is registered as the first champion."""
    settings = [
        f"job.root={root}",
        f"schedule.model={MODEL}",
        "schedule.settle_seconds=0",
        "tracking.enabled=true",
        f"schedule.min_prompts={prompts * len(DOMAINS)}",
        *overrides,
    ]
    config = load_config(REPOSITORY / "configs" / "nano.yaml", settings)
    register_nano(config)
    inbox, dropped, ends = root / "inbox", 0, []
    inbox.mkdir(parents=True)
    for week in range(1, weeks + 1):
        now = START + week * WEEK
        dropped += drop(inbox, week, prompts, config, now)
        models = RegisteredModels(config, MODEL)
        schedule = Schedule(config, inbox, gate=consider, models=models, clock=partial(float, now))
        report = schedule.tick().as_dict()
        ends.append({"week": week, "action": report["action"], "intake": report["intake"], "job": report["job"]})
    return Quarter(config, dropped, tuple(ends))


def register_nano(config: Config) -> None:
    """Make the embedded checkpoint the first version and champion."""
    store = WeightStore(RootPaths(config.job.root).job("start").versions)
    base = store.add_base(NANO_CHECKPOINT)
    make_loadable(base.path, config, template_set(config))
    opened = open_store(config.tracking.uri, config.job.root, config.tracking.experiment)
    run = opened.client.create_run(opened.experiment_id)
    tags = {"svd_loop.job": "start", "svd_loop.round": "0", **manifest_tags(base.path)}
    registry = Registry(opened.client)
    registry.nominate(
        registry.register(MODEL, base.path, fingerprint=base.version.fingerprint, run_id=run.info.run_id, tags=tags)
    )


def drop(inbox: Path, week: int, prompts: int, config: Config, now: float) -> int:
    """Write a week's files into the inbox; returns how many readable rows they hold."""
    rows = list(_rows("train", prompts, week))
    if week > 1:
        rows += _rows("train", AGAIN, week - 1)
    assert config.data.test is not None and config.data.test.type == "nano"
    leaked = generate("math", "test", config.data.test.count, config.data.test.seed)[0]
    rows.append({"prompt": leaked.question, "domain": "math"})
    _write(inbox / f"week-{week}.jsonl", "".join(json.dumps(row) + "\n" for row in rows), now)
    if week != 2:
        return len(rows)
    cut = "".join(json.dumps(row) + "\n" for row in _rows("train", 1, 99))
    _write(inbox / "cut.jsonl", cut[:-9], now)
    return len(rows) + len(DOMAINS) - 1


def _rows(split: Any, count: int, seed: int) -> Iterator[dict[str, str]]:
    for domain in DOMAINS:
        for problem in generate(domain, split, count, seed):
            yield {"prompt": problem.question, "domain": domain}


def _write(path: Path, text: str, now: float) -> None:
    path.write_text(text, encoding="utf-8")
    os.utime(path, (now - 3600, now - 3600))


def summary(quarter: Quarter) -> dict[str, Any]:
    """What became of weeks, prompts and the model, as plain data."""
    with StateDb(schedule_folder(quarter.config)) as db:
        account, jobs = db.counts(), db.jobs()
    health = schedule_health(jobs, quarter.config.schedule.idle_jobs)
    return {
        "weeks": quarter.weeks,
        "dropped": quarter.dropped,
        "prompts": account,
        "health": asdict(health),
        "history": model_history(registry_of(quarter.config), MODEL),
    }


def main() -> None:
    """Play and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=REPOSITORY / "mlruns" / "nano-quarter", help="a new folder")
    parser.add_argument("--weeks", type=int, default=3)
    parser.add_argument("--prompts", type=int, default=150, help="new prompts by domain and week")
    parser.add_argument("-o", "--override", action="append", default=[])
    options = parser.parse_args()
    overrides = ["job.rounds=3", *options.override]
    json.dump(summary(play(options.root, options.weeks, options.prompts, overrides)), sys.stdout, indent=2)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
