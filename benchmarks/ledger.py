"""What the ledger costs: writing and looking up a round's votes, against the time the engine takes for them.

    python -m benchmarks.ledger [--votes 100000] [--chunk 2048] [--calls-per-second 185]

The engine's speed defaults to a measured one: 5,000 judge calls in 27 s (a 1M-parameter checkpoint on 2
CPU cores). Larger models are slower by the call, which makes the ledger's share smaller.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from svd_loop.config import parse_config
from svd_loop.contracts import AgentCall, CallId, FinishReason, Message, PolicyVersion, Reply, Role, Stage
from svd_loop.ledger import Ledger
from svd_loop.ledger.answers import Answered

VERSION = PolicyVersion(3, "5f" * 32)
VOCABULARY = 151_936
INSTRUCTION = "".join(f"Rule {rule}: a claim counts as wrong if step {rule} of its check fails. " for rule in range(15))


def votes(count: int) -> Iterator[Answered]:
    """Judge replies of about 150 characters and 40 tokens; five votes share a prompt of about 300 tokens."""
    generator = random.Random(0)
    prompt_ids: tuple[int, ...] = ()
    words = ""
    for number in range(count):
        if number % 5 == 0:
            prompt_ids = tokens(INSTRUCTION + words)
        a, b, c = generator.randint(2, 99), generator.randint(2, 99), generator.randint(2, 999)
        text = generator.choice(
            (
                f"The solution multiplies {a} by {b} and gets {a * b}, then adds {c} to reach {a * b + c}. I "
                "recomputed each step and it agrees with what is claimed. [[Y]]",
                f"{a}*{b}:{a * b} {a * b}+{c}:{a * b + c + 1}! no, the second step is off by one; the total should be "
                f"{a * b + c}, so that the conclusion cannot be accepted as it stands. [[N]]",
                f"Both questions ask to find x with {a}x+{b}={c}: the same topic, the same requirements, and answering "
                "one of them would answer the other one too. [[Y]]",
            )
        )
        words = (words + text)[-300:]
        ids = tokens(text)
        id = CallId("train", 4, Role.GRADER, f"{number // 40:016x}", number // 5 % 8, Stage.CORRECTNESS, number % 5)
        call = AgentCall(id, (Message("user", "…"),), "chat/0123456789ab")
        reply = Reply(id, text, FinishReason.STOP, VERSION, prompt_ids, ids, len(prompt_ids), len(ids))
        yield generator.randbytes(32).hex(), call, reply


def tokens(text: str) -> tuple[int, ...]:
    """One id for four characters, as a tokenizer with a large vocabulary needs them."""
    return tuple(zlib.crc32(text[place : place + 4].encode()) % VOCABULARY for place in range(0, len(text), 4))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--votes", type=int, default=100_000)
    parser.add_argument("--chunk", type=int, default=2048)
    parser.add_argument("--calls-per-second", type=float, default=5000 / 27)
    options = parser.parse_args()

    made = list(votes(options.votes))
    keys = [key for key, _, _ in made]
    source = {"type": "arithmetic", "count": 8}
    config = parse_config(
        {"model": {"path": "nano"}, "engine": {"type": "scripted"}, "data": {"train": source, "development": source}}
    )
    with tempfile.TemporaryDirectory() as folder, Ledger.open(Path(folder), config) as ledger:
        chunks = [slice(start, start + options.chunk) for start in range(0, options.votes, options.chunk)]
        missed, missed_cpu = _seconds(lambda chunk: ledger.lookup(keys[chunk]), chunks)
        written, written_cpu = _seconds(lambda chunk: ledger.record(made[chunk]), chunks)
        read, read_cpu = _seconds(lambda chunk: ledger.lookup(keys[chunk]), chunks)
        size = sum(path.stat().st_size for path in Path(folder).iterdir())
    engine = options.votes / options.calls_per_second
    report = {
        "votes": options.votes,
        "seconds_looking_up_unknown": round(missed, 2),
        "seconds_writing": round(written, 2),
        "seconds_reading_back": round(read, 2),
        "cpu_seconds_writing": round(missed_cpu + written_cpu, 2),
        "cpu_seconds_reading_back": round(read_cpu, 2),
        "engine_seconds": round(engine, 1),
        "share_of_round_percent": round(100 * (missed + written) / engine, 2),
        "share_of_replayed_round_percent": round(100 * read / engine, 2),
        "bytes_per_vote": round(size / options.votes),
        "raw_text_bytes_per_vote": round(sum(len(reply.text) for _, _, reply in made) / options.votes),
    }
    sys.stdout.write(json.dumps(report, indent=2) + "\n")


def _seconds(work: Callable[[slice], object], chunks: Sequence[slice]) -> tuple[float, float]:
    """Wall-clock and processor seconds; the former mean little where other programs compete."""
    wall, cpu = time.monotonic(), time.process_time()
    for chunk in chunks:
        work(chunk)
    return time.monotonic() - wall, time.process_time() - cpu


if __name__ == "__main__":
    main()
