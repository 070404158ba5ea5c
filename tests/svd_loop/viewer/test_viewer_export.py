"""Bundles: what is in them, what is not, and that they are bounded."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from svd_loop.errors import ConfigError
from svd_loop.viewer.export import export_pages
from tests.svd_loop.viewer.conftest import PROMPTS


def test_one_file_has_everything_it_needs_and_says_what_it_leaves_out(job: Path, tmp_path: Path) -> None:
    written = export_pages(job, tmp_path / "one.html", samples=5)
    text = written.path.read_text(encoding="utf-8")
    assert (written.prompts, written.left_out) == (5 + 1, len(PROMPTS) - 5)
    assert not re.findall(r'(?:src|href)="(?!#)', text) and "Left out: 65 other prompts" in text
    assert 'id="round-1-prompt-bidi"' in text and "held-out answers" in written.told
    assert [entry.name for entry in tmp_path.iterdir()] == ["one.html"]


def test_every_link_of_a_folder_leads_to_a_page_of_it(job: Path, tmp_path: Path) -> None:
    export_pages(job, tmp_path / "pages", samples=3)
    files = {file.name for file in (tmp_path / "pages").iterdir()}
    assert {"index.html", "round-1.html", "round-1-prompts.html", "viewer.js"} <= files
    for file in (tmp_path / "pages").glob("*.html"):
        links = set(re.findall(r'(?:src|href)="([^"#]+)', file.read_text(encoding="utf-8")))
        assert links <= files, file.name


def test_a_bundle_that_would_be_too_large_gets_fewer_prompts(
    job: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("svd_loop.viewer.export.LARGEST", 150_000)
    assert export_pages(job, tmp_path / "one.html", samples=8).prompts < 8


def test_a_full_folder_is_not_overwritten(job: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("kept")
    with pytest.raises(ConfigError, match="not an empty folder"):
        export_pages(job, tmp_path)
    assert (tmp_path / "mine").read_text() == "kept"
