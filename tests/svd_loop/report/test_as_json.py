from __future__ import annotations

import json

from svd_loop.contracts import JobResult, JobState, RoundRecord, StopReason
from svd_loop.report import history_json, result_json, scores_json


def test_a_result_is_plain_data_with_every_round(result: JobResult) -> None:
    data = json.loads(json.dumps(result_json(result), allow_nan=False))
    assert (data["job"], data["stop_reason"], data["best_round"]) == ("demo", "plateau", 2)
    assert data["best_version"]["name"] == "round-002"
    assert [row["round"] for row in data["rounds"]] == [0, 1, 2, 3]
    assert data["rounds"][1]["votes"] == 1500
    assert data["rounds"][0]["accepted_fraction"] is None
    assert data["rounds"][2]["scores"]["estimates"]["overall"]["pass@1"]["value"] == 0.58
    assert set(data["test"]) == {"round-000", "round-002"}
    assert data["notes"] == ["3 problems detect 40 points"]


def test_a_history_has_the_same_rounds_and_no_end_yet(result: JobResult) -> None:
    data = history_json(JobState("demo", result.history))
    assert data["stop_reason"] is None
    assert data["rounds"] == result_json(result)["rounds"]
    assert history_json(JobState("demo", (), StopReason.BUDGET))["stop_reason"] == "budget"


def test_scores_name_split_and_size(result: JobResult) -> None:
    data = scores_json(result.test["round-000"])
    assert (data["split"], data["problems"], data["samples_per_problem"]) == ("test", 3, 4)


def test_alarms_are_named_with_what_they_did(alarmed: list[RoundRecord]) -> None:
    rows = json.loads(json.dumps(history_json(JobState("demo", tuple(alarmed)))))["rounds"]
    assert [row["alarms"] for row in rows] == [[], [], ["false_accept"]]
    assert [row["alarm_action"] for row in rows] == [None, None, "rollback"]
