"""The server engine against real `vllm serve` replicas of the embedded checkpoint. Needs vLLM: `make test-vllm`."""

from __future__ import annotations

import importlib.util
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path

import pytest

from policies.engines.served.server import ServedReplica, ServerEngine
from policies.engines.serving import Served
from policies.engines.transformers import TransformersEngine
from policies.engines.vllm_child import reference_logprobs
from policies.text.chat import ChatCodec
from policies.versions.checkpoints import load_checkpoint
from svd_loop.config import Config
from svd_loop.config.engines import ServerEngineSection
from svd_loop.contracts import FinishReason, Generation, GenerationRequest, Sampling
from svd_loop.jobs import run_job
from svd_loop.nano import NANO_CHECKPOINT
from svd_loop.preflight.checks import preflight
from tests.policies.agreement import agreeing
from tests.policies.engines.thinking import assert_thoughts_end, thoughts
from tests.policies.engines.two_jobs import assert_alike, small_job
from tests.policies.engines.vllm_replica import Replica

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.timeout(3600),
    pytest.mark.usefixtures("forked_children"),
    pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vllm is not installed: make test-vllm"),
]

PROBE = [tuple(range(10, 60)), tuple(range(90, 120))]


@pytest.fixture(scope="module")
def replicas(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Replica]]:
    folder = tmp_path_factory.mktemp("servers")
    lora = ("--enable-lora", "--max-lora-rank", "32", "--max-loras", "2", "--enable-prompt-tokens-details")
    with ExitStack() as stack:
        started = []
        for index in range(2):
            started.append(Replica(NANO_CHECKPOINT, folder / f"{index}.log", *lora))
            stack.callback(started[-1].kill)
        for replica in started:
            replica.wait()
        yield started


@pytest.fixture(scope="module")
def codec() -> ChatCodec:
    return ChatCodec.load(NANO_CHECKPOINT)


def open_engine(
    replicas: Sequence[Replica],
    codec: ChatCodec,
    checkpoint: Path = NANO_CHECKPOINT,
    *,
    name: str = "round-000-nano",
    adapter: Path | None = None,
    **settings: object,
) -> ServerEngine:
    section = ServerEngineSection(
        endpoints=tuple(replica.url for replica in replicas), concurrency=32, heartbeat_seconds=5.0, **settings
    )
    return ServerEngine(
        Served(checkpoint, name, 0, adapter),
        section,
        dtype="float32",
        max_context=512,
        stop_ids=codec.stop_ids,
        probe_prompts=PROBE,
        reference=lambda probed, seconds: reference_logprobs(probed),  # as a child would: `test_engine_probe`
    )


def asked(rows: int, temperature: float) -> list[GenerationRequest]:
    return [
        GenerationRequest(tuple(range(20 + row // 3, 60 + row // 3)), Sampling(48, temperature), 2**62 + row)
        for row in range(rows)
    ]


def by_transformers(model: object, codec: ChatCodec, rows: list[GenerationRequest]) -> list[Generation]:
    return TransformersEngine(model, stop_ids=codec.stop_ids).generate(rows)


def test_two_replicas_answer_like_transformers_and_alike(replicas: list[Replica], codec: ChatCodec) -> None:
    greedy, sampled = asked(100, 0.0), asked(100, 1.0)
    with closing(open_engine(replicas, codec)) as engine:
        found = engine.generate(greedy)
        assert agreeing(found, by_transformers(load_checkpoint(NANO_CHECKPOINT, "float32"), codec, greedy)) >= 0.99
        once = engine.generate(sampled)
        assert agreeing(engine.generate(sampled), once) >= 0.98  # batches differ with every arrival
        assert engine.prefix_cache.hit_rate > 0.2
    with closing(open_engine(replicas[:1], codec)) as alone:
        assert agreeing(alone.generate(sampled), once) >= 0.98  # whichever replica answers
    assert len(set(once)) > 50


def test_an_answer_with_choices_is_one_of_them(replicas: list[Replica], codec: ChatCodec) -> None:
    choices = codec.choices(("[[Y]]", "[[N]]"))
    limited = [replace(row, sampling=replace(row.sampling, max_tokens=2), choices=choices) for row in asked(40, 1.0)]
    with closing(open_engine(replicas[:1], codec)) as engine:
        found = engine.generate(limited)
    assert set(codec.decode([answer.token_ids for answer in found])) <= {"[[Y]]", "[[N]]"}
    assert all(answer.finish_reason is FinishReason.STOP for answer in found)


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random, so that its answers are nothing like the base's."""
    import torch
    from peft import LoraConfig, get_peft_model

    folder = tmp_path_factory.mktemp("adapter")
    torch.manual_seed(0)
    settings = LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", use_rslora=True, init_lora_weights=False)
    get_peft_model(load_checkpoint(NANO_CHECKPOINT, "float32"), settings).save_pretrained(folder)
    return folder


def test_an_adapter_is_loaded_at_run_time_beside_the_base(
    replicas: list[Replica], codec: ChatCodec, adapter: Path
) -> None:
    from peft import PeftModel

    rows = asked(60, 0.0)
    base = load_checkpoint(NANO_CHECKPOINT, "float32")
    plain = by_transformers(base, codec, rows)
    merged = by_transformers(PeftModel.from_pretrained(base, str(adapter)).merge_and_unload(), codec, rows)
    with (
        closing(open_engine(replicas, codec)) as judge,
        closing(open_engine(replicas, codec, name="round-001-test", adapter=adapter)) as engine,
    ):
        assert agreeing(engine.generate(rows), merged) >= 0.98
        assert agreeing(judge.generate(rows), plain) >= 0.98
        assert agreeing(merged, plain) < 0.5


def job(root: Path, *overrides: str) -> Config:
    return small_job(root, "cascade.frozen_judge=true", "update.method=lora", "update.learning_rate=2.0e-3", *overrides)


@pytest.mark.slow
def test_a_job_on_servers_gets_what_one_on_transformers_gets(replicas: list[Replica], tmp_path: Path) -> None:
    """Two rounds of adapters with the judge frozen at round 0, so that base and adapter are asked in turn."""
    endpoints = f"engine.endpoints=[{', '.join(replica.url for replica in replicas)}]"
    served = job(tmp_path / "served", "engine.type=server", endpoints, "engine.concurrency=32")
    (look,) = [item for item in preflight(served).checks if item.name == "endpoints"]
    assert look.ok, look.detail
    expected = run_job(job(tmp_path / "transformers", "engine.threads=1"))
    found = run_job(served)
    assert_alike(found, expected)
    assert found.history[1].version.fingerprint != found.history[2].version.fingerprint


def test_one_killed_mid_wave_loses_and_doubles_nothing_and_is_used_when_it_is_back(
    replicas: list[Replica], codec: ChatCodec, adapter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes back without the adapter, which it gets again before it answers."""
    rows = asked(180, 1.0)
    answered: Counter[int] = Counter()
    by: Counter[str] = Counter()
    killed: list[int] = []
    real = ServedReplica.answer

    async def counting(self: ServedReplica, row: int) -> tuple[Generation, int]:
        answer = await real(self, row)
        answered[row] += 1
        by[self.name] += 1
        if self.name == replicas[0].url and by[self.name] == 20 and not killed:  # with up to 31 more in flight
            killed.append(row)
            replicas[0].kill()
        return answer

    with closing(open_engine(replicas, codec, name="round-001-test", adapter=adapter)) as engine:
        undisturbed = engine.generate(rows)
        monkeypatch.setattr(ServedReplica, "answer", counting)
        assert agreeing(engine.generate(rows), undisturbed) >= 0.98
        assert answered == Counter(range(180))
        assert 20 <= by[replicas[0].url] < 52
        assert by[replicas[1].url] > 128
        replicas[0].start()
        replicas[0].wait()
        by.clear()
        for _ in range(20):  # the other may have answered a wave before this one is noticed, loaded and probed
            assert agreeing(engine.generate(rows), undisturbed) >= 0.98
            if by[replicas[0].url]:
                break
        assert by[replicas[0].url] > 0


@pytest.mark.slow
def test_full_weights_are_changed_in_place(tmp_path: Path) -> None:
    """A head of its own: vLLM 0.32 leaves one that is tied to the embeddings as it was, and the probe refuses."""
    from transformers import GenerationConfig

    from tests.policies.conftest import make_model, make_tokenizer

    checkpoints = [tmp_path / "round-000", tmp_path / "round-001"]
    for seed, folder in enumerate(checkpoints):
        model = make_model(seed, tie_word_embeddings=False, hidden_size=64, head_dim=32, num_attention_heads=2)
        model.generation_config = GenerationConfig(eos_token_id=[3, 2], pad_token_id=0)
        model.save_pretrained(folder)
        make_tokenizer().save_pretrained(folder)
    codec = ChatCodec.load(checkpoints[0])
    replica = Replica(checkpoints[0], tmp_path / "log")
    rows = asked(40, 0.0)
    try:
        replica.wait()
        for folder in (checkpoints[1], checkpoints[0]):
            with closing(
                open_engine([replica], codec, folder, name=f"{folder.name}-test", reload={"type": "in_place"})
            ) as engine:
                expected = by_transformers(load_checkpoint(folder, "float32"), codec, rows)
                assert agreeing(engine.generate(rows), expected) >= 0.97
    finally:
        replica.kill()


@pytest.mark.slow
def test_a_served_thought_is_ended_at_its_budget(tmp_path: Path) -> None:
    asked, codec, end = thoughts(tmp_path / "thinker", "<think>")
    replica = Replica(tmp_path / "thinker", tmp_path / "log", "--reasoning-parser", "qwen3")
    try:
        replica.wait()
        with closing(
            open_engine([replica], codec, tmp_path / "thinker", name="round-000-thinker", thinking_token_budget=5)
        ) as engine:
            answers = engine.generate(asked)
            assert agreeing(engine.generate(asked), answers) >= 0.9
    finally:
        replica.kill()
    assert_thoughts_end(answers, end, budget=5)
