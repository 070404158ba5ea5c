"""The transformers engine's stream: requests come while others run, leave early, and are answered as by `generate`."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace

import pytest
import torch

from policies.engines.transformers import TransformersEngine
from svd_loop.contracts import Generation, GenerationStream
from svd_loop.errors import EngineError
from tests.policies.agreement import agreeing
from tests.policies.engines.test_transformers_engine import STOPS, qwen, requests


def rest_of(stream: GenerationStream) -> dict[int, Generation]:
    found: dict[int, Generation] = {}
    while answers := stream.take():
        found.update(answers)
    return found


def test_requests_that_come_while_others_run_are_answered_as_in_one_batch() -> None:
    asked = requests(30)
    engine = TransformersEngine(qwen(), stop_ids=STOPS, batch_size=8)
    with closing(engine.stream()) as stream:
        assert (stream.slots, stream.take()) == (8, [])
        stream.put(list(enumerate(asked[:12])))
        first = stream.take()
        assert 0 < len(first) < 12
        stream.put(list(enumerate(asked[12:], start=12)))
        found = dict(first) | rest_of(stream)
    assert sorted(found) == list(range(30))
    expected = TransformersEngine(qwen(), stop_ids=STOPS, batch_size=8).generate(asked)
    assert agreeing([found[number] for number in range(30)], expected) >= 0.95


def test_dropped_requests_are_not_answered_and_do_not_touch_others() -> None:
    asked = requests(24)
    engine = TransformersEngine(qwen(), stop_ids=STOPS, batch_size=6)
    with closing(engine.stream()) as stream:
        stream.put(list(enumerate(asked)))
        found = dict(stream.take())  # six rows have run, the others wait
        dropped = [number for number in range(24) if number not in found and number % 2]
        stream.drop([*dropped, 99])
        found |= rest_of(stream)
        stream.put([(dropped[0], asked[dropped[0]])])
        again = rest_of(stream)
    assert sorted(found) == [number for number in range(24) if number not in dropped]
    expected = engine.generate(asked)
    assert agreeing(list(found.values()), [expected[number] for number in found]) >= 0.95
    assert agreeing(list(again.values()), [expected[dropped[0]]]) == 1.0


def test_a_stream_survives_memory_running_out(caplog: pytest.LogCaptureFixture) -> None:
    model = qwen()

    def scarce(_: object, __: object, kwargs: dict[str, torch.Tensor]) -> None:
        if len(kwargs["input_ids"]) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")

    model.register_forward_pre_hook(scarce, with_kwargs=True)
    asked = requests(9)
    with closing(TransformersEngine(model, stop_ids=STOPS, batch_size=8).stream()) as stream:
        stream.put(list(enumerate(asked[:6])))
        found = rest_of(stream)
        assert stream.slots == 2
        stream.put(list(enumerate(asked[6:], start=6)))
        found |= rest_of(stream)
    assert sorted(found) == list(range(9))
    assert "engine.batch_size 2" in caplog.text


def test_an_empty_prompt_and_a_closed_engine_are_errors() -> None:
    engine = TransformersEngine(qwen(), stop_ids=STOPS)
    empty = replace(requests(1)[0], prompt_ids=())
    with closing(engine.stream()) as stream, pytest.raises(EngineError, match="no tokens"):
        stream.put([(0, empty)])
    engine.close()
    with pytest.raises(EngineError, match="closed"):
        engine.stream()


def test_rows_are_limited_by_the_memory_for_their_keys_and_values(caplog: pytest.LogCaptureFixture) -> None:
    asked = requests(24)
    longest = max(len(one.prompt_ids) + one.sampling.max_tokens for one in asked)
    token = 2 * 2 * 8 * 2 * 4  # keys and values, heads, size, layers, bytes of float32
    model, widths = qwen(), []
    model.register_forward_pre_hook(lambda _, __, given: widths.append(len(given["input_ids"])), with_kwargs=True)
    engine = TransformersEngine(model, stop_ids=STOPS, batch_size=24, row_bytes=5 * token * (longest + longest // 4))
    with closing(engine.stream()) as stream:
        assert stream.slots == 24  # nothing in flight that could be long
        stream.put(list(enumerate(asked)))
        assert stream.slots == 5
        found = rest_of(stream)
        stream.put([(0, replace(asked[0], prompt_ids=(5,), sampling=replace(asked[0].sampling, max_tokens=1)))])
        assert stream.slots == 24
    assert max(widths) == 5 and sorted(found) == list(range(24))
    expected = TransformersEngine(qwen(), stop_ids=STOPS, batch_size=24).generate(asked)
    assert agreeing([found[number] for number in range(24)], expected) >= 0.95
    (warning,) = caplog.records
    assert "engine.batch_size: 24 rows of up to" in warning.message and "so 5 are decoded together" in warning.message


def test_a_row_that_fits_no_memory_is_tried_alone() -> None:
    engine = TransformersEngine(qwen(), stop_ids=STOPS, batch_size=4, row_bytes=1)
    assert len(engine.generate(requests(3))) == 3
