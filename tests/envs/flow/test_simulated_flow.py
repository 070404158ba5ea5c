"""The scheduler against simulated engines, as `benchmarks/flow.py` measures it, in small."""

from __future__ import annotations

import json

import pytest

from benchmarks import flow as benchmark
from benchmarks.flow_faults import run
from benchmarks.simulated_engine import Fleet, Traits


@pytest.mark.parametrize("fleet", [Fleet(2, 8), Fleet(3, 4, slow=0.4, lives=3_000.0)], ids=["plain", "failing"])
def test_the_flow_keeps_slots_busy_and_gives_the_verdicts_of_the_waves(fleet: Fleet) -> None:
    figures = benchmark.compare(40, fleet, Traits(), waves=True, chunk=16)
    assert figures["verdicts_differ"] == 0
    assert float(str(figures["busy"])) > 1.5 * float(str(figures["busy_waves"]))
    assert float(str(figures["makespan_ratio"])) > 1.5


def test_the_command_prints_one_json_object(capsys: pytest.CaptureFixture[str]) -> None:
    benchmark.main(["--prompts", "5", "--replicas", "1", "--slots", "8", "--json"])
    assert {"busy", "busy_waves", "makespan_ratio", "verdicts_differ"} <= set(json.loads(capsys.readouterr().out))


def test_faults_change_no_verdict_lose_no_answer_and_ask_none_twice() -> None:
    found = run(12)
    assert found["broken"] == {}
    assert set(found["processes_ended_by"]) == {"Killed", "EngineError", "LedgerError"}  # type: ignore[call-overload]
