"""Engines over small misbehaving servers, and what they are asked and should answer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from policies.engines.served.server import ServerEngine
from policies.engines.serving import Served
from svd_loop.config.engines import ServerEngineSection
from svd_loop.contracts import FinishReason, Generation, GenerationRequest, Sampling
from tests.policies.engines.completion_server import STOP, CompletionServer, reference, sampled

BASE = Served(Path("/versions/base"), "round-000-abc", 0)
QUICK = {"backoff_seconds": 0.0, "heartbeat_seconds": 0.2, "recovery_seconds": 0.0, "request_seconds": 20.0}


def open_engine(
    *servers: CompletionServer, served: Served = BASE, weights: str = "base", **settings: Any
) -> ServerEngine:
    section = ServerEngineSection(endpoints=tuple(server.url for server in servers), **{**QUICK, **settings})
    return ServerEngine(
        served,
        section,
        dtype="float32",
        max_context=256,
        stop_ids=[STOP],
        probe_prompts=[(3, 4, 5, 6), (9, 8, 12)],
        reference=reference(weights),
    )


def rows(count: int, max_tokens: int = 50) -> list[GenerationRequest]:
    return [GenerationRequest((index % 10 + 1, 2, index), Sampling(max_tokens), 1000 + index) for index in range(count)]


def expected(requests: list[GenerationRequest]) -> list[Generation]:
    answers = [sampled(list(row.prompt_ids), row.seed, row.sampling.max_tokens) for row in requests]
    return [Generation(tuple(ids), FinishReason(finish)) for ids, finish in answers]


Servers = Callable[..., CompletionServer]
