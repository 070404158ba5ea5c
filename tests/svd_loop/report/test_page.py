from __future__ import annotations

import base64
import hashlib
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

from svd_loop.contracts import JobResult, JobState, RoundRecord, StopReason
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
    assert "Stopped because held-out pass@1 stopped rising." in read.text
    assert "58.0 (53.0–63.0)" in read.text
    assert '"name": "<b>demo</b>"' in read.text and "b" not in read.tags
    assert [entry.name for entry in tmp_path.iterdir()] == ["report.html"]


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
