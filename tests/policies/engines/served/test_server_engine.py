"""The server engine against a small server that misbehaves on command (completion_server.py)."""

from __future__ import annotations

import gzip
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from policies.engines.served.endpoint import ClientOptions, _seconds, _Transient, _Wait
from policies.engines.served.server import ServerEngine
from policies.engines.serving import Served
from svd_loop.config.engines import ServerEngineSection
from svd_loop.contracts import Choice, FinishReason, Generation, GenerationRequest, Sampling
from svd_loop.errors import ConfigError, EngineError, ModelError
from tests.policies.engines.completion_server import STOP, error, reference
from tests.policies.engines.server_engines import BASE, QUICK, Servers, expected, open_engine, rows


def test_answers_are_the_sampled_ids_in_order_and_every_parameter_is_passed(servers: Servers) -> None:
    one, other = servers(), servers()
    sampling = Sampling(9, 0.7, 0.9, 20, 0.05)
    asked = [GenerationRequest((5, 6, index), sampling, 2**62 + index) for index in range(60)]
    repetition = {"shortest": 2, "longest": 8, "count": 3}
    with closing(open_engine(one, other, repetition=repetition, thinking_token_budget=6, concurrency=3)) as engine:
        found = engine.generate(asked)
        assert engine.prefix_cache.hit_rate == pytest.approx(1 / 3)
    assert found == expected(asked)
    assert {answer.cached_tokens for answer in found} == {1}
    assert one.asked and other.asked
    assert len(one.asked) + len(other.asked) == 60
    body = one.asked[0]
    place = body["prompt"][-1]
    assert body == {
        "model": "base",
        "prompt": [5, 6, place],
        "seed": 2**62 + place,
        "stream": False,
        "return_token_ids": True,
        "max_tokens": 9,
        "temperature": 0.7,
        "top_p": 0.9,
        "top_k": 20,
        "min_p": 0.05,
        "n": 1,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "repetition_penalty": 1.0,
        "min_tokens": 0,
        "stop_token_ids": [STOP],
        "ignore_eos": True,
        "thinking_token_budget": 6,
        "repetition_detection": {"min_pattern_size": 2, "max_pattern_size": 8, "min_count": 3},
    }


def test_a_server_that_dies_mid_wave_costs_nothing_and_doubles_nothing(servers: Servers) -> None:
    dying, other = servers(), servers()
    asked = rows(200)
    with closing(open_engine(dying, other, concurrency=8)) as engine:
        dying.hold.clear()  # eight rows are open when it goes
        dying.faults.extend([lambda body: None] * 7)
        dying.faults.append(lambda body: dying.stop_soon())
        assert engine.generate(asked) == expected(asked)
        assert len(dying.asked) == 8
        served = Counter(tuple(body["prompt"]) for body in other.asked)
        assert served == Counter(row.prompt_ids for row in asked)


def test_one_that_comes_back_is_compared_again_and_used(servers: Servers) -> None:
    back, other = servers(), servers()
    asked = rows(60)
    with closing(open_engine(back, other, concurrency=4)) as engine:
        back.stop()
        other.hold.clear()  # keeps its rows until the first is back

        def return_soon(body: dict[str, Any]) -> None:
            back.always = lambda body: other.hold.set()
            threading.Thread(target=back.start).start()

        other.faults.append(return_soon)
        assert engine.generate(asked) == expected(asked)
        assert back.asked
        assert back.calls["/v1/models"] == 2  # when it was opened, and when it came back


def test_when_all_are_gone_the_error_names_them_and_a_rerun_goes_on(servers: Servers) -> None:
    one, other = servers(), servers()
    asked = rows(20)
    with closing(open_engine(one, other)) as engine:
        one.stop()
        other.stop()
        with pytest.raises(EngineError) as caught:
            engine.generate(asked)
        assert one.url in str(caught.value)
        assert other.url in str(caught.value)
        assert "20 requests are unanswered" in str(caught.value)
        with pytest.raises(EngineError, match="run the same command again"):
            open_engine(one, other)
        other.start()
        assert engine.generate(asked) == expected(asked)


def test_one_endpoint_is_enough_to_start(servers: Servers) -> None:
    one, other = servers(), servers()
    one.stop()
    with closing(open_engine(one, other)) as engine:
        assert engine.generate(rows(5)) == expected(rows(5))


def test_a_hanging_server_loses_its_rows(servers: Servers) -> None:
    hanging, other = servers(), servers()
    asked = rows(40)
    with closing(open_engine(hanging, other, concurrency=2)) as engine:
        hanging.hold.clear()

        def hang(body: dict[str, Any]) -> None:
            hanging.healthy = False

        hanging.faults.append(hang)
        assert engine.generate(asked) == expected(asked)
        hanging.healthy = True


@pytest.mark.parametrize(
    "fault",
    [
        lambda body: error(500, "EngineCore encountered an issue"),
        lambda body: error(429, "slow down", {"Retry-After": "0"}),
        lambda body: error(503, "overloaded"),
        lambda body: error(408, "timed out"),
        lambda body: web.Response(text="<html>Bad gateway</html>"),
        lambda body: web.Response(text='{"choices": [{"token_i'),
    ],
    ids=["500", "429", "503", "408", "html", "cut off"],
)
def test_what_passes_by_itself_is_asked_again(servers: Servers, fault: Callable[[Any], web.Response]) -> None:
    server = servers()
    with closing(open_engine(server, concurrency=1)) as engine:
        server.faults.extend([fault] * 3)
        assert engine.generate(rows(4)) == expected(rows(4))
        assert len(server.asked) == 7
        assert server.calls["/v1/models"] == 2  # it was never out of service


def test_a_server_that_keeps_failing_hands_its_rows_on(servers: Servers) -> None:
    failing, other = servers(), servers()
    failing.always = lambda body: error(500, "CUDA error")
    with closing(open_engine(failing, other, concurrency=2, retries=1)) as engine:
        assert engine.generate(rows(30)) == expected(rows(30))


def test_a_row_nobody_can_answer_ends_the_job_with_the_servers_words(servers: Servers) -> None:
    server = servers()
    server.always = lambda body: error(500, "this prompt breaks me") if body["prompt"][-1] == 4 else None
    with (
        closing(open_engine(server, retries=1, recovery_seconds=60.0)) as engine,
        pytest.raises(EngineError, match=r"one request failed 3 times.*this prompt breaks me"),
    ):
        engine.generate(rows(6))
    assert sum(body["prompt"][-1] == 4 for body in server.asked) == 6


def test_what_the_server_refuses_is_not_asked_again(servers: Servers) -> None:
    server = servers()
    server.always = lambda body: error(400, "Token id 120000 is out of vocabulary")
    with (
        closing(open_engine(server, concurrency=1)) as engine,
        pytest.raises(EngineError, match="400 Bad Request: Token id 120000 is out of vocabulary"),
    ):
        engine.generate(rows(5))
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"finish_reason": "tool_calls"}, "ended an answer with 'tool_calls'"),
        ({"finish_reason": "stop", "token_ids": [11, 12]}, "at token 12, which is not among"),
        ({"finish_reason": "stop", "token_ids": []}, "at token None"),
        ({"finish_reason": "length", "token_ids": [11, 12]}, "cut an answer off at 2 tokens of 50"),
        ({"token_ids": None}, "gives no token ids"),
        ({"token_ids": [11] * 51}, "answered with 51 tokens where at most 50 were asked for"),
        ({"finish_reason": "stop", "token_ids": [STOP, 11, STOP]}, "went on after a token that ends an answer"),
        ({"token_ids": [5.0]}, "is not a completion: choices.0.token_ids.0"),
        ({"token_ids": [10**30]}, "is not a completion: choices.0.token_ids.0"),
        (
            {"finish_reason": "stop", "token_ids": [99_999, STOP]},
            "answered with token 99999; the model has 512 of them",
        ),
        ({"prompt_token_ids": [1, 1, 2, 3]}, "changed a prompt of 3 tokens into one of 4"),
    ],
)
def test_answers_that_cannot_be_trained_on_are_refused(
    servers: Servers, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    server = servers()
    (tmp_path / "config.json").write_text('{"vocab_size": 512}')
    with closing(open_engine(server, served=Served(tmp_path, "round-000-abc", 0))) as engine:
        server.change = lambda answer: answer.update(change)
        with pytest.raises(EngineError, match=message):
            engine.generate(rows(3))


HOSTILE: dict[str, tuple[dict[str, Any], str]] = {
    "redirect": (
        {"status": 307, "headers": {"Location": "http://203.0.113.1/v1/completions"}},
        "redirects to http://203.0.113.1/v1/completions, which is not followed",
    ),
    "huge": ({"body": b"[" + b" " * 2**21}, "answers with more than 1 MiB"),
    "charset": (
        {"body": b"{}", "headers": {"Content-Type": "application/json; charset=klingon"}},
        "is not a completion",
    ),
    "text choices": ({"text": '{"choices": "abc"}'}, "is not a completion: choices"),
    "null choice": ({"text": '{"choices": [null]}'}, "is not a completion: choices.0"),
    "usage list": ({"text": '{"choices": [{"token_ids": [1]}], "usage": []}'}, "is not a completion: usage"),
    "page": (
        {"text": "<html><title>Welcome</title>", "headers": {"Content-Type": "text/html"}},
        "something that is not JSON",
    ),
    "two choices": ({"text": '{"choices": [{"token_ids": [1]}, {"token_ids": [2]}]}'}, "not a completion: choices"),
    "no number": ({"text": '{"choices": [{"token_ids": [NaN]}]}'}, "is not a completion: choices.0.token_ids.0"),
    "utf-16": ({"body": '{"choices": []}'.encode("utf-16")}, "something that is not JSON"),
    "deep": ({"text": "[" * 100_000}, "something that is not JSON"),
    "bomb": (
        {"body": gzip.compress(b" " * 2**26), "headers": {"Content-Encoding": "gzip"}},
        "something that is not JSON",
    ),
    "odd error": ({"status": 422, "text": '{"error": [1]}'}, "422"),
    "control characters": ({"status": 400, "text": "\x1b]0;owned\x07"}, r"400 Bad Request:  ?\]0;owned"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_replies_are_one_clear_error(servers: Servers, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("policies.engines.served.endpoint.LARGEST_REPLY", 2**20)
    fault, message = HOSTILE[kind]
    server = servers()
    server.always = lambda body: web.Response(**fault)
    with closing(open_engine(server, retries=1)) as engine, pytest.raises(EngineError, match=message) as found:
        engine.generate(rows(2))
    assert len(str(found.value)) < 2000


def test_a_key_that_a_server_echoes_is_not_shown(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_VLLM_KEY", "secret-1")
    server = servers(key="secret-1")
    with closing(open_engine(server, api_key_env="TEST_VLLM_KEY", retries=0)) as engine:
        for fault in (
            error(400, "you sent Bearer secret-1"),
            web.Response(text="Bearer secret-1"),
            error(500, "secret-1"),
            web.Response(status=400, text='{"error": {"message": "you sent s\\u0065cret-1"}}'),
        ):
            server.faults.append(lambda body, fault=fault: fault)  # type: ignore[misc]
            with pytest.raises(EngineError) as found:
                engine.generate(rows(1))
            assert "secret-1" not in str(found.value) and "(the key)" in str(found.value)


def test_a_log_probability_that_is_no_number_proves_nothing(servers: Servers) -> None:
    server = servers()
    for value in ("nan", "x", None, [1]):
        server.change = lambda answer, value=value: answer["logprobs"]["top_logprobs"][0].update(  # type: ignore[misc]
            dict.fromkeys(answer["logprobs"]["top_logprobs"][0], value)
        )
        with pytest.raises(ModelError, match="cannot be compared"):
            open_engine(server)


def test_an_answer_the_server_gave_up_is_asked_elsewhere(servers: Servers) -> None:
    ending, other = servers(), servers()
    with closing(open_engine(ending, other, concurrency=2)) as engine:
        ending.change = lambda answer: answer.update(finish_reason="abort", token_ids=[11])
        assert engine.generate(rows(20)) == expected(rows(20))


def test_repetition_counts_as_cut_off(servers: Servers) -> None:
    server = servers()
    with closing(open_engine(server)) as engine:
        server.change = lambda answer: answer.update(finish_reason="repetition", token_ids=[11, 11, 11])
        assert engine.generate(rows(1)) == [Generation((11, 11, 11), FinishReason.LENGTH)]


def test_a_server_without_token_ids_is_refused_at_once(servers: Servers) -> None:
    server = servers()
    server.change = lambda answer: answer.pop("token_ids")
    with pytest.raises(ModelError, match=f"{server.url}: gives no token ids.*return_token_ids"):
        open_engine(server)


def test_a_server_without_chosen_log_probabilities_is_refused(servers: Servers) -> None:
    server = servers()
    server.change = lambda answer: answer.pop("logprobs")
    with pytest.raises(ModelError, match=r"cannot be compared.*logprob_token_ids"):
        open_engine(server)


def test_other_weights_are_refused_and_the_endpoint_named(servers: Servers) -> None:
    good, other = servers(), servers()
    other.weights = "elsewhere"
    with pytest.raises(ModelError, match=f"{other.url}: round-000-abc: vLLM and transformers disagree"):
        open_engine(good, other)


@pytest.mark.parametrize(
    ("server", "settings", "message"),
    [
        ({"longest": 128}, {}, "context of 128 tokens, model.max_context is 256"),
        ({}, {"model": "qwen"}, "does not serve qwen; it serves base. See engine.model"),
        ({"key": "secret-1"}, {}, r"401 Unauthorized: Unauthorized. The server wants a key .*it has sent none"),
        ({"dev": False}, {"reload": {"type": "in_place"}}, "VLLM_SERVER_DEV_MODE=1"),
    ],
)
def test_a_server_that_will_not_do_is_refused(
    servers: Servers, server: dict[str, Any], settings: dict[str, Any], message: str
) -> None:
    with pytest.raises((ModelError, EngineError), match=message):
        open_engine(servers(**server), **settings)


def test_something_that_is_no_vllm_is_refused(servers: Servers) -> None:
    server = servers()
    section = ServerEngineSection(endpoints=(f"{server.url}/elsewhere",), **QUICK)
    with pytest.raises(EngineError, match="is it the address of a `vllm serve`"):
        ServerEngine(
            BASE,
            section,
            dtype="float32",
            max_context=9,
            stop_ids=[STOP],
            probe_prompts=[(1, 2)],
            reference=reference("base"),
        )


def test_the_key_comes_from_the_environment_and_shows_nowhere(
    servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = servers(key="secret-1")
    monkeypatch.setenv("TEST_VLLM_KEY", "secret-1")
    with closing(open_engine(server, api_key_env="TEST_VLLM_KEY")) as engine:
        assert engine.generate(rows(2)) == expected(rows(2))
    monkeypatch.setenv("TEST_VLLM_KEY", "secret-2")
    with pytest.raises(EngineError, match="the one sent is not accepted") as caught:
        open_engine(server, api_key_env="TEST_VLLM_KEY")
    assert "secret" not in str(caught.value) + repr(ClientOptions("secret-2", 1, 1.0, 1.0, 1.0))
    monkeypatch.delenv("TEST_VLLM_KEY")
    with pytest.raises(ConfigError, match="environment variable TEST_VLLM_KEY is not set"):
        open_engine(server, api_key_env="TEST_VLLM_KEY")


def test_a_prompt_without_tokens_and_a_closed_engine_are_refused(servers: Servers) -> None:
    engine = open_engine(servers())
    with pytest.raises(EngineError, match="has no tokens"):
        engine.generate([GenerationRequest((), Sampling(4), 0)])
    assert engine.generate([]) == []
    engine.close()
    engine.close()
    with pytest.raises(EngineError, match="is closed"):
        engine.generate(rows(1))


def test_a_server_says_how_long_to_wait() -> None:
    from tenacity import AsyncRetrying, Future, RetryCallState, wait_fixed

    def wait_after(failure: Exception) -> float:
        state = RetryCallState(AsyncRetrying(), None, (), {})
        state.outcome = Future.construct(1, failure, has_exception=True)
        return _Wait(wait_fixed(3))(state)

    assert wait_after(_Transient("429", 7.0)) == 7.0
    assert wait_after(_Transient("429", 7000.0)) == 60.0
    assert wait_after(_Transient("500")) == 3.0
    assert _seconds("12") == 12.0
    assert _seconds("Wed, 21 Oct 2015 07:28:00 GMT") == 0.0
    assert _seconds("soon") is None
    assert _seconds(None) is None


def test_an_answer_with_choices_is_one_request_of_one_token_where_they_part(servers: Servers) -> None:
    server = servers()
    choices = (Choice("[[Y]]", (5, 6, 8, STOP)), Choice("[[N]]", (5, 7, 8, STOP)))
    server.change = lambda answer: answer.update(token_ids=[7], finish_reason="length")
    limited = [replace(row, choices=choices) for row in rows(3, max_tokens=4)]
    with closing(open_engine(server)) as engine:
        found = engine.generate(limited)
    assert found == [Generation((5, 7, 8, STOP), FinishReason.STOP)] * 3
    assert {(body["max_tokens"], tuple(body["allowed_token_ids"])) for body in server.asked} == {(1, (6, 7))}
    assert sorted(body["prompt"] for body in server.asked) == sorted([*row.prompt_ids, 5] for row in limited)
