"""How long the pages of the viewer take on a ledger with many votes.

    python -m benchmarks.viewer [--votes 10000] [--folder DIR] > viewer.json

Writes a job with one round of that many votes through the ledger's own writer (all in one round, which is the worst
case for its pages), serves it, and asks for every kind of page over HTTP. A page's first time includes what the viewer
computes once for a round; the median is of the next five, and so is the processor time, which other work on the machine
changes little.
"""

from __future__ import annotations

import argparse
import http.client
import json
import random
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any
from urllib.parse import urlsplit

import uvicorn

from svd_loop.config import parse_config
from svd_loop.contracts import (
    AgentCall,
    CallId,
    Candidate,
    Episode,
    Estimate,
    FinishReason,
    JobPaths,
    Message,
    PolicyVersion,
    Prompt,
    Rejection,
    Reply,
    Role,
    RoundRecord,
    Scores,
    Stage,
    TrainingRow,
    UpdateResult,
    Verdict,
    Vote,
    VoteValue,
)
from svd_loop.ledger import Ledger, LedgerReader
from svd_loop.viewer.app import make_app

N, V = 8, 8
"""Candidates of a prompt, and the most votes on one."""
STAGES = (Stage.CYCLE_CONSISTENCY, Stage.FACTUALITY, Stage.CORRECTNESS)
BASE, TRAINED = PolicyVersion(0, "0a" * 32), PolicyVersion(1, "1b" * 32)
PROBLEMS, SAMPLES = 500, 4
CHUNK = 4096


def made_round(votes: int) -> tuple[list[Prompt], list[Candidate], list[Verdict]]:
    """Prompts with candidates of about 300 characters, and votes of about 120 until the first no."""
    draw = random.Random(0)
    prompts: list[Prompt] = []
    candidates: list[Candidate] = []
    verdicts: list[Verdict] = []
    cast = 0
    while cast < votes:
        id = f"{draw.getrandbits(64):016x}"
        a, b = draw.randint(10, 999), draw.randint(10, 999)
        domain = draw.choice(("math", "science", "coding"))
        prompts.append(Prompt(id, f"A train carries {a} people and {b} more get on at {id[:6]}. How many?", domain))
        for index in range(N):
            text = f"First {a} people ride. " * 6 + f"Then $ {a} + {b} = {a + b + index} $. \\boxed{{{a + b + index}}}"
            candidate = Candidate(id, index, text, FinishReason.STOP, BASE, (a, b), tuple(range(index, index + 60)))
            candidates.append(candidate)
            verdicts.append(_judged(candidate, draw))
            cast += len(verdicts[-1].votes)
    return prompts, candidates, verdicts


def _judged(candidate: Candidate, draw: random.Random) -> Verdict:
    yes = V if draw.random() < 0.9 else draw.randrange(V)
    votes = [_vote(candidate, place, VoteValue.YES, draw) for place in range(yes)]
    if yes == V:
        return Verdict(candidate.prompt_id, candidate.index, True, votes=tuple(votes))
    no = _vote(candidate, yes, VoteValue.NO, draw)
    return Verdict(candidate.prompt_id, candidate.index, False, Rejection.VOTE, no.stage, no.vote, (*votes, no))


def _vote(candidate: Candidate, place: int, value: VoteValue, draw: random.Random) -> Vote:
    words = f"I recomputed step {draw.randint(1, 10**9)} of this solution, and every claim of it was looked at again. "
    mark = "[[Y]]" if value is VoteValue.YES else "[[N]]"
    return Vote(candidate.prompt_id, candidate.index, STAGES[place // 3], place % 3, value, words + mark)


def answers(candidates: list[Candidate], verdicts: list[Verdict]) -> Iterator[tuple[str, AgentCall, Reply]]:
    """The calls behind the round, and held-out answers of both versions."""
    draw = random.Random(1)
    for candidate, verdict in zip(candidates, verdicts, strict=True):
        id = CallId("train", 1, Role.SOLVER, candidate.prompt_id, candidate.index)
        yield _answer(id, candidate.text, BASE, draw)
        for vote in verdict.votes:
            id = CallId("train", 1, Role.GRADER, candidate.prompt_id, candidate.index, vote.stage, vote.vote)
            yield _answer(id, vote.text, BASE, draw)
    for version in (BASE, TRAINED):
        for problem in range(PROBLEMS):
            for sample in range(SAMPLES):
                id = CallId("development", 0, Role.SOLVER, f"held-{problem:05d}", sample)
                yield _answer(id, f"The answer is \\boxed{{{problem}}}", version, draw)


def _answer(id: CallId, text: str, version: PolicyVersion, draw: random.Random) -> tuple[str, AgentCall, Reply]:
    reply = Reply(id, text, FinishReason.STOP, version, (1, 2, 3, 4), (5, 6, 7), 40, 30)
    return draw.randbytes(32).hex(), AgentCall(id, (Message("user", ""),), "chat/0123456789ab"), reply


def write_job(folder: Path, votes: int) -> None:
    """Write the job."""
    data = {"type": "arithmetic", "count": 8}
    config = parse_config(
        {
            "job": {"name": folder.name},
            "model": {"path": "nano"},
            "engine": {"type": "scripted"},
            "data": {"train": data, "development": data | {"seed": 1}},
        }
    )
    ids = tuple(f"held-{number:05d}" for number in range(PROBLEMS))
    right = tuple(number % (SAMPLES + 1) for number in range(PROBLEMS))
    estimates = {"overall": {"pass@1": Estimate(0.5, 0.45, 0.55)}}
    scores = Scores("development", SAMPLES, ids, ("math",) * PROBLEMS, right, estimates)
    prompts, candidates, verdicts = made_round(votes)
    accepted = [one for one, verdict in zip(candidates, verdicts, strict=True) if verdict.accepted]
    selected = list({one.prompt_id: one for one in reversed(accepted)}.values())
    rows = [TrainingRow((1, 2, 3), 1, "accepted", one.prompt_id, one.index, 1, "math") for one in selected]
    record = RoundRecord(1, TRAINED, scores, len(selected), len(prompts), len(rows))
    folder.mkdir(parents=True)
    with Ledger.open(folder, config) as ledger:
        ledger.record_prompts(prompts)
        chunk = []
        for answer in answers(candidates, verdicts):
            chunk.append(answer)
            if len(chunk) == CHUNK:
                ledger.record(chunk)
                chunk = []
        ledger.record(chunk)
        ledger.commit_round(replace(record, round=0, version=BASE, prompts=0, rows=0), None, (), None)
        episode = Episode(1, len(prompts), tuple(candidates), tuple(verdicts), tuple(selected))
        ledger.commit_round(record, episode, rows, UpdateResult(TRAINED, Path("versions/round-001"), len(rows), 9))


def paths(middle: str) -> dict[str, str]:
    """Pages by a name for people."""
    list_of = "/round/1/prompts"
    return {
        "first page": "/",
        "round": "/round/1",
        "prompts, first page": list_of,
        "prompts, from the middle": f"{list_of}?after={middle}",
        "prompts, domain": f"{list_of}?domain=science",
        "prompts, a vote pattern": f"{list_of}?votes=yyyn",
        "prompts, refused at a stage": f"{list_of}?stage=factuality",
        "prompts, a filter that nothing matches": f"{list_of}?votes=nnn",
        "prompts, words in every vote": f"{list_of}?text=recomputed",
        "prompts, words that occur nowhere": f"{list_of}?text=zebra",
        "one prompt with its neighbours": f"/round/1/prompt/{middle}",
        "one prompt, within a filter": f"/round/1/prompt/{middle}?votes=yyyn",
        "held-out answers": "/round/1/held-out",
        "one held-out problem": "/round/1/held-out/held-00250",
        "newest replies": "/replies",
        "an id's beginning": f"/find?id={middle[:6]}",
        "pulse (asked every 2 s)": "/pulse",
    }


def timed(address: str, path: str, times: int) -> tuple[list[float], float]:
    """Seconds of each of several requests for a page, and processor seconds of one but the first."""
    found: list[float] = []
    used = 0.0
    for _ in range(times):
        connection = http.client.HTTPConnection(str(urlsplit(address).netloc), timeout=300)
        start, before = time.perf_counter(), time.process_time()
        connection.request("GET", path)
        answer = connection.getresponse()
        answer.read()
        used += time.process_time() - before if found else 0.0
        found.append(time.perf_counter() - start)
        connection.close()
        if answer.status not in (200, 303):
            raise SystemExit(f"{path}: {answer.status}")
    return found, used / (times - 1)


def measure(folder: Path, middle: str) -> dict[str, Any]:
    """Serve the job and time its pages, in milliseconds."""
    server = uvicorn.Server(uvicorn.Config(make_app(folder), port=0, log_level="error", lifespan="on"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    address = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    pages = {}
    for name, path in paths(middle).items():
        (first, *rest), used = timed(address, path, 6)
        figures = {"first": first, "median": median(rest), "longest": max(rest), "processor": used}
        pages[name] = {figure: round(1000 * value, 1) for figure, value in figures.items()}
    server.should_exit = True
    thread.join()
    return pages


def main() -> None:
    """Print the times as JSON; what is going on goes to stderr."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--votes", type=int, default=10_000)
    parser.add_argument("--folder", type=Path, help="keep the job there, and use it again")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.folder or Path(scratch) / "viewed"
        if not JobPaths(folder).ledger.exists():
            print(f"writing {options.votes:,} votes", file=sys.stderr)
            write_job(folder, options.votes)
        with LedgerReader.open_for_reading(folder) as reader:
            counts = next(
                reader.query("SELECT (SELECT count(*) FROM votes) AS votes, (SELECT count(*) FROM answers) AS replies")
            )
            query = "SELECT id FROM prompts ORDER BY id LIMIT 1 OFFSET (SELECT count(*) / 2 FROM prompts)"
            middle = next(reader.query(query))["id"]
        size = sum(file.stat().st_size for file in folder.glob("ledger.sqlite*"))
        print(json.dumps({**counts, "ledger_mb": round(size / 1e6, 1), "pages_ms": measure(folder, middle)}, indent=2))


if __name__ == "__main__":
    main()
