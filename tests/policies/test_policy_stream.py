"""A policy's calls in flight: over the real engine and a tiny model as in whole batches, and over a made one."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from contextlib import closing
from pathlib import Path

import pytest

from policies.policy import ModelPolicy, RecordingPolicy
from policies.policy_cache import PolicyCache
from policies.versions.checkpoints import load_codec
from policies.versions.weights import WeightStore
from svd_loop.contracts import FinishReason, Generation, GenerationRequest, PolicyVersion, Reply, Role
from svd_loop.support.streams import WaveStream, stream_of
from svd_loop.support.wrapping import PolicyWrapper
from tests.policies.agreement import agreeing
from tests.policies.test_model_policy import SAMPLINGS, Echo, call, open_tiny


def test_a_stream_answers_as_whole_batches_do(checkpoint: Path, tmp_path: Path) -> None:
    policy = open_tiny(checkpoint, tmp_path)
    calls = [call(f"p{i}", f"{i}+{i}?", candidate=i % 2) for i in range(16)]
    calls += [call(f"p{i}", f"{i}?", role=Role.GRADER) for i in range(4)]
    expected = {reply.call: reply for reply in policy.generate(calls)}
    found: dict[object, Reply] = {}
    with closing(policy.stream()) as stream:
        assert stream.slots == 8
        stream.put(calls[:9])
        found |= {reply.call: reply for reply in stream.take()}
        stream.put(calls[9:])
        while replies := stream.take():
            found |= {reply.call: reply for reply in replies}
    assert set(found) == set(expected)
    assert agreeing([found[one.id] for one in calls], [expected[one.id] for one in calls]) >= 0.95
    policy.close()


class EchoStream:
    """Answers everything that was put at once."""

    slots = 2

    def __init__(self) -> None:
        self.open: dict[int, GenerationRequest] = {}
        self.dropped: list[int] = []

    def put(self, requests: Sequence[tuple[int, GenerationRequest]]) -> None:
        self.open |= dict(requests)

    def drop(self, numbers: Collection[int]) -> None:
        self.dropped += numbers
        for number in numbers:
            self.open.pop(number, None)

    def take(self, seconds: float | None = None) -> list[tuple[int, Generation]]:
        numbers = list(self.open)
        self.open.clear()
        return [(number, Generation((10, 2), FinishReason.STOP)) for number in numbers]

    def close(self) -> None:
        self.open.clear()


class Streaming(Echo):
    def __init__(self) -> None:
        super().__init__()
        self.streams: list[EchoStream] = []

    def stream(self, *, label: str = "", total: int = 0) -> EchoStream:
        self.streams.append(EchoStream())
        return self.streams[-1]


def over(engine: Echo, checkpoint: Path, folder: Path) -> ModelPolicy:
    codec = load_codec(WeightStore(folder).add_base(checkpoint))
    return ModelPolicy(engine, codec, PolicyVersion(0, "aa"), SAMPLINGS, job_seed=3, max_context=80)


def test_judge_calls_that_do_not_fit_are_cut_off_and_dropped_ones_stay_away(checkpoint: Path, tmp_path: Path) -> None:
    engine = Streaming()
    stream = over(engine, checkpoint, tmp_path).stream()
    long = [call(f"long{i}", "x " * 200, role=Role.GRADER) for i in range(2)]
    stream.put([*long, call("a"), call("b")])
    stream.drop([long[0].id, call("b").id, call("unknown").id])
    first, second = stream.take(), stream.take()
    assert [(reply.call, reply.finish_reason, reply.prompt_tokens) for reply in first] == [
        (long[1].id, FinishReason.LENGTH, 0)
    ]
    assert [reply.call for reply in second] == [call("a").id]
    assert (stream.take(), len(engine.streams[0].dropped)) == ([], 2)


def test_an_engine_without_a_stream_is_asked_in_whole_batches(checkpoint: Path, tmp_path: Path) -> None:
    engine = Echo()
    stream = over(engine, checkpoint, tmp_path).stream()
    assert (isinstance(stream, WaveStream), stream.slots) == (True, 0)
    stream.put([call("a"), call("b"), call("c")])
    stream.drop([call("b").id])
    assert [reply.call.prompt_id for reply in stream.take()] == ["a", "c"]
    assert (len(engine.asked), stream.take()) == (2, [])
    stream.close()


def test_recordings_hold_what_was_streamed_and_a_cached_policy_streams(checkpoint: Path, tmp_path: Path) -> None:
    path = tmp_path / "record.jsonl"
    cache = PolicyCache(lambda round: RecordingPolicy(over(Streaming(), checkpoint, tmp_path / "w"), path))
    with cache, closing(stream_of(cache.open(0))) as stream:
        stream.put([call("a"), call("b")])
        assert len(stream.take()) == 2
        lines = [json.loads(line)["prompt_id"] for line in path.read_text().splitlines()]
    assert lines == ["a", "b"]


class Reversing(PolicyWrapper):
    """A wrapper with an answer of its own and no stream."""

    def generate(self, calls: Sequence[object]) -> list[Reply]:  # type: ignore[override]
        replies = super().generate(calls)  # type: ignore[arg-type]
        return replies[::-1]


@pytest.mark.parametrize("wrapper", [PolicyWrapper, Reversing])
def test_a_wrapper_with_answers_of_its_own_is_not_passed_by(
    wrapper: type[PolicyWrapper], checkpoint: Path, tmp_path: Path
) -> None:
    stream = wrapper(over(Streaming(), checkpoint, tmp_path)).stream()
    stream.put([call("a"), call("b")])
    assert [reply.call.prompt_id for reply in stream.take()] == (["b", "a"] if wrapper is Reversing else ["a", "b"])
