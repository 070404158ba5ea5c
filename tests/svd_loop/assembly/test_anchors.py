"""Rows that keep the judge's roles alive."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from policies.scripted import decode
from svd_loop.assembly.anchors import OwnJudgements, SameAnswers, posttrain_rows
from svd_loop.contracts import Outcome, Prompt, TrainingRow
from svd_loop.evaluation.evaluation import same_answers
from svd_loop.jobs import run_job
from svd_loop.ledger import LedgerReader
from tests.svd_loop.jobs_support import small


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("anchors")
    run_job(small(root, "job.rounds=1"))
    return root / "jobs" / "scripted"


def test_own_judgements_are_vouched_for_and_as_often_yes_as_no(played: Path) -> None:
    with LedgerReader.open_for_reading(played) as reader:
        rows = OwnJudgements(reader, same_answers)(20, 2)
        accepted = {
            row["prompt_id"] for row in reader.query("SELECT DISTINCT prompt_id FROM verdicts WHERE accepted = 1")
        }
    answers = [decode(row.input_ids[row.supervised_from :]) for row in rows]
    yes = [answer for answer in answers if "[[Y]]" in answer]
    no = [answer for answer in answers if "[[N]]" in answer]
    inferred = len(answers) - len(yes) - len(no)
    assert 0 < len(yes) == len(no) <= 8
    assert inferred == len(yes) // 2
    assert {row.prompt_id for row in rows} <= accepted
    assert {row.origin for row in rows} == {"anchor"}


def test_a_no_to_what_was_accepted_in_the_end_is_not_vouched_for(played: Path) -> None:
    """Both solutions of a pair are told apart by their answers alone."""
    asked: list[tuple[Prompt, str, str]] = []

    def some(pairs: Sequence[tuple[Prompt, str, str]]) -> list[Outcome]:
        asked.extend(pairs)
        return [Outcome.of(place % 2 == 0) for place in range(len(pairs))]

    def no_votes(same: SameAnswers) -> set[tuple[int, ...]]:
        found = OwnJudgements(reader, same)(1_000_000, 2)
        return {row.input_ids for row in found if "[[N]]" in decode(row.input_ids[row.supervised_from :])}

    with LedgerReader.open_for_reading(played) as reader:
        every, half = no_votes(lambda pairs: [Outcome.WRONG] * len(pairs)), no_votes(some)
        assert len(asked) == len(set(asked)) > 1
        for outcome in (Outcome.RIGHT, Outcome.UNDECIDED):  # what could not be compared is no ground for a no
            assert not no_votes(lambda pairs, outcome=outcome: [outcome] * len(pairs))
    assert 0 < len(half) < len(every)


def test_own_judgements_are_the_same_every_time_and_few_when_few_are_there(played: Path) -> None:
    with LedgerReader.open_for_reading(played) as reader:
        own = OwnJudgements(reader, same_answers)
        assert own(8, 2) == own(8, 2)
        assert len(own(1_000_000, 2)) < 1_000_000
        assert list(own(8, 1)) == []


def test_posttrain_rows_come_from_the_judges_roles_alone() -> None:
    def encode(texts: list[tuple[str, str]]) -> list[TrainingRow]:
        assert all(user.rstrip().endswith(("Facts?", "Correct?", "Same?", "Asked:")) for user, _ in texts)
        return [TrainingRow((0,), 0, "anchor") for _ in texts]

    assert len(posttrain_rows(encode, 40, seed=1)) == 40
