"""What comes from outside, made to do harm: server replies, inbox files, configurations and checkpoints.

    OMP_NUM_THREADS=1 python -m benchmarks.hostile_inputs [--count 2000] [--seed 0] [--json]

Half of the inputs are replies of a server on this machine to the served engine, the others are files: a third each goes
through a schedule's inbox, as a configuration, and as a checkpoint. Each is made by spoiling a good one with random
bytes, cuts, nesting, numbers, names and expansions. For every input there must be one clear error or a quarantine (or a
good result, where the spoiling left the input good): a traceback, more than ten seconds of processor time, or more than
1 GiB of memory is a failure, and is listed.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import random
import resource
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zstandard
from aiohttp import web

from policies.versions.inspection import usable_checkpoint
from svd_loop.config import load_config
from svd_loop.errors import SvdError
from svd_loop.nano import NANO_CHECKPOINT
from svd_loop.schedule import Inbox, StateDb
from tests.policies.engines.completion_server import CompletionServer
from tests.policies.engines.server_engines import open_engine, rows
from tests.svd_loop.schedule.schedule_support import START, schedule_config

SECONDS = 10.0
MEMORY_KIB = 2**20
ODD: tuple[Any, ...] = (
    None,
    True,
    -1,
    5.0,
    10**30,
    float("nan"),
    "",
    "x" * 10_000,
    [],
    [[]],
    {},
    {"a": None},
    "\x00",
    "\u202e",
    [None],
)
GOOD_REPLY: dict[str, Any] = {
    "choices": [{"token_ids": [11, 12, 2], "finish_reason": "stop", "prompt_token_ids": [1, 2, 0]}],
    "usage": {"prompt_tokens_details": {"cached_tokens": 1}},
}


@dataclass(frozen=True, slots=True)
class Result:
    """One input: what it was, and what came of it: `good`, `error`, `quarantined`, or a failure in words."""

    kind: str
    outcome: str


def main() -> None:
    """Run and print a table, or one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    results = list(play(arguments.count, random.Random(arguments.seed)))
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    table = Counter((result.kind, result.outcome) for result in results)
    failures = [result for result in results if result.outcome not in ("good", "error", "quarantined")]
    found = {
        "inputs": len(results),
        "outcomes": {f"{kind}: {outcome}": count for (kind, outcome), count in sorted(table.items())},
        "failures": len(failures),
        "memory_mib": grown // 1024,
    }
    print(json.dumps(found, indent=None if arguments.json else 1))
    sys.exit(1 if failures or grown > MEMORY_KIB else 0)


def play(count: int, draw: random.Random) -> Iterator[Result]:
    """All inputs, one after the other."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        yield from replies(count // 2, draw)
        third = count // 6
        for kind, use in (("inbox file", inbox_file), ("configuration", configuration), ("checkpoint", checkpoint)):
            for number in range(third):
                yield Result(kind, outcome_of(lambda use=use, number=number: use(root / f"{number}", draw)))  # type: ignore[misc]


def outcome_of(use: Callable[[], str]) -> str:
    """What came of one input; whatever is no error of ours is a failure."""
    start = time.process_time()
    try:
        outcome = use()
    except SvdError as error:
        outcome = "error" if 0 < len(str(error)) < 3000 and "Traceback" not in str(error) else f"unclear: {error}"[:200]
    except Exception as error:
        outcome = f"traceback: {type(error).__name__}: {error}"[:200]
    taken = time.process_time() - start
    return outcome if taken < SECONDS else f"took {taken:.0f} s"


# ------------------------------------------------------------------------------------------------- spoiling


def spoiled(value: Any, draw: random.Random) -> Any:
    """A copy of a JSON value with one place in it replaced, removed, doubled or nested."""
    if isinstance(value, dict) and value and draw.random() < 0.8:
        name = draw.choice(sorted(value))
        rest = {key: inner for key, inner in value.items() if key != name}
        return rest if draw.random() < 0.15 else {**rest, name: spoiled(value[name], draw)}
    if isinstance(value, list) and value and draw.random() < 0.7:
        place = draw.randrange(len(value))
        return [*value[:place], spoiled(value[place], draw), *value[place + 1 :]]
    if draw.random() < 0.1:
        return [value] * draw.choice((2, 60, 5000) if len(str(value)) < 1000 else (2, 3))
    return draw.choice(ODD)


def spoiled_bytes(content: bytes, draw: random.Random) -> bytes:
    """A copy of some bytes: cut, with bits flipped, with noise, nested, repeated, or replaced."""
    match draw.randrange(7):
        case 0:
            return content[: draw.randrange(len(content) + 1)]
        case 1:
            changed = bytearray(content)
            for _ in range(draw.choice((1, 5, 50))):
                changed[draw.randrange(len(changed))] ^= 1 << draw.randrange(8)
            return bytes(changed)
        case 2:
            return draw.randbytes(draw.randrange(2000))
        case 3:
            return draw.choice((b"[", b'{"a":', b"(", b"\\boxed{", b"- ")) * draw.choice((100, 50_000))
        case 4:
            return content + draw.randbytes(draw.randrange(1, 200))
        case 5:
            return content * draw.choice((2, 3))
        case _:
            return draw.choice((b"", b"\0" * 1000, b"\xff\xfe" * 500, b"9" * 20_000, b"null", b"<html></html>"))


# ---------------------------------------------------------------------------------------------------- uses


def replies(count: int, draw: random.Random) -> Iterator[Result]:
    """Spoiled replies to an engine; a fresh engine each time, since an error ends one."""
    server = CompletionServer()
    try:
        for _ in range(count):
            fault = reply(draw)
            server.always = lambda body, fault=fault: web.Response(**fault)  # type: ignore[misc]
            yield Result("reply", outcome_of(lambda: asked(server)))
    finally:
        server.close()


def reply(draw: random.Random) -> dict[str, Any]:
    """The arguments of one response."""
    text = json.dumps(spoiled(GOOD_REPLY, draw)).encode()
    body = spoiled_bytes(text, draw) if draw.random() < 0.3 else text
    headers = draw.choice(
        (
            {},
            {"Content-Type": "application/json; charset=klingon"},
            {"Content-Encoding": "gzip"},
            {"Content-Type": "text/html"},
            {"Retry-After": draw.choice(("nan", "-5", "1e999", "soon", "Mon, 99 Jan 2020"))},
        )
    )
    status = draw.choice((200,) * 8 + (201, 302, 307, 400, 404, 418, 429, 500, 503))
    if status in (302, 307):
        headers = {**headers, "Location": "http://192.0.2.1/"}
    return {"body": body, "status": status, "headers": headers}


def asked(server: CompletionServer) -> str:
    """What an engine makes of the server's replies."""
    with closing(open_engine(server, retries=0)) as engine:
        engine.generate(rows(1))
    return "good"


def inbox_file(folder: Path, draw: random.Random) -> str:
    """One spoiled file taken in by a schedule of its own, and once more to see that the schedule goes on."""
    inbox = folder / "inbox"
    inbox.mkdir(parents=True)
    good = b"".join(
        json.dumps({"prompt": f"What is {draw.randrange(99)} + {draw.randrange(99)}?", "domain": "math"}).encode()
        + b"\n"
        for _ in range(20)
    )
    content = spoiled_bytes(good, draw) if draw.random() < 0.8 else (b"\n" * draw.choice((10, 5_000_000)))
    ending, pack = draw.choice(
        (
            (".jsonl", bytes),
            (".csv", bytes),
            (".parquet", bytes),
            (".jsonl.gz", gzip.compress),
            (".jsonl.zst", zstandard.compress),
        )
    )
    packed = pack(content)
    name = draw.choice((b"a", b"x" * 230, b"\xff\xfe", b"\n", "é".encode() * 100, b"[*]"))[: 250 - len(ending)]
    path = os.fsencode(inbox) + b"/" + name + ending.encode()
    if draw.random() < 0.1:
        os.mkfifo(path)
    else:
        Path(os.fsdecode(path)).write_bytes(packed[: len(packed) - draw.choice((0, 0, 3))])
    os.utime(path, (START - 7200, START - 7200))
    config = schedule_config(folder)
    with StateDb(folder / "schedule") as db:
        taken = Inbox(db, config, list).take_in(inbox, START)
        if Inbox(db, config, list).take_in(inbox, START).files or len(taken.files) != 1:
            return "left in the inbox"
    shutil.rmtree(folder)
    return "quarantined" if taken.quarantined else "good"


def configuration(folder: Path, draw: random.Random) -> str:
    """One spoiled configuration read."""
    path = folder.with_suffix(".yaml")
    source = Path(__file__).parents[1] / "configs" / draw.choice(("nano.yaml", "scripted.yaml", "qwen3-0.6b.yaml"))
    text = source.read_bytes()
    lines = text.split(b"\n")
    match draw.randrange(3):
        case 0:
            path.write_bytes(spoiled_bytes(text, draw))
        case 1:
            place = draw.randrange(len(lines))
            value = json.dumps(draw.choice(ODD)).encode()
            path.write_bytes(
                b"\n".join([*lines[:place], lines[place].partition(b":")[0] + b": " + value, *lines[place + 1 :]])
            )
        case _:
            path.write_bytes(
                text
                + b"\n"
                + draw.choice(
                    (b"job: {name: again}", b"x: &a [*a]", b"sampling: {n: true}", b"a: !!python/name:os.system")
                )
            )
    load_config(path)
    return "good"


def checkpoint(folder: Path, draw: random.Random) -> str:
    """One spoiled checkpoint looked at, and its tokenizer and template loaded where that passes."""
    from policies.text.chat import ChatCodec

    shutil.copytree(NANO_CHECKPOINT, folder / "model")
    names = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
    target = folder / "model" / draw.choice(names)
    content = target.read_bytes()
    if target.suffix == ".json" and draw.random() < 0.6:
        target.write_text(json.dumps(spoiled(json.loads(content), draw)))
    elif draw.random() < 0.1:
        target.unlink()
    else:
        target.write_bytes(spoiled_bytes(content, draw))
    ChatCodec.load(usable_checkpoint(folder / "model", folder / "store"))
    shutil.rmtree(folder)
    return "good"


if __name__ == "__main__":
    main()
