from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from policies.policy import RecordingPolicy
from policies.scripted import ScriptedPolicy, Traits
from svd_loop.contracts import BUILT_IN_ROLES, AgentCall, CallId, FinishReason, Message, PolicyVersion, Role
from svd_loop.errors import DataError, EngineError

CALL = AgentCall(CallId("train", 1, Role.GRADER, "p1", 2, "correctness", 1), (Message("user", "?"),), "chat/1")
ROW: dict[str, Any] = {
    "purpose": "train",
    "round": 1,
    "role": "grader",
    "prompt_id": "p1",
    "candidate": 2,
    "stage": "correctness",
    "vote": 1,
    "attempt": 0,
    "text": "fine [[Y]]",
    "finish_reason": "stop",
}


def recorded(path: Path, *rows: Any, round: int = 0) -> ScriptedPolicy:
    lines = (row if isinstance(row, str) else json.dumps(row) for row in rows)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return ScriptedPolicy.from_recording(path, version=PolicyVersion(round, "ab"), job_seed=0)


def test_a_recorded_reply_answers_its_call(tmp_path: Path) -> None:
    (reply,) = recorded(tmp_path / "r.jsonl", ROW, "").generate([CALL])
    assert (reply.text, reply.finish_reason, reply.call) == ("fine [[Y]]", FinishReason.STOP, CALL.id)


def test_what_a_policy_said_while_recorded_is_played_back(tmp_path: Path) -> None:
    version = PolicyVersion(2, "ab")
    policy = RecordingPolicy(ScriptedPolicy.simulated(Traits(), version=version, job_seed=3), tmp_path / "r.jsonl")
    calls = [
        AgentCall(CallId("train", 3, role, "p1", candidate), (Message("user", "What is 1 + 2?"),), "chat/1")
        for role in BUILT_IN_ROLES
        for candidate in range(3)
    ]
    replies = policy.generate(calls)
    policy.close()
    assert ScriptedPolicy.from_recording(tmp_path / "r.jsonl", version=version, job_seed=0).generate(calls) == replies


def test_a_cut_off_reply_stays_cut_off_and_has_no_stop_token(tmp_path: Path) -> None:
    (reply,) = recorded(tmp_path / "r.jsonl", {**ROW, "finish_reason": "length"}).generate([CALL])
    assert reply.finish_reason is FinishReason.LENGTH
    assert reply.token_ids == tuple(b"fine [[Y]]")


def test_a_missing_reply_is_an_error_that_names_the_call(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"no recorded reply for .*role=grader, prompt_id=p1.*vote=1"):
        recorded(tmp_path / "r.jsonl", {**ROW, "vote": 0}).generate([CALL])


def test_replies_of_several_versions_to_one_call_are_told_apart_by_the_policy_round(tmp_path: Path) -> None:
    rows = [{**ROW, "policy_round": 0, "text": "old"}, {**ROW, "policy_round": 1, "text": "new"}]
    rows.append({**ROW, "text": "any"})
    for round, expected in ((0, "old"), (1, "new"), (2, "any")):
        assert recorded(tmp_path / "r.jsonl", *rows, round=round).generate([CALL])[0].text == expected


def test_fields_left_out_have_the_defaults_of_a_call(tmp_path: Path) -> None:
    row = {"role": "solver", "prompt_id": "p1", "text": "42"}
    call = AgentCall(CallId("train", 0, Role.SOLVER, "p1"), (), "chat/1")
    assert recorded(tmp_path / "r.jsonl", row).generate([call])[0].text == "42"


def test_repeating_a_line_is_fine_and_contradicting_it_is_not(tmp_path: Path) -> None:
    recorded(tmp_path / "r.jsonl", ROW, ROW)
    with pytest.raises(DataError, match=r"r\.jsonl:2: a second, different reply"):
        recorded(tmp_path / "r.jsonl", ROW, {**ROW, "text": "other"})


@pytest.mark.parametrize("tail", ["", "{", '{"role": "grader", "text": "' + "x" * 70_000])
def test_a_line_that_a_kill_cut_short_is_taken_off_before_more_is_recorded(tmp_path: Path, tail: str) -> None:
    path, version = tmp_path / "r.jsonl", PolicyVersion(0, "ab")
    script = recorded(tmp_path / "played.jsonl", ROW)
    before = RecordingPolicy(script, path)
    before.generate([CALL])
    before.close()
    with path.open("a") as file:
        file.write(tail)
    after = RecordingPolicy(script, path)
    after.generate([CALL])
    after.close()
    assert len(path.read_text().splitlines()) == 2
    assert ScriptedPolicy.from_recording(path, version=version, job_seed=0).generate([CALL]) == script.generate([CALL])


def test_a_recording_of_only_a_cut_line_is_started_again(tmp_path: Path) -> None:
    (tmp_path / "r.jsonl").write_text('{"role": "gra')
    RecordingPolicy(recorded(tmp_path / "played.jsonl", ROW), tmp_path / "r.jsonl").close()
    assert (tmp_path / "r.jsonl").read_text() == ""


@pytest.mark.parametrize(
    "row, problem",
    [
        ("{", "not valid JSON"),
        ("[]", "is a JSON object, found list"),
        ({"role": "grader", "text": "x"}, "needs prompt_id as text"),
        ({**ROW, "role": "chef"}, "'chef' is no role; known: solver, question_inferrer"),
        ({**ROW, "vote": "1"}, "vote must be a whole number, found '1'"),
        ({**ROW, "finish_reason": "bored"}, "'bored' is not a valid FinishReason"),
    ],
)
def test_a_malformed_line_is_named(tmp_path: Path, row: Any, problem: str) -> None:
    with pytest.raises(DataError) as caught:
        recorded(tmp_path / "r.jsonl", ROW, row)
    assert "r.jsonl:2: " in str(caught.value)
    assert problem in str(caught.value)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"absent\.jsonl: recorded replies cannot be read"):
        ScriptedPolicy.from_recording(tmp_path / "absent.jsonl", version=PolicyVersion(0, "ab"), job_seed=0)
    (tmp_path / "binary.jsonl").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match=r"binary\.jsonl: recorded replies are not UTF-8"):
        ScriptedPolicy.from_recording(tmp_path / "binary.jsonl", version=PolicyVersion(0, "ab"), job_seed=0)
