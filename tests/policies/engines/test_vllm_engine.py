"""The vLLM engine against the transformers engine, on the embedded checkpoint. Needs vLLM: `make test-vllm`.

The engine that most tests ask has a child that is a new interpreter, as have two slow replicas; the children of other
engines are forks.
"""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from policies.engines.probe import check_probe, default_tolerance
from policies.engines.serving import Served, probe_prompts_of
from policies.engines.transformers import TransformersEngine
from policies.engines.vllm import VllmEngine
from policies.engines.vllm_child import Probed, Started, reference_logprobs
from policies.text.chat import ChatCodec
from policies.versions.checkpoints import load_checkpoint
from policies.versions.stored import StoredVersion
from policies.versions.weights import WeightStore
from svd_loop.assembly.data import held_out
from svd_loop.assembly.job import template_set
from svd_loop.config import Config, load_config
from svd_loop.config.engines import RepetitionSection, VllmEngineSection
from svd_loop.contracts import FinishReason, GenerationRequest, JobResult, Role, Sampling
from svd_loop.errors import EngineError, ModelError
from svd_loop.jobs import run_job
from svd_loop.nano import NANO_CHECKPOINT
from tests.policies.agreement import agreeing
from tests.policies.engines.thinking import assert_thoughts_end, thoughts
from tests.policies.engines.two_jobs import NANO, assert_alike, small_job

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.timeout(3600),
    pytest.mark.usefixtures("forked_children"),
    pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vllm is not installed: make test-vllm"),
]

SETTINGS = {"enforce_eager": True, "kv_cache_gib": 0.25, "threads": 1, "block_size": 32}
ON_VLLM = ("engine.type=vllm", *(f"engine.{key}={str(value).lower()}" for key, value in SETTINGS.items()))


@pytest.fixture(scope="module")
def codec() -> ChatCodec:
    return ChatCodec.load(NANO_CHECKPOINT)


@pytest.fixture(scope="module")
def prompts(codec: ChatCodec) -> list[tuple[int, ...]]:
    """240 questions as nano's solver sees them."""
    config = load_config(NANO, ["data.train.count=3", "data.development.count=80", "data.test=null"])
    templates = template_set(config)
    problems = held_out(config)["development"]
    return codec.encode([templates.render(Role.SOLVER, item.domain, question=item.text) for item in problems])


def open_vllm(
    codec: ChatCodec, checkpoint: Path = NANO_CHECKPOINT, *, adapter: Path | None = None, **settings: object
) -> VllmEngine:
    return VllmEngine(
        Served(checkpoint, "round-001-nano", 1, adapter),
        VllmEngineSection(**{**SETTINGS, **settings}),
        dtype="float32",
        max_context=512,
        stop_ids=codec.stop_ids,
        probe_prompts=[tuple(range(10, 60)), tuple(range(90, 120))],
    )


@pytest.fixture(scope="module")
def engine(codec: ChatCodec, forked_children: None) -> Iterator[VllmEngine]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("svd_loop.support.child_process.subprocess", subprocess)
        opened = open_vllm(codec)
    with closing(opened):
        yield opened


def sampled(prompts: list[tuple[int, ...]]) -> list[GenerationRequest]:
    return [GenerationRequest(prompt, Sampling(60, 1.0), 2**62 + seed) for seed, prompt in enumerate(prompts)]


def test_greedy_answers_agree_with_transformers(
    engine: VllmEngine, codec: ChatCodec, prompts: list[tuple[int, ...]]
) -> None:
    asked = [GenerationRequest(prompt, Sampling(96, 0.0), 0) for prompt in prompts]
    expected = TransformersEngine(load_checkpoint(NANO_CHECKPOINT, "float32"), stop_ids=codec.stop_ids).generate(asked)
    found = engine.generate(asked)
    assert len(asked) == 240
    assert agreeing(found, expected) >= 0.99
    assert all(answer.token_ids[-1] in codec.stop_ids for answer in found if answer.finish_reason is FinishReason.STOP)
    assert engine.generate([GenerationRequest(prompts[0], Sampling(2, 0.0), 0)])[0].finish_reason is FinishReason.LENGTH


def test_the_same_requests_get_the_same_tokens_and_seeds_matter(
    engine: VllmEngine, prompts: list[tuple[int, ...]]
) -> None:
    asked = sampled(prompts)  # more tokens than a step takes: vLLM 0.32 fails on a seeded prompt that is cut on a CPU
    answers = engine.generate(asked)
    assert agreeing(engine.generate(asked), answers) >= 0.99  # not all: the prefixes come from the cache this time
    others = [GenerationRequest(row.prompt_ids, row.sampling, row.seed + 1000) for row in asked]
    assert agreeing(engine.generate(others), answers) < 0.9


def test_a_stream_answers_as_whole_batches_do_and_aborts_what_is_dropped(
    engine: VllmEngine, codec: ChatCodec, prompts: list[tuple[int, ...]]
) -> None:
    asked = sampled(prompts[:60])
    choices = codec.choices(("[[Y]]", "[[N]]", "[[Y]] or not"))
    limited = [GenerationRequest(row.prompt_ids, Sampling(8, 1.0), row.seed, choices) for row in asked[:20]]
    asked = [row for pair in zip(asked[20:40], limited, strict=True) for row in pair] + asked[40:]
    expected = engine.generate(asked)
    long = GenerationRequest(prompts[0], Sampling(400, 0.0), 0, codec.choices(("long " * 90,)))
    endless = GenerationRequest((20,) * 40, Sampling(400, 0.0), 0)
    with closing(engine.stream()) as stream:
        assert (stream.slots, stream.take()) == (256, [])
        stream.put([(100, endless), *enumerate(asked[:30])])
        found = dict(stream.take())
        assert len(found) < 30  # each when it is finished
        stream.put([(101, long), *enumerate(asked[30:], start=30)])
        stream.drop([100, 77])
        stream.put([(100, asked[0])])  # the number is free again
        while answers := stream.take():
            assert not found.keys() & dict(answers).keys()
            found |= dict(answers)
        stream.put([(5, endless)])  # closed while it runs
    assert agreeing([found[number] for number in range(60)], expected) >= 0.95
    assert (found[100], found[101].token_ids) == (found[0], long.choices[0].token_ids)
    assert agreeing(engine.generate(asked), expected) >= 0.95


def test_an_answer_with_choices_is_one_of_them_beside_rows_without(
    engine: VllmEngine, codec: ChatCodec, prompts: list[tuple[int, ...]]
) -> None:
    choices = codec.choices(("[[Y]]", "[[N]]", "[[Y]] or not"))
    longest = max(len(choice.token_ids) for choice in choices)
    limited = [
        GenerationRequest(prompt, Sampling(longest, 1.0), 2**40 + seed, choices)
        for seed, prompt in enumerate(prompts[:200])
    ]
    free = sampled(prompts[:200])
    found = engine.generate([row for pair in zip(limited, free, strict=True) for row in pair])
    assert {answer.token_ids for answer in found[::2]} <= {choice.token_ids for choice in choices}
    assert all(answer.finish_reason is FinishReason.STOP for answer in found[::2])
    assert len({answer.token_ids for answer in found[::2]}) > 1
    assert agreeing(found[1::2], engine.generate(free)) >= 0.99


def test_votes_of_one_prompt_share_its_prefix(engine: VllmEngine, prompts: list[tuple[int, ...]]) -> None:
    long = max(prompts, key=len) * 4
    asked = [GenerationRequest(long, Sampling(4, 1.0), seed) for seed in range(10)]
    asked_before, cached_before = engine.prefix_cache.prompt_tokens, engine.prefix_cache.cached_tokens
    engine.generate(asked)
    engine.generate(asked)
    share = (engine.prefix_cache.cached_tokens - cached_before) / (engine.prefix_cache.prompt_tokens - asked_before)
    assert share > 0.5


def test_a_prompt_without_tokens_is_refused(engine: VllmEngine) -> None:
    with pytest.raises(EngineError, match="has no tokens"):
        engine.generate([GenerationRequest((), Sampling(4), 0)])


@pytest.mark.slow
def test_two_children_answer_like_one_and_a_killed_one_is_an_error(
    engine: VllmEngine, codec: ChatCodec, prompts: list[tuple[int, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are new interpreters, as a user's are."""
    monkeypatch.setattr("svd_loop.support.child_process.subprocess", subprocess)
    asked = [GenerationRequest(prompt, Sampling(40, 0.0), 0) for prompt in prompts[:60]]
    with closing(open_vllm(codec, replicas=2)) as pair:
        pids = pair.pids
        assert agreeing(pair.generate(asked), engine.generate(asked)) >= 0.98
        os.kill(pids[1], signal.SIGKILL)
        with pytest.raises(EngineError, match="replica 1 was ended by SIGKILL"):
            pair.generate(asked)
        with pytest.raises(EngineError, match="is closed"):
            pair.generate(asked)
        assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


@pytest.mark.slow  # the job below serves one, and `test_vllm_servers` compares the answers of one
def test_an_adapter_is_served_unmerged(codec: ChatCodec, prompts: list[tuple[int, ...]], tmp_path: Path) -> None:
    import torch
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    settings = LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", use_rslora=True, init_lora_weights=False)
    model = get_peft_model(load_checkpoint(NANO_CHECKPOINT, "float32"), settings)
    model.save_pretrained(tmp_path)
    asked = [GenerationRequest(prompt, Sampling(20, 0.0), 0) for prompt in prompts[:50]]
    merged = TransformersEngine(model.merge_and_unload(), stop_ids=codec.stop_ids).generate(asked)
    with closing(open_vllm(codec, adapter=tmp_path)) as served:
        found = served.generate(asked)
    assert agreeing(found, merged) >= 0.96
    plain = TransformersEngine(load_checkpoint(NANO_CHECKPOINT, "float32"), stop_ids=codec.stop_ids).generate(asked)
    assert agreeing(found, plain) < 0.5


@pytest.mark.slow
def test_answers_that_repeat_themselves_are_cut_off(engine: VllmEngine, codec: ChatCodec) -> None:
    asked = [GenerationRequest((token,) * 40, Sampling(300, 0.0), 0) for token in range(20, 60)]  # it goes on for ever
    full = engine.generate(asked)
    with closing(open_vllm(codec, repetition=RepetitionSection(shortest=1, longest=8, count=4))) as strict:
        cut = strict.generate(asked)
    shorter = [(a, b) for a, b in zip(cut, full, strict=True) if len(a.token_ids) < len(b.token_ids)]
    assert shorter
    assert all(a.token_ids == b.token_ids[: len(a.token_ids)] for a, b in shorter)
    assert {a.finish_reason for a, _ in shorter} == {FinishReason.LENGTH}


@pytest.mark.slow
def test_a_thought_is_ended_at_its_budget(tmp_path: Path) -> None:
    """Random weights, which would think on to the end of the answer: all they do is watched by a real vLLM."""
    asked, codec, end = thoughts(tmp_path, "<think>")
    with closing(
        VllmEngine(
            Served(tmp_path, "round-000-thinker", 0),
            VllmEngineSection(**SETTINGS, thinking_token_budget=5, reasoning_parser="qwen3"),
            dtype="float32",
            max_context=128,
            stop_ids=codec.stop_ids,
            probe_prompts=[tuple(range(10, 40))],
        )
    ) as thinker:
        answers = thinker.generate(asked)
        assert agreeing(thinker.generate(asked), answers) >= 0.9
    assert_thoughts_end(answers, end, budget=5)


@pytest.mark.slow
def test_a_stopped_child_is_an_error(codec: ChatCodec, prompts: list[tuple[int, ...]], tmp_path: Path) -> None:
    with closing(open_vllm(codec, stall_seconds=2.0)) as hung:
        (pid,) = hung.pids
        os.kill(pid, signal.SIGSTOP)
        with pytest.raises(EngineError, match="gave no sign for 2 s"):
            hung.generate(sampled(prompts[:2]))
        assert not Path(f"/proc/{pid}").exists()


@pytest.mark.slow
def test_other_weights_than_those_stored_are_refused(
    codec: ChatCodec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """vLLM starts on a model whose file is exchanged under its hands: its reference is of the old weights."""
    import shutil

    import torch
    from safetensors.torch import load_file, save_file

    from policies.engines import vllm
    from policies.engines.vllm_child import Start

    shutil.copytree(NANO_CHECKPOINT, tmp_path / "checkpoint")
    weights = tmp_path / "checkpoint" / "model.safetensors"
    save_file({name: torch.mul(value, 1.05) for name, value in load_file(weights).items()}, weights, {"format": "pt"})
    real = check_probe

    def against_the_stored(started: list[Started], tolerance: float, served: Served) -> float:
        prompts = [list(range(10, 60)), list(range(90, 120))]
        stored = Start(
            checkpoint=str(NANO_CHECKPOINT),
            dtype="float32",
            prompts=prompts,
            adapter=None,
            engine={},
            sampling={},
            repetition=None,
            reference=True,
        )
        assert real(started, tolerance, served) < 0.001  # of what it loaded, it is a faithful copy
        return real([Started(**{**started[0], "reference": reference_logprobs(stored)})], tolerance, served)

    monkeypatch.setattr(vllm, "check_probe", against_the_stored)
    with pytest.raises(ModelError, match="vLLM serves other weights"):
        open_vllm(codec, tmp_path / "checkpoint")


def job(root: Path, *overrides: str) -> Config:
    few = ("data.development.count=12", "data.prompts_per_round=18")
    return small_job(root, *few, "health.canaries=0", "engine.threads=1", *overrides)


@pytest.mark.parametrize(
    "update",
    [
        ("update.method=lora", "update.learning_rate=2.0e-3"),
        pytest.param(("update.method=full",), marks=pytest.mark.slow),
    ],
    ids=["lora", "full"],
)
def test_a_job_on_vllm_gets_what_one_on_transformers_gets(update: tuple[str, ...], tmp_path: Path) -> None:
    """Every version is loaded, probed and measured; figures lie within the other engine's 95% intervals."""
    expected: JobResult = run_job(job(tmp_path / "transformers", "job.rounds=1", *update))
    found = run_job(job(tmp_path / "vllm", "job.rounds=1", *update, *ON_VLLM))
    assert_alike(found, expected)
    assert len({record.version.fingerprint for record in found.history}) == len(found.history)
    stored = WeightStore(tmp_path / "vllm" / "jobs" / "nano" / "versions").load(1)
    if stored.kind == "lora":
        assert_base_would_be_refused(stored)


def assert_base_would_be_refused(stored: StoredVersion) -> None:
    """The probe that an adapter passed is one that its base, served in its place, does not pass."""
    prompts = [list(ids) for ids in probe_prompts_of(ChatCodec.load(NANO_CHECKPOINT))]
    base, adapted = (
        reference_logprobs(
            Probed(checkpoint=str(NANO_CHECKPOINT), dtype="float32", adapter=adapter, prompts=prompts),
        )
        for adapter in (None, (stored.version.name, 1, str(stored.path)))
    )
    with pytest.raises(ModelError, match="serves other weights"):
        check_probe(
            [Started(version="", served=base, reference=adapted)],
            default_tolerance("float32"),
            Served(NANO_CHECKPOINT, stored.version.name, 1, stored.path),
        )
