"""Duplicates are found, siblings are kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from envs.prompts.dedup import DuplicateFinder
from envs.prompts.normalise import compared
from envs.prompts.similarity import Sketcher, jaccard
from svd_loop.config.data import DedupSection

LONG = (
    "A baker fills 12 trays with rolls before sunrise and sells most of them to the hotel at the corner of the market "
    "square, then carries what is left over to the school kitchen where the cook pays 3 coins for every dozen"
)


def kinds(texts: list[str], folder: Path, **settings: object) -> list[str | None]:
    folder.mkdir(exist_ok=True)
    kept: list[str] = []
    finder = DuplicateFinder(DedupSection.model_validate(settings), folder / "keys.sqlite", kept.__getitem__)
    sketcher = Sketcher()
    found: list[str | None] = []
    for text in texts:
        form = compared(text)
        sketch = sketcher.sketch(form) if finder.needs_sketch else None
        found.append(finder.check(text, form, sketch, len(kept)))
        kept += [text] if found[-1] is None else []
    finder.close()
    return found


def test_exact_and_near(tmp_path: Path) -> None:
    near = LONG.replace("coins", "euros")
    far = (
        near.replace("trays", "boxes").replace("rolls", "buns").replace("hotel", "inn")
    )
    assert kinds([LONG, LONG.upper() + "!", near, far, far], tmp_path) == [None, "exact", "near", None, "exact"]


def test_numbers_and_operators_matter(tmp_path: Path) -> None:
    other = LONG.replace("12", "13")
    assert kinds([LONG, other, other.replace("rolls", "buns")], tmp_path) == [None, None, "near"]
    assert kinds(["What is 3 + 4?", "What is 3 * 4?", "What is 3+4"], tmp_path / "2", near=0.5) == [None, None, "exact"]


def test_numbers_do_not_matter_when_told_so(tmp_path: Path) -> None:
    assert kinds([LONG, LONG.replace("12", "13")], tmp_path, numbers_matter=False) == [None, "near"]


@pytest.mark.parametrize(
    ("exact", "near", "expected"), [(True, 0.0, "exact"), (False, 0.9, "near"), (False, 0.0, None)]
)
def test_each_check_can_be_off(exact: bool, near: float, expected: str | None, tmp_path: Path) -> None:
    assert kinds([LONG, LONG], tmp_path, exact=exact, near=near) == [None, expected]


def test_texts_of_punctuation_only_differ(tmp_path: Path) -> None:
    assert kinds(["?", "!", "?"], tmp_path) == [None, None, "exact"]


def test_jaccard_of_nothing_is_zero() -> None:
    assert jaccard(frozenset(), frozenset()) == 0.0
    assert jaccard(frozenset("ab"), frozenset("bc")) == pytest.approx(1 / 3)
