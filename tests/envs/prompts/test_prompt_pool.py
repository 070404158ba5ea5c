"""The pool: what passes, what is counted, and what survives a crash."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from envs.prompts import PromptPool, build_pool, content_id, leak_report, read_prompts
from envs.prompts import pool as pool_module
from svd_loop.config.data import DedupSection, FilesSource, LeakSection
from svd_loop.contracts import Domain, Problem, Prompt
from svd_loop.errors import DataError, LeakError, SvdError

HELD_OUT = "A train leaves at 9 with 120 people, 35 get off at the bridge and 14 get on. How many people arrive?"
TEXTS = [f"Ann picks {number} apples from the old tree and Bob eats {number + 2} of them." for number in range(20)]


def prompts(*texts: str) -> list[Prompt]:
    return [
        Prompt(content_id(t, Domain.MATH), t, Domain.MATH, f"train.jsonl:{n}") for n, t in enumerate(texts, start=1)
    ]


def held_out() -> list[Problem]:
    return [Problem(content_id(HELD_OUT, Domain.MATH), HELD_OUT, Domain.MATH, "99", source="test.jsonl:1")]


def build(path: Path, items: Any, digest: str = "d", **settings: Any) -> PromptPool:
    return build_pool(
        items,
        held_out(),
        path,
        dedup=settings.get("dedup", DedupSection()),
        leak=LeakSection(action=settings.get("action", "refuse")),
        too_long=settings.get("too_long"),
        progress=settings.get("progress"),
        digest=digest,
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "job" / "prompts.sqlite"


def test_everything_is_counted_once(path: Path) -> None:
    items = prompts(*TEXTS, TEXTS[3].upper(), "x" * 99, f"Solve this: {HELD_OUT}")
    pool = build(path, items, action="drop", too_long=lambda text: len(text) == 99)
    report = pool.report
    assert (report.read, report.kept, report.too_long, report.leaked, report.exact_duplicates) == (23, 20, 1, 1, 1)
    assert report.domains == {"math": 20}
    assert report.lines()[:2] == ["23 prompts read", "20 kept"]
    assert list(pool) == items[:20]
    assert pool.get(items[4].id) == items[4]
    assert len(pool) == 20
    with pytest.raises(KeyError):
        pool.get(items[-1].id)


def test_leaks_refuse_with_pairs_and_a_way_on(path: Path) -> None:
    with pytest.raises(LeakError, match=r"2 of 22 training prompts") as caught:
        build(path, prompts(*TEXTS, HELD_OUT, HELD_OUT.upper()))
    message = str(caught.value)
    assert "train.jsonl:21 holds test.jsonl:1 (exact, 1.00)" in message
    assert "data.leak.action: drop" in message
    pairs = [json.loads(line) for line in leak_report(path).read_text().splitlines()]
    assert [pair["source"] for pair in pairs] == ["train.jsonl:21", "train.jsonl:22"]
    assert not path.exists()
    assert os.listdir(path.parent) == [leak_report(path).name]


def test_an_up_to_date_pool_is_opened_without_reading(path: Path) -> None:
    build(path, prompts(*TEXTS)).close()

    def unread() -> Iterator[Prompt]:
        raise AssertionError("read again")
        yield

    assert len(build(path, unread())) == 20
    assert len(build(path, prompts(*TEXTS[:5]), digest="other")) == 5
    assert len(build(path, prompts(*TEXTS[:6]), digest="other", dedup=DedupSection(near=0))) == 6


@pytest.mark.parametrize("keep", [0, 100, 5000])
def test_a_truncated_pool_is_built_again(path: Path, keep: int) -> None:
    build(path, prompts(*TEXTS)).close()
    os.truncate(path, keep)
    assert len(build(path, prompts(*TEXTS))) == 20


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE prompts SET text = 'another' WHERE position = 3",
        "DELETE FROM prompts WHERE position = 19",
        "UPDATE prompts SET position = 99 WHERE position = 0",
        "UPDATE meta SET value = replace(value, '20', '19') WHERE key = 'report'",
        "DELETE FROM meta WHERE key = 'digest'",
        "DROP TABLE meta",
    ],
)
def test_a_changed_pool_is_built_again(path: Path, sql: str, caplog: pytest.LogCaptureFixture) -> None:
    build(path, prompts(*TEXTS)).close()
    with closing(sqlite3.connect(path)) as pool:
        pool.executescript(sql)
    with closing(build(path, prompts(*TEXTS))) as pool_again:
        assert [prompt.text for prompt in pool_again] == TEXTS
    assert f"{path}" in caplog.text and "built again" in caplog.text


def test_a_failed_build_leaves_the_old_pool(path: Path) -> None:
    build(path, prompts(*TEXTS)).close()

    def failing() -> Iterator[Prompt]:
        yield from prompts("one")
        raise DataError("train.jsonl:2: broken")

    with pytest.raises(DataError, match="broken"):
        build(path, failing(), digest="new")
    assert os.listdir(path.parent) == [path.name]
    assert len(PromptPool(path)) == 20


def test_leftovers_of_a_killed_build_do_not_matter(path: Path) -> None:
    part = path.with_name(path.name + ".part")
    for _ in range(2):  # killed before the pool was in place, or after
        part.mkdir(parents=True)
        (part / "prompts.sqlite").write_bytes(b"half")
        assert len(build(path, prompts(*TEXTS))) == 20
        assert not part.exists()


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SvdError, match="cannot be read or written"):
        build(tmp_path / "file" / "prompts.sqlite", prompts(*TEXTS))
    with pytest.raises(SvdError, match="cannot be read or written"):
        PromptPool(tmp_path / "none.sqlite")


def test_nothing_left_is_an_error_with_the_counts(path: Path) -> None:
    with pytest.raises(DataError, match="no training prompt is left: 20 prompts read; 0 kept; 20 too long"):
        build(path, prompts(*TEXTS), too_long=lambda text: True)


def test_equal_prompts_are_one_even_without_deduplication(path: Path) -> None:
    pool = build(path, prompts("same", "same", "SAME"), dedup=DedupSection(exact=False, near=0))
    assert [prompt.text for prompt in pool] == ["same", "SAME"]


def test_rounds_draw_without_repetition(path: Path) -> None:
    pool = build(path, prompts(*TEXTS))
    rounds = [pool.for_round(number, 5, seed=1) for number in (1, 2, 3, 4)]
    assert {prompt.text for drawn in rounds for prompt in drawn} == set(TEXTS)
    assert pool.for_round(3, 5, seed=1) == rounds[2]
    assert len(pool.for_round(1, None, seed=1)) == 20


def test_gold_fields_of_files_reach_the_report(path: Path, tmp_path: Path) -> None:
    file = tmp_path / "train.jsonl"
    file.write_text('{"prompt": "What is it?", "answer": "4"}\n')
    pool = build(path, read_prompts(FilesSource(paths=(str(file),), domain=Domain.MATH)))
    assert pool.report.gold_fields == {"answer": 1}
    assert pool.report.lines()[-1] == "1 gold field 'answer', dropped from rows"


def test_bundles_change_nothing_in_the_pool(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    near = [text.replace("old", "young") for text in TEXTS]
    items = prompts(*TEXTS[:10], HELD_OUT, *near, *TEXTS, "?", "x" * 99, HELD_OUT.upper())
    pools = []
    for at_once in (1, 7, 512):
        monkeypatch.setattr(pool_module, "_AT_ONCE", at_once)
        file = tmp_path / f"{at_once}.sqlite"
        pool = build(file, items, dedup=DedupSection(near=0.6), action="drop", too_long=lambda text: len(text) == 99)
        pools.append((list(pool), pool.report, leak_report(file).read_text()))
    assert pools[0] == pools[1] == pools[2]
    assert min(pools[0][1].near_duplicates, pools[0][1].exact_duplicates) >= 10


def test_progress_is_told(path: Path) -> None:
    seen: list[int] = []
    build(path, prompts(*(f"question {number}" for number in range(2500))), progress=seen.append)
    assert sum(seen) == 2500
