from __future__ import annotations

import json
import random
import shutil
import sys
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from svd_loop.contracts import JobPaths
from svd_loop.errors import JobConflictError, LedgerError
from svd_loop.ledger import DurablePolicy, Ledger, content_digest, salvage
from tests.processes import run
from tests.svd_loop.ledger import samples

CALLS = [samples.solve(f"p{number}", 0) for number in range(600)]
PAGE = 4096


def play(ledger: Ledger, policy: samples.StubPolicy) -> str:
    """Ask everything, commit everything: what a resumed job does."""
    ledger.record_prompts(samples.PROMPTS)
    DurablePolicy(policy, ledger, 50).generate(CALLS)
    samples.commit_rounds(ledger, 2)
    return content_digest(ledger)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("sound")
    with Ledger.open(folder, samples.config()) as ledger:
        return folder, play(ledger, samples.StubPolicy())


def damaged_copy(sound: Path, folder: Path, seed: int) -> Path:
    """The ledger with a few pages (never the first two, which hold schema and meta) overwritten by noise."""
    shutil.copytree(sound, folder, dirs_exist_ok=True)
    noise = random.Random(seed)
    with JobPaths(folder).ledger.open("r+b") as file:
        pages = JobPaths(folder).ledger.stat().st_size // PAGE
        for _ in range(3):
            file.seek(noise.randrange(8, pages) * PAGE)
            file.write(noise.randbytes(PAGE))
    return folder


@pytest.mark.parametrize("seed", range(12))
def test_a_salvaged_job_continues_and_ends_the_same(seed: int, sound: tuple[Path, str], tmp_path: Path) -> None:
    folder = damaged_copy(sound[0], tmp_path / "job", seed)
    try:
        kept = salvage(folder)
    except LedgerError as error:
        assert "configuration is readable" in str(error)  # the page that says which job it was is gone
        assert JobPaths(folder).ledger.exists() and not (folder / "ledger.sqlite.damaged").exists()
        return
    assert (folder / "ledger.sqlite.damaged").exists()
    policy = samples.StubPolicy()
    with Ledger.open(folder, samples.config()) as ledger:
        assert play(ledger, policy) == sound[1]
    asked = sum(len(chunk) for chunk in policy.asked)
    assert asked <= len(CALLS) - kept["answers"]


def test_a_round_that_lost_a_row_goes_with_its_successors(sound: tuple[Path, str], tmp_path: Path) -> None:
    folder = tmp_path / "job"
    shutil.copytree(sound[0], folder)
    with Ledger.open(folder, samples.config()) as ledger:
        list(ledger.query("DELETE FROM votes WHERE round = 1 AND prompt_id = 'p0'"))
    kept = salvage(folder)
    assert (kept["rounds"], kept["candidates"], kept["answers"]) == (1, 0, len(CALLS))
    with Ledger.open(folder, samples.config()) as ledger:
        assert play(ledger, samples.StubPolicy()) == sound[1]


def test_a_sound_ledger_is_kept_whole(sound: tuple[Path, str], tmp_path: Path) -> None:
    folder = tmp_path / "job"
    shutil.copytree(sound[0], folder)
    salvage(folder)
    with Ledger.open(folder, samples.config()) as ledger:
        assert content_digest(ledger) == sound[1]


def test_a_running_job_is_left_alone(tmp_path: Path) -> None:
    with Ledger.open(tmp_path, samples.config()), pytest.raises(JobConflictError):
        salvage(tmp_path)


def command(*arguments: str) -> CompletedProcess[str]:
    return run([sys.executable, "-m", "svd_loop.ledger", *arguments])


def test_the_command_that_the_error_names_works(sound: tuple[Path, str], tmp_path: Path) -> None:
    folder = damaged_copy(sound[0], tmp_path / "job", 1)
    with pytest.raises(LedgerError, match=f"python -m svd_loop.ledger salvage {folder}"):
        Ledger.open(folder, samples.config())
    exported = command("export", str(folder), str(tmp_path / "parquet"))
    assert exported.returncode == 0, exported.stderr
    assert json.loads(exported.stdout)["answers"] > 0
    assert command("salvage", str(folder)).returncode == 0
    with Ledger.open(folder, samples.config()):
        pass


def test_a_query_from_the_command_line(sound: tuple[Path, str]) -> None:
    answer = command("query", str(sound[0]), "SELECT count(*) AS votes FROM votes")
    assert json.loads(answer.stdout) == {"votes": 8}
    missing = command("query", str(sound[0] / "nowhere"), "SELECT 1")
    assert missing.returncode == 2 and "no such ledger" in missing.stderr
