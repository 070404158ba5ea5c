"""How fast, and in how much memory, prompts pass the door.

    python benchmarks/ingestion.py --prompts 1000000 --gsm8k ../shared/data/gsm8k

Writes a file of made prompts (templates with drawn numbers, and free text drawn from real words) with GSM8K's
training questions and planted duplicates among them, then measures two things in one process each: plain reading
(`json.loads` of every line) and the whole way into a pool (reading, normalising, leak check against GSM8K's test set,
both kinds of deduplication). Rates are per second of CPU time, which other work on the machine does not change; wall
time is given beside it. Prints one JSON object. Exit code 1 when the peak resident memory exceeds `--limit-mib`.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import random
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_DUPLICATE_SHARE = 0.02
_TEMPLATES = (
    "{name} has {a} {thing} and buys {b} more every day for {c} days. After giving {d} {thing} to {other}, how many "
    "{thing} does {name} have left, and how many would be left if {other} gave half of them back?",
    "A shop sells {thing} at {a} dollars each. On Monday {name} bought {b}, on Tuesday {c} more at a discount of "
    "{d} percent. How much did {name} spend in all, and how much would {other} have paid without the discount?",
)
_NAMES = ("Ada", "Bela", "Chidi", "Dara", "Emeka", "Farid", "Gwen", "Hana", "Ines", "Jonas", "Keiko", "Lars")
_THINGS = ("apples", "books", "candles", "drums", "eggs", "flags", "gloves", "hats", "kites", "lamps", "nuts")


def main() -> int:
    arguments = _arguments()
    questions = _questions(arguments.gsm8k / "train.jsonl")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        file = folder / "prompts.jsonl"
        _write(file, arguments.prompts, questions, random.Random(arguments.seed))
        plain = _in_process(_read_plainly, file)
        pool = _in_process(_build, file, arguments.gsm8k / "test.jsonl", folder / "prompts.sqlite")
        size = file.stat().st_size
    rates = {"plain": arguments.prompts / plain["cpu_seconds"], "pool": arguments.prompts / pool["cpu_seconds"]}
    result = {
        "prompts": arguments.prompts,
        "file_mib": round(size / 2**20, 1),
        "plain": {**plain, "prompts_per_cpu_second": round(rates["plain"])},
        "pool": {**pool, "prompts_per_cpu_second": round(rates["pool"])},
        "times_plain_reading": round(rates["plain"] / rates["pool"], 1),
        "limit_mib": arguments.limit_mib,
    }
    sys.stdout.write(json.dumps(result, indent=2) + "\n")
    return int(pool["peak_mib"] > arguments.limit_mib)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=100_000)
    parser.add_argument("--gsm8k", type=Path, default=Path("../shared/data/gsm8k"), help="its folder")
    parser.add_argument("--limit-mib", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def _questions(file: Path) -> list[str]:
    with file.open(encoding="utf-8") as lines:
        return [json.loads(line)["question"] for line in lines]


def _write(file: Path, count: int, questions: list[str], rng: random.Random) -> None:
    words = sorted({word for question in questions for word in question.split()})
    recent: list[str] = []
    real = iter(questions)
    with file.open("w", encoding="utf-8") as stream:
        for number, made in zip(range(count), _made(words, rng), strict=False):
            text = made
            if number % 13 == 0:
                text = next(real, made)
            elif recent and rng.random() < _DUPLICATE_SHARE:
                text = rng.choice(recent).upper()
            recent = [*recent[-99:], text]
            stream.write(json.dumps({"prompt": text, "id": number, "answer": "0"}) + "\n")


def _made(words: list[str], rng: random.Random) -> Iterator[str]:
    while True:
        numbers = {key: rng.randint(2, 9999) for key in "abcd"}
        name, other = rng.sample(_NAMES, 2)
        yield rng.choice(_TEMPLATES).format(name=name, other=other, thing=rng.choice(_THINGS), **numbers)
        yield " ".join(rng.choices(words, k=rng.randint(20, 70)))


def _in_process(work: Any, *arguments: Path) -> dict[str, Any]:
    """Run `work` in a fresh process, so that its peak memory is its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        result: dict[str, Any] = pool.apply(_measured, (work, arguments))
    return result


def _measured(work: Any, arguments: tuple[Path, ...]) -> dict[str, Any]:
    wall, cpu = time.perf_counter(), time.process_time()
    counts = work(*arguments)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"cpu_seconds": round(cpu, 2), "wall_seconds": round(wall, 2), "peak_mib": round(peak, 1), **counts}


def _read_plainly(file: Path) -> dict[str, Any]:
    with file.open(encoding="utf-8") as lines:
        return {"read": sum("prompt" in json.loads(line) for line in lines)}


def _build(file: Path, test_set: Path, pool_file: Path) -> dict[str, Any]:
    from dataclasses import asdict

    from envs.prompts import build_pool, read_problems, read_prompts
    from svd_loop.config.data import DedupSection, FieldMap, FilesSource, LeakSection
    from svd_loop.contracts import Domain

    fields = FieldMap(prompt="question")
    held_out = FilesSource(paths=(str(test_set),), domain=Domain.MATH, fields=fields, answer_pattern="#### (.+)$")
    prompts = read_prompts(FilesSource(paths=(str(file),), domain=Domain.MATH))
    problems = read_problems(held_out)
    pool = build_pool(
        prompts, problems, pool_file, dedup=DedupSection(), leak=LeakSection(action="drop"), digest="benchmark"
    )
    return {"report": asdict(pool.report), "pool_mib": round(pool_file.stat().st_size / 2**20, 1)}


if __name__ == "__main__":
    sys.exit(main())
