"""The policy over the real engine and a tiny model: keys, limits, exact ids, recordings."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from policies.opening import open_policy
from policies.policy import ModelPolicy, RecordingPolicy
from policies.scripted.recording import RecordedScript
from policies.versions.checkpoints import load_codec
from policies.versions.weights import WeightStore
from svd_loop.config.engines import TransformersEngineSection
from svd_loop.config.sections import ModelSection
from svd_loop.contracts import (
    AgentCall,
    CallId,
    FinishReason,
    Generation,
    GenerationRequest,
    Message,
    PolicyVersion,
    Role,
    RoleName,
    Sampling,
)
from svd_loop.errors import ConfigError, DataError, EngineError, ModelError
from tests.policies.agreement import agreeing
from tests.policies.families import save_family

SAMPLINGS = {Role.SOLVER: Sampling(12), Role.GRADER: Sampling(6, 0.7)}


def call(prompt: str = "p1", text: str = "2+2?", role: RoleName = Role.SOLVER, **fields: int) -> AgentCall:
    return AgentCall(CallId("train", 1, role, prompt, **fields), (Message("user", text),), "t/1")


def open_tiny(checkpoint: Path, folder: Path, *, job_seed: int = 0, **model: object) -> ModelPolicy:
    return open_policy(
        WeightStore(folder).add_base(checkpoint),
        samplings=SAMPLINGS,
        engine_settings=TransformersEngineSection(batch_size=8),
        model_settings=ModelSection.model_validate({"path": str(checkpoint), "device": "cpu", **model}),
        job_seed=job_seed,
    )


def test_replies_carry_exactly_what_went_in_and_came_out(checkpoint: Path, tmp_path: Path) -> None:
    policy = open_tiny(checkpoint, tmp_path)
    calls = [call(f"p{i}", f"{i}+{i}?", candidate=i % 2) for i in range(20)]
    replies = policy.generate(calls)
    codec = load_codec(WeightStore(tmp_path).load(0))
    assert [reply.call for reply in replies] == [item.id for item in calls]
    for item, reply in zip(calls, replies, strict=True):
        assert (reply.prompt_ids,) == tuple(codec.encode([item.messages]))
        assert codec.decode([reply.token_ids]) == [reply.text]
        assert (reply.prompt_tokens, reply.output_tokens) == (len(reply.prompt_ids), len(reply.token_ids))
        assert (reply.token_ids[-1] in codec.stop_ids) == (reply.finish_reason is FinishReason.STOP)
        assert reply.policy == policy.version
    reversed_calls = policy.generate(calls[::-1])
    assert [reply.call for reply in reversed_calls] == [reply.call for reply in replies[::-1]]
    assert agreeing(reversed_calls, replies[::-1]) >= 0.95
    assert policy.generate([]) == []
    policy.close()
    with pytest.raises(EngineError, match="closed"):
        policy.generate(calls)


def test_the_job_seed_decides_the_samples(checkpoint: Path, tmp_path: Path) -> None:
    texts = [open_tiny(checkpoint, tmp_path, job_seed=seed).generate([call()])[0].text for seed in (0, 0, 1)]
    assert texts[0] == texts[1] != texts[2]


class Echo:
    """An engine that remembers what it was asked."""

    def __init__(self, missing: int = 0) -> None:
        self.asked: list[GenerationRequest] = []
        self.missing = missing
        self.answer = Generation((10, 2), FinishReason.STOP)

    def generate(self, requests: list[GenerationRequest], *, label: str = "") -> list[Generation]:
        self.asked = list(requests)
        return [self.answer] * (len(requests) - self.missing)

    def close(self) -> None:
        pass


def echo(checkpoint: Path, folder: Path, *, max_context: int = 80, **changes: object) -> tuple[ModelPolicy, Echo]:
    engine = Echo()
    settings = {"version": PolicyVersion(0, "aa"), "samplings": SAMPLINGS, "job_seed": 3, **changes}
    codec = load_codec(WeightStore(folder).add_base(checkpoint))
    return ModelPolicy(engine, codec, max_context=max_context, **settings), engine


def test_every_difference_that_matters_changes_the_key(checkpoint: Path, tmp_path: Path) -> None:
    policy, _ = echo(checkpoint, tmp_path)
    keys = [
        policy.key(item)
        for item in (
            call(),
            call("p2"),
            call(text="3+3?"),
            call(role=Role.GRADER),
            call(candidate=1),
            call(vote=1),
            call(attempt=1),
            replace(call(), template_version="t/2"),
            replace(call(), messages=(Message("system", "2+2?"),)),
            replace(call(), id=replace(call().id, purpose="test")),
            replace(call(), id=replace(call().id, round=2)),
            replace(call(), id=replace(call().id, stage="factuality")),
        )
    ]
    changes = (
        {"version": PolicyVersion(0, "bb")},
        {"job_seed": 4},
        {"samplings": {Role.SOLVER: Sampling(12, 0.9)}},
        {"max_context": 70},
    )
    keys += [echo(checkpoint, tmp_path, **change)[0].key(call()) for change in changes]
    assert len(set(keys)) == len(keys)
    assert keys[0] == echo(checkpoint, tmp_path, version=PolicyVersion(5, "aa"))[0].key(call())


def test_a_repeated_question_gets_twice_the_room_the_context_allows(checkpoint: Path, tmp_path: Path) -> None:
    policy, engine = echo(checkpoint, tmp_path)
    policy.generate([call(), call(attempt=1)])
    assert [request.sampling.max_tokens for request in engine.asked] == [12, 24]
    length = len(engine.asked[0].prompt_ids)
    tight, engine = echo(checkpoint, tmp_path, max_context=length + 15)
    tight.generate([call(attempt=1)])
    assert engine.asked[0].sampling.max_tokens == 15


def test_a_prompt_without_room_is_refused_by_name(checkpoint: Path, tmp_path: Path) -> None:
    policy, engine = echo(checkpoint, tmp_path)
    with pytest.raises(DataError, match=r"prompt long-one, role solver: \d+ tokens .* model\.max_context: 80"):
        policy.generate([call(), call("long-one", "x" * 60)])
    assert engine.asked == []


def test_a_judge_call_that_does_not_fit_is_an_unanswered_vote(
    checkpoint: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The rest of the batch is asked; nothing is cut, and the job goes on."""
    policy, engine = echo(checkpoint, tmp_path)
    calls = [call(role=Role.GRADER, prompt="long-one", text="x" * 60), call(), call(role=Role.GRADER, text="y" * 70)]
    first, second, third = policy.generate(calls)
    assert len(engine.asked) == 1 and second.finish_reason is FinishReason.STOP
    for reply in (first, third):
        assert (reply.text, reply.token_ids, reply.output_tokens) == ("", (), 0)
        assert reply.finish_reason is FinishReason.LENGTH and len(reply.prompt_ids) > 60
        assert reply.prompt_tokens == 0  # nothing was read, so nothing is counted as paid for
    assert "2 judge calls do not fit model.max_context: 80" in caplog.text and "long-one" in caplog.text
    assert [reply.text for reply in policy.generate(calls[:1])] == [""]


def test_roles_think_or_do_not(tmp_path: Path) -> None:
    """Each role's prompt says whether to think, and so does the key of its answer."""
    folder = save_family("qwen3", tmp_path / "qwen")
    thinking, quiet = Sampling(12, thinking=True), Sampling(12)
    keys = []
    for samplings in ({Role.SOLVER: thinking, Role.GRADER: quiet}, {Role.SOLVER: quiet, Role.GRADER: thinking}):
        policy, engine = echo(folder, tmp_path / "store", samplings=samplings)
        calls = [call(), call(role=Role.GRADER), call("p2")]
        replies = policy.generate(calls)
        decoder = load_codec(WeightStore(tmp_path / "store").load(0)).tokenizer
        for item, reply in zip(calls, replies, strict=True):
            empty = decoder.decode(reply.prompt_ids).endswith("<think>\n\n</think>\n\n")
            assert empty != samplings[item.id.role].thinking
        assert [request.prompt_ids for request in engine.asked] == [reply.prompt_ids for reply in replies]
        keys += [policy.key(item) for item in calls]
    assert len(set(keys)) == 6
    measured, _ = echo(folder, tmp_path / "store", samplings={Role.SOLVER: quiet}, held_out=thinking)
    held_out = replace(call(), id=replace(call().id, purpose="test"))
    assert measured.generate([held_out])[0].prompt_ids == measured.generate([held_out])[0].prompt_ids
    assert len(measured.generate([held_out])[0].prompt_ids) < len(measured.generate([call()])[0].prompt_ids)


def test_a_final_answer_beyond_its_limit_counts_as_cut_off(tmp_path: Path) -> None:
    folder = save_family("qwen3", tmp_path / "qwen")
    policy, engine = echo(
        folder, tmp_path / "store", samplings={Role.SOLVER: Sampling(60, thinking=True, max_answer=3)}
    )
    codec = load_codec(WeightStore(tmp_path / "store").load(0))
    stop = codec.tokenizer.convert_tokens_to_ids("<|im_end|>")
    for text, reason in (("<think>" + "7" * 20 + "</think>123", FinishReason.STOP), ("1234", FinishReason.LENGTH)):
        ids = (*codec.tokenizer(text, add_special_tokens=False)["input_ids"], stop)
        engine.answer = Generation(ids, FinishReason.STOP)
        [reply] = policy.generate([call()])
        assert (reply.finish_reason, reply.token_ids) == (reason, ids)


def test_a_missing_answer_and_a_missing_role_are_errors(checkpoint: Path, tmp_path: Path) -> None:
    policy, engine = echo(checkpoint, tmp_path)
    engine.missing = 1
    with pytest.raises(EngineError, match="1 answers to 2 requests"):
        policy.generate([call(), call()])
    policy, _ = echo(checkpoint, tmp_path, samplings={})
    with pytest.raises(ConfigError, match="solver"):
        policy.key(call())


def test_recordings_play_back(checkpoint: Path, tmp_path: Path) -> None:
    policy, _ = echo(checkpoint, tmp_path)
    recording = tmp_path / "replies.jsonl"
    recorder = RecordingPolicy(policy, recording)
    replies = recorder.generate([call(candidate=2), call(role=Role.GRADER, vote=1)])
    assert recorder.version == policy.version and recorder.key(call()) == policy.key(call())
    lines = [json.loads(line) for line in recording.read_text().splitlines()]
    assert [(line["role"], line["candidate"], line["vote"]) for line in lines] == [("solver", 2, 0), ("grader", 0, 1)]
    script = RecordedScript(recording)
    assert script.answer(call(candidate=2), 0, 0) == (replies[0].text, FinishReason.STOP)
    recorder.close()
    with pytest.raises(DataError, match="cannot be recorded"):
        RecordingPolicy(policy, tmp_path / "no" / "folder.jsonl")


def test_a_gpu_that_is_not_there_is_a_model_error(checkpoint: Path, tmp_path: Path) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(ModelError, match=r"model\.device"):
        open_tiny(checkpoint, tmp_path, device="cuda")


MARKERS = ("[[Y]]", "[[N]]")


def test_a_call_with_choices_gets_one_of_them_whatever_the_roles_length(checkpoint: Path, tmp_path: Path) -> None:
    policy = open_tiny(checkpoint, tmp_path)
    calls = [replace(call(f"p{i}", role=Role.GRADER, attempt=i % 2), choices=MARKERS) for i in range(30)]
    replies = policy.generate(calls)
    assert {reply.text for reply in replies} <= set(MARKERS)
    assert all(reply.finish_reason is FinishReason.STOP for reply in replies)
    policy.close()


def test_choices_are_part_of_the_key_and_no_choices_are_not(checkpoint: Path, tmp_path: Path) -> None:
    policy = open_tiny(checkpoint, tmp_path)
    free = call(role=Role.GRADER)
    keys = {policy.key(one) for one in (free, replace(free, choices=MARKERS), replace(free, choices=MARKERS[:1]))}
    assert len(keys) == 3
    policy.close()
