from __future__ import annotations

import base64
import hashlib
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

from svd_loop.contracts import JobResult, JobState, PanelVotes, RoundRecord, StopReason, Usage, UsagePurpose
from svd_loop.report import page_html, write_page


class Reader(HTMLParser):
    """Collects tags, what is loaded from elsewhere, and the text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.loaded: list[str] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.loaded += [
            str(value) for name, value in attrs if name in ("src", "href") and not str(value).startswith("#")
        ]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_has_all_sections_and_loads_nothing_from_elsewhere(tmp_path: Path, result: JobResult) -> None:
    path = write_page(tmp_path / "report.html", result, {"job": {"name": "<b>demo</b>"}})
    read = Reader(path.read_text(encoding="utf-8"))
    assert read.loaded == []
    assert read.tags.count("details") == 4 + 1 and "script" not in read.tags
    assert read.text.count("Cost calls and tokens by role") == 4
    assert " read" not in read.text, "where all prompt tokens were read, one number is enough"
    assert "Stopped because held-out pass@1 stopped rising." in read.text
    assert "58.0 (53.0–63.0)" in read.text
    assert '"name": "<b>demo</b>"' in read.text and "b" not in read.tags
    assert [entry.name for entry in tmp_path.iterdir()] == ["report.html"]


def test_prompt_tokens_that_were_not_read_are_said(history: list[RoundRecord]) -> None:
    used = {UsagePurpose.ROUND: {"grader": Usage(7, 9000, 70, 6500)}}
    page = page_html(JobState("demo", (*history[:-1], replace(history[-1], usage=used))), {})
    assert "9.00k 2.50k read" in Reader(page).text


def test_the_page_allows_its_own_style_and_nothing_else(result: JobResult) -> None:
    page = page_html(result, {})
    policy = page.partition('http-equiv="Content-Security-Policy" content="')[2].partition('"')[0]
    style = page.partition("<style>")[2].partition("</style>")[0]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert unescape(policy) == f"default-src 'none'; style-src 'sha256-{digest}'" and " style=" not in page


def test_an_unfinished_job_has_a_page_too(result: JobResult) -> None:
    assert "not finished" in page_html(JobState("demo", result.history[:1]), {})
    assert "used up" in page_html(JobState("demo", result.history, StopReason.BUDGET), {})
    empty = Reader(page_html(JobState("demo"), {}))
    assert "No round is recorded yet." in empty.text and "svg" not in empty.tags


def test_the_page_says_which_round_was_rolled_back(alarmed: list[RoundRecord]) -> None:
    read = Reader(page_html(JobState("demo", tuple(alarmed)), {}))
    assert "Round 2, rolled back to round-001: canaries accepted by the cascade" in read.text
    assert read.text.count("rolled back to round-001") == 3  # the note, the table, and the round


def test_the_page_has_the_search_and_the_panel_of_the_judge(alarmed: list[RoundRecord]) -> None:
    health = alarmed[2].health
    assert health is not None
    panel = PanelVotes(1, (("p", 0),), 4, "abc", right="yyyn", wrong="nnyi")
    told = replace(health, searched={"other_value": (8, 2), "slip": (3, 0)}, panel=panel)
    text = " ".join(
        Reader(page_html(JobState("demo", (*alarmed[:2], replace(alarmed[2], health=told))), {})).text.split()
    )
    assert "Planted errors of the search accepted by kind: other value 2 of 8 (25%), slip 0 of 3 (0%)." in text
    assert "on the panel of round 1: 3 of 4 (75%) on accepted solutions, 1 of 4 (25%) on wrong solutions." in text
    assert "on the panel of round" not in Reader(page_html(JobState("demo", tuple(alarmed)), {})).text
