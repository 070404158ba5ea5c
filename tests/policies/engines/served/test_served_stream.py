"""Requests in flight at served replicas: as by `generate`, through drops, dead servers and refusals."""

from __future__ import annotations

import time
from contextlib import closing

import pytest

from svd_loop.contracts import Choice, FinishReason, Generation, GenerationRequest, GenerationStream, Sampling
from svd_loop.errors import EngineError
from tests.policies.engines.completion_server import STOP, error
from tests.policies.engines.server_engines import Servers, expected, open_engine, rows


def rest_of(stream: GenerationStream) -> dict[int, Generation]:
    found: dict[int, Generation] = {}
    while answers := stream.take():
        assert not found.keys() & dict(answers).keys()
        found.update(answers)
    return found


def test_requests_come_while_others_run_at_all_replicas(servers: Servers) -> None:
    one, other = servers(), servers()
    asked = rows(60)
    with closing(open_engine(one, other, concurrency=3)) as engine, closing(engine.stream()) as stream:
        assert (stream.slots, stream.take()) == (6, [])
        stream.put(list(enumerate(asked[:20])))
        found = dict(stream.take())
        stream.put(list(enumerate(asked[20:], start=20)))
        found |= rest_of(stream)
        assert engine.prefix_cache.prompt_tokens == 180
    assert [found[number] for number in range(60)] == expected(asked)
    assert one.asked and other.asked


def test_dropped_requests_are_aborted_and_not_answered(servers: Servers) -> None:
    server = servers()
    asked = rows(12)
    with closing(open_engine(server, concurrency=4)) as engine, closing(engine.stream()) as stream:
        server.hold.clear()
        stream.put(list(enumerate(asked)))
        while len(server.asked) < 4:  # these run, the others are queued
            time.sleep(0.001)
        stream.drop([0, 1, 2, 3, 10, 99])
        server.hold.set()
        assert sorted(rest_of(stream)) == [4, 5, 6, 7, 8, 9, 11]
    assert len(server.asked) == 11


def test_a_server_that_dies_loses_nothing_and_a_stream_can_be_closed_in_the_middle(servers: Servers) -> None:
    one, other = servers(), servers()
    asked = rows(40)
    with closing(open_engine(one, other, concurrency=2)) as engine:
        with closing(engine.stream()) as stream:
            stream.put(list(enumerate(asked)))
            found = dict(stream.take())
            one.stop()
            found |= rest_of(stream)
            assert [found[number] for number in range(40)] == expected(asked)
            stream.put([(number, asked[number]) for number in range(20)])
        assert engine.generate(asked[:5]) == expected(asked[:5])


def test_answers_that_are_limited_to_choices(servers: Servers) -> None:
    server = servers()
    choices = (Choice("yes", (20, 21, STOP)), Choice("no", (20, 31, STOP)))
    server.change = lambda answer: answer.update(token_ids=[31], finish_reason="length")
    with closing(open_engine(server)) as engine, closing(engine.stream()) as stream:
        stream.put([(0, GenerationRequest((5, 6), Sampling(16), 9, choices))])
        stream.put([(1, GenerationRequest((5, 6), Sampling(16), 9, choices[:1]))])
        found = rest_of(stream)
    assert found == {
        0: Generation((20, 31, STOP), FinishReason.STOP),
        1: Generation((20, 21, STOP), FinishReason.STOP),
    }
    assert [body["prompt"] for body in server.asked] == [[5, 6, 20]]


def test_a_refused_request_and_an_empty_prompt_are_errors(servers: Servers) -> None:
    server = servers()
    engine = open_engine(server)
    server.faults.append(lambda body: error(400, "no"))
    with closing(engine.stream()) as stream, pytest.raises(EngineError, match="no"):
        stream.put(list(enumerate(rows(3))))
        rest_of(stream)
    with closing(engine.stream()) as stream, pytest.raises(EngineError, match="no tokens"):
        stream.put([(0, GenerationRequest((), Sampling(3), 1))])
    with closing(engine.stream()) as stream:
        server.stop()
        stream.put(list(enumerate(rows(3))))
        with pytest.raises(EngineError, match=r"no endpoint of engine\.endpoints can be used"):
            rest_of(stream)
    engine.close()
    with pytest.raises(EngineError, match="closed"):
        engine.stream()
