"""Pages of a job that was played: canaries, held-out answers, lineage, and replies of an unfinished round."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from svd_loop.assembly.scripted_backend import ScriptedBackend
from svd_loop.cli.view import _scoring
from svd_loop.contracts import HealthReport, Outcome, StopReason, VoteValue
from svd_loop.jobs import run_job
from svd_loop.ledger import Ledger
from svd_loop.viewer.held_out import JUDGE, HeldOutFilter, misjudged, rows_of, samples_of, verdict_of
from svd_loop.viewer.links import ServerLinks
from svd_loop.viewer.pages import NoSuchPageError, Pages
from svd_loop.viewer.source import JobSource
from tests.svd_loop.jobs_support import small
from tests.svd_loop.ledger.samples import StubPolicy, config, items, solve
from tests.svd_loop.unhealthy_judges import BadJudge, always_yes


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pages]:
    settings = small(tmp_path_factory.mktemp("played"), "health.canaries=4", "evaluation.audit=8")
    run_job(settings)
    folder = settings.job.paths.folder
    source = JobSource(folder, _scoring(folder))
    yield Pages(source, ServerLinks(), live=True)
    source.close()


def test_canaries_are_planted_again_as_they_were(played: Pages) -> None:
    view = played.source.round(1)
    assert view is not None and view.record.health is not None and view.canaries is not None
    found = played.source.canaries(1)
    assert {one.kind for one in found} == set(view.record.health.canaries) and all(one.text for one in found)
    accepted = sum(not one.caught for one in found) / len(found)
    assert accepted == pytest.approx(view.canaries.value)
    assert "caught" in played.canaries(1)


def test_canaries_of_a_withdrawn_round_are_planted_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = ScriptedBackend.open
    monkeypatch.setattr(ScriptedBackend, "open", lambda self, round: BadJudge(opened(self, round), always_yes))
    settings = small(tmp_path, "health.canaries=8", "cascade.votes=3", "data.prompts_per_round=24", "job.rounds=1")
    result = run_job(settings)
    assert (result.stop, result.history[1].rows) == (StopReason.JUDGE_UNHEALTHY, 0)
    source = JobSource(settings.job.paths.folder)
    found = source.canaries(1)
    assert len(found) >= 16 and all(one.text and one.prompt and not one.caught for one in found)
    assert {one.kind for one in found} == set((result.history[1].health or HealthReport()).canaries)
    source.close()


def test_samples_of_a_problem_are_scored_as_they_were(played: Pages) -> None:
    view = played.source.round(1)
    assert view is not None
    for row in rows_of(view.record, view.record, HeldOutFilter()):
        samples = samples_of(played.source, view.record, row.id)
        assert len(samples) == view.record.scores.samples
        if row.domain == "coding" and 0 < row.right < len(samples):  # a viewer runs no programs
            assert {sample.outcome for sample in samples} == {None}
        else:
            assert sum(sample.outcome is Outcome.RIGHT for sample in samples) == row.right
    assert any(sample.audit for sample in samples_of(played.source, view.record, view.record.scores.problem_ids[0]))
    assert "judge says" in played.problem(1, view.record.scores.problem_ids[0], {})


def test_programs_are_run_again_where_that_is_asked(played: Pages) -> None:
    view = played.source.round(1)
    assert view is not None
    source = JobSource(played.source.folder, _scoring(played.source.folder, programs=True))
    mixed = rows_of(view.record, view.record, HeldOutFilter("coding", "some"))
    assert mixed
    for row in mixed:
        outcomes = [sample.outcome for sample in samples_of(source, view.record, row.id)]
        assert outcomes.count(Outcome.RIGHT) == row.right and None not in outcomes
    source.close()


@pytest.mark.parametrize("judge", JUDGE)
def test_problems_about_which_the_judge_was_wrong_are_found(played: Pages, judge: str) -> None:
    view = played.source.round(0)
    assert view is not None
    wrong = misjudged(played.source, view.record)
    found = rows_of(view.record, view.record, HeldOutFilter(judge=judge), wrong)
    expected = set()
    for id in view.record.scores.problem_ids:
        for sample in samples_of(played.source, view.record, id):
            outcome, verdict = sample.outcome, verdict_of(sample)
            if outcome is Outcome.WRONG and verdict is VoteValue.YES and judge != "refused":
                expected.add(id)
            if outcome is Outcome.RIGHT and verdict in (VoteValue.NO, VoteValue.INVALID) and judge != "accepted":
                expected.add(id)
    assert {row.id for row in found} == expected and (expected or judge == "accepted")
    page = played.held_out(0, {"judge": judge})
    assert f"{len(expected)} of 24 problems match" in page
    if expected:
        assert "judge refused right" in page or "judge accepted wrong" in page


def test_held_out_filters_split_the_problems(played: Pages) -> None:
    first, second = (played.source.round(number) for number in (0, 1))
    assert first is not None and second is not None
    count = {
        result: len(rows_of(second.record, first.record, HeldOutFilter(result=result)))
        for result in ("all", "some", "none", "")
    }
    assert count["all"] + count["some"] + count["none"] == count[""] == 24
    gained = rows_of(second.record, first.record, HeldOutFilter(result="gained"))
    assert all(row.right > row.base for row in gained)


def test_a_row_names_the_versions_that_learned_from_it(played: Pages) -> None:
    query = "SELECT prompt_id, candidate FROM accepted_rows WHERE round = 1 ORDER BY place LIMIT 1"
    row = next(played.source.reader.query(query))
    trained, _ = played.source.versions(row["prompt_id"], row["candidate"], 1)
    assert trained[0].name == "round-001"
    assert "Learned by" in played.prompt(1, row["prompt_id"], {})


def test_a_page_that_is_not_there_is_named(played: Pages) -> None:
    with pytest.raises(NoSuchPageError, match="no round 7; it has 0, 1, 2"):
        played.round(7)


def test_a_round_in_progress_shows_its_replies(job: Path, tmp_path: Path) -> None:
    folder = tmp_path / "jobs" / "sample"
    shutil.copytree(job, folder)
    source = JobSource(folder)
    before, idle = source.progress(), source.pulse().held
    with Ledger.open(folder, config()) as ledger:  # a writer at work while the viewer is open
        ledger.record(items([solve(f"new-{number}", 0, 3) for number in range(5)], StubPolicy(2)))
        counted, again = source.progress(), source.progress()
        held = source.pulse().held
        ledger.record(items([solve("new-9", 0, 3)], StubPolicy(2)))
    assert (idle, held) == (None, True)
    assert (before, counted, again) == ([], [("train", "solver", 5)], [("train", "solver", 5)])
    assert source.progress() == [("train", "solver", 6)]
    assert "new-9" in Pages(source, ServerLinks(), live=True).newest()
    source.close()


def test_a_dead_holder_does_not_count_as_work(job: Path, tmp_path: Path) -> None:
    folder = tmp_path / "jobs" / "sample"
    shutil.copytree(job, folder)
    ended = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    (folder / "lock.owner").write_text(json.dumps({"pid": int(ended.stdout), "host": socket.gethostname()}))
    source = JobSource(folder)
    assert source.pulse().held is False
    (folder / "lock.owner").write_text(json.dumps({"pid": 1, "host": "elsewhere"}))
    assert source.pulse().held is None
    source.close()
