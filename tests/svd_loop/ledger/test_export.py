from __future__ import annotations

from pathlib import Path

import pytest
from pyarrow import parquet

from svd_loop.contracts import AgentCall, Reply
from svd_loop.errors import LedgerError
from svd_loop.ledger import Ledger, LedgerReader, export_parquet
from svd_loop.ledger.views import VIEWS
from tests.svd_loop.ledger import samples


class OddPolicy(samples.StubPolicy):
    def reply(self, call: AgentCall) -> Reply:
        reply = super().reply(call)
        return Reply(reply.call, "odd \udc80 🎉", reply.finish_reason, reply.policy, (1, 2), (70_000,))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with Ledger.open(tmp_path / "job", samples.config()) as ledger:
        ledger.record_prompts(samples.PROMPTS)
        ledger.record(samples.items([samples.solve("p1", 0), samples.vote("p1", 0, 1)]))
        ledger.record(samples.items([samples.solve("p2", 0)], OddPolicy()))
        samples.commit_rounds(ledger, 1)
    return tmp_path


def test_every_table_becomes_a_file(folder: Path) -> None:
    with LedgerReader.open_for_reading(folder / "job") as reader:
        written = export_parquet(reader, folder / "parquet")
    assert written == {
        "prompts": 8,
        "answers": 3,
        "candidates": 4,
        "verdicts": 4,
        "votes": 4,
        "accepted_rows": 2,
        "judge_rows": 2,
        "updates": 1,
        "evaluations": 8,
        "estimates": 2,
        "rounds": 2,
        "stops": 0,
    }
    assert sorted(path.stem for path in (folder / "parquet").iterdir()) == sorted(view.name for view in VIEWS)
    assert sum(written.values()) == sum(parquet.read_metadata(path).num_rows for path in (folder / "parquet").iterdir())


def test_contents_are_decoded(folder: Path) -> None:
    with LedgerReader.open_for_reading(folder / "job") as reader:
        export_parquet(reader, folder / "parquet")
    answers = {row["key"]: row for row in parquet.read_table(folder / "parquet" / "answers.parquet").to_pylist()}
    ((key, call, reply),) = samples.items([samples.vote("p1", 0, 1)])
    row = answers[key]
    assert (row["text"], tuple(row["token_ids"]), row["role"]) == (reply.text, reply.token_ids, call.id.role)
    odd = next(row for row in answers.values() if row["prompt_id"] == "p2")
    assert (odd["text"], odd["token_ids"]) == ("odd \\udc80 🎉", [70_000])
    votes = parquet.read_table(folder / "parquet" / "votes.parquet").to_pylist()
    assert [vote["value"] for vote in votes] == ["yes", "yes", "no", "no"]


def test_an_export_while_the_job_runs_sees_whole_rounds(folder: Path) -> None:
    with Ledger.open(folder / "job", samples.config()), LedgerReader.open_for_reading(folder / "job") as reader:
        assert export_parquet(reader, folder / "parquet")["rounds"] == 2


def test_a_place_that_cannot_be_written(folder: Path) -> None:
    (folder / "parquet").write_text("in the way")
    with LedgerReader.open_for_reading(folder / "job") as reader, pytest.raises(LedgerError, match="File exists"):
        export_parquet(reader, folder / "parquet")
