from __future__ import annotations

import json
import math
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from svd_loop.config.sections import PlateauSection
from svd_loop.contracts import Estimate, JobResult, JobState, Prompt, StopReason
from svd_loop.errors import JobConflictError, LedgerError
from svd_loop.ledger import Ledger, LedgerReader
from tests.processes import Process
from tests.svd_loop.ledger import samples


def open_ledger(folder: Path) -> Ledger:
    return Ledger.open(folder, samples.config())


def test_a_new_job_is_empty_and_describes_itself(tmp_path: Path) -> None:
    with open_ledger(tmp_path / "jobs" / "sample") as ledger:
        assert ledger.state() == JobState("sample")
        assert ledger.result() is None
        assert ledger.accepted_rows() == []
        assert ledger.config() == samples.config().model_dump(mode="json")
    written = json.loads((tmp_path / "jobs" / "sample" / "config.json").read_text())
    assert written == samples.config().model_dump(mode="json")


def test_rounds_come_back_as_they_were(tmp_path: Path) -> None:
    with open_ledger(tmp_path) as ledger:
        samples.commit_rounds(ledger, 2)
    with open_ledger(tmp_path) as ledger:
        assert ledger.state().history == tuple(samples.record(round) for round in range(3))
        assert ledger.accepted_rows() == [*samples.rows(1), *samples.rows(2)]
        assert ledger.accepted_rows(range(2, 3)) == samples.rows(2)


def test_not_a_number_comes_back_as_such(tmp_path: Path) -> None:
    empty = replace(samples.scores(0), estimates={"math": {"pass@1": Estimate(math.nan, -math.inf, 0.25)}})
    with open_ledger(tmp_path) as ledger:
        ledger.commit_round(replace(samples.record(0), scores=empty, metrics={"loss": math.nan}))
        record = ledger.state().last
    estimate = record.scores.estimates["math"]["pass@1"]
    assert math.isnan(estimate.value) and estimate.low == -math.inf and estimate.high == 0.25
    assert math.isnan(record.metrics["loss"])


def test_a_repeated_commit_changes_nothing(tmp_path: Path) -> None:
    with open_ledger(tmp_path) as ledger:
        samples.commit_rounds(ledger, 1)
        slower = replace(samples.record(1), seconds={"sample": 99.0})
        ledger.commit_round(slower, samples.episode(1), samples.rows(1), samples.update(1))
        assert ledger.state().history[1] == samples.record(1)
        assert len(ledger.accepted_rows()) == len(samples.rows(1))


def test_a_committed_round_cannot_be_replaced(tmp_path: Path) -> None:
    with open_ledger(tmp_path) as ledger:
        samples.commit_rounds(ledger, 1)
        with pytest.raises(LedgerError, match="round 1 is committed with version"):
            ledger.commit_round(replace(samples.record(1), version=samples.version(7)))


def test_rounds_follow_one_another(tmp_path: Path) -> None:
    with open_ledger(tmp_path) as ledger, pytest.raises(LedgerError, match="round 1 cannot follow round -1"):
        ledger.commit_round(samples.record(1))


def test_a_round_that_cannot_be_written_whole_is_not_written(tmp_path: Path) -> None:
    with open_ledger(tmp_path) as ledger:
        samples.commit_rounds(ledger, 0)
        broken = replace(samples.episode(1), verdicts=samples.episode(1).verdicts * 2)  # the same candidates twice
        with pytest.raises(LedgerError, match="UNIQUE"):
            ledger.commit_round(samples.record(1), broken, samples.rows(1), samples.update(1))
        assert ledger.state().next_round == 1
        assert list(ledger.query("SELECT * FROM candidates")) == []
        samples.commit_rounds(ledger, 1)
        assert ledger.state().next_round == 2


def finish(ledger: Ledger, reason: StopReason) -> JobResult:
    history = ledger.state().history
    result = JobResult("sample", reason, history[1], history, {"round-001": samples.scores(1)}, ("a note",))
    ledger.commit_stop(result)
    return result


def test_a_stop_comes_back_with_its_result(tmp_path: Path) -> None:
    with open_ledger(tmp_path) as ledger:
        samples.commit_rounds(ledger, 2)
        result = finish(ledger, StopReason.PLATEAU)
        finish(ledger, StopReason.PLATEAU)
        assert ledger.result() == result
        assert ledger.state().stop is StopReason.PLATEAU


def test_a_stop_is_void_after_another_round(tmp_path: Path) -> None:
    with open_ledger(tmp_path) as ledger:
        samples.commit_rounds(ledger, 2)
        finish(ledger, StopReason.PLATEAU)
        ledger.commit_round(samples.record(3), samples.episode(3), samples.rows(3), samples.update(3))
        assert ledger.state().stop is None and ledger.result() is None


def test_an_interruption_does_not_end_a_job(tmp_path: Path) -> None:
    with open_ledger(tmp_path) as ledger:
        samples.commit_rounds(ledger, 1)
        finish(ledger, StopReason.INTERRUPTED)
        assert ledger.state().stop is None


@pytest.mark.parametrize(("reason", "in_force"), [(StopReason.ROUND_LIMIT, False), (StopReason.PLATEAU, True)])
def test_raising_a_limit_voids_a_stop_by_limit_only(tmp_path: Path, reason: StopReason, in_force: bool) -> None:
    with open_ledger(tmp_path) as ledger:
        samples.commit_rounds(ledger, 1)
        finish(ledger, reason)
    with Ledger.open(tmp_path, samples.config(rounds=20)) as ledger:
        assert (ledger.state().stop is reason) == in_force
    assert json.loads((tmp_path / "config.json").read_text())["job"]["rounds"] == 20


def test_a_changed_configuration_is_refused_with_the_ways_out(tmp_path: Path) -> None:
    with open_ledger(tmp_path) as ledger:
        samples.commit_rounds(ledger, 1)
    changed = samples.config(seed=3).model_copy(update={"plateau": PlateauSection(patience=7)})
    with pytest.raises(JobConflictError) as caught:
        Ledger.open(tmp_path, changed)
    message = str(caught.value)
    assert "job.seed: 0 -> 3" in message and "plateau.patience: 2 -> 7" in message
    assert f"--fork {tmp_path.name}@ROUND" in message
    with open_ledger(tmp_path):  # nothing was changed and the lock is free
        pass


def test_a_second_process_is_refused_with_the_holder_of_the_job(tmp_path: Path) -> None:
    program = (
        "import signal, sys; from pathlib import Path; from svd_loop.ledger import Ledger;"
        "from tests.svd_loop.ledger import samples;"
        "ledger = Ledger.open(Path(sys.argv[1]), samples.config()); print('open', flush=True); signal.pause()"
    )
    root = Path(__file__).parents[3]
    with Process([sys.executable, "-c", program, str(tmp_path)], cwd=root, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == "open\n"
        with pytest.raises(JobConflictError, match=f"process {holder.pid} "):
            open_ledger(tmp_path)
        with LedgerReader.open_for_reading(tmp_path) as reader:  # reading is always possible
            assert reader.state().job == "sample"
        holder.send_signal(signal.SIGKILL)
    with open_ledger(tmp_path):  # the lock died with its holder
        pass


def test_one_process_cannot_open_a_job_twice(tmp_path: Path) -> None:
    with open_ledger(tmp_path), pytest.raises(JobConflictError):
        open_ledger(tmp_path)


def test_prompts_come_back_even_from_odd_files(tmp_path: Path) -> None:
    odd = Prompt("odd", "lone \udc80 and \x00 and 🎉", samples.PROMPTS[0].domain, "b\udcff.jsonl:1")
    with open_ledger(tmp_path) as ledger:
        ledger.record_prompts([*samples.PROMPTS, odd])
        ledger.record_prompts(samples.PROMPTS)
        prompts = {prompt.id: prompt for prompt in ledger.prompts()}
    assert len(prompts) == len(samples.PROMPTS) + 1
    assert prompts["p3"] == samples.PROMPTS[3]
    assert prompts["odd"].text == odd.text
    assert prompts["odd"].source == "b\\udcff.jsonl:1"


def test_an_analyst_can_read_texts_in_sql(tmp_path: Path) -> None:
    with open_ledger(tmp_path) as ledger:
        ledger.record(samples.items([samples.solve("p1", 0)]))
    with LedgerReader.open_for_reading(tmp_path) as reader:
        (row,) = reader.query("SELECT role, content_text(text) AS words FROM replies WHERE prompt_id = ?", ["p1"])
    assert row == {"role": "solver", "words": samples.StubPolicy().reply(samples.solve("p1", 0)).text}


def test_a_reader_cannot_write(tmp_path: Path) -> None:
    open_ledger(tmp_path).close()
    with LedgerReader.open_for_reading(tmp_path) as reader, pytest.raises(LedgerError, match="cannot be written"):
        list(reader.query("DELETE FROM meta"))


def test_a_job_that_was_never_started_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="no such ledger"):
        LedgerReader.open_for_reading(tmp_path)


def test_the_time_of_every_process_counts_up_to_its_last_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(0, 36_000, 1800))
    monkeypatch.setattr("svd_loop.ledger.ledger.time.monotonic", lambda: float(next(clock)))
    with Ledger.open(tmp_path, samples.config()) as ledger:  # opened at 0:00, its identity written at 0:30
        samples.commit_rounds(ledger, 0)  # at 1:00
        assert ledger.hours() == 1.0
    with Ledger.open(tmp_path, samples.config()) as ledger:  # at 1:30; nothing to write
        assert ledger.hours() == 1.0
        ledger.record(samples.items([samples.solve("p", 0)]))
        assert ledger.hours() == 1.5
