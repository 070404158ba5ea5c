"""Duplicates are found, siblings are kept."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import pytest
from datasketch import MinHash
from hypothesis import given, settings
from hypothesis import strategies as st

from envs.prompts import dedup, similarity
from envs.prompts.dedup import DuplicateFinder, KeyMaker
from envs.prompts.normalise import compared
from envs.prompts.similarity import PERMUTATIONS, Bands, jaccard, sketches
from svd_loop.config.data import DedupSection

LONG = (
    "A baker fills 12 trays with rolls before sunrise and sells most of them to the hotel at the corner of the market "
    "square, then carries what is left over to the school kitchen where the cook pays 3 coins for every dozen"
)


def kinds(texts: list[str], folder: Path, *, at_once: int = 2, **section: object) -> list[str | None]:
    folder.mkdir(exist_ok=True)
    kept: list[str] = []
    rules = DedupSection.model_validate(section)
    finder = DuplicateFinder(rules, folder / "keys.sqlite", kept.__getitem__)
    maker = KeyMaker(rules)
    found: list[str | None] = []
    for first in range(0, len(texts), at_once):
        bundle = texts[first : first + at_once]
        forms = [compared(text) for text in bundle]
        keys = maker.keys(bundle, forms, sketches(forms) if maker.needs_sketches else None)
        finder.expect(keys)
        for text, key in zip(bundle, keys, strict=True):
            found.append(finder.check(text, key, len(kept)))
            kept += [text] if found[-1] is None else []
    finder.close()
    return found


WORDS = st.sampled_from(["red", "green", "blue", "7", "8", "old", "new", "big"])


@settings(deadline=None, max_examples=25)
@given(texts=st.lists(st.lists(WORDS, max_size=6).map(" ".join), max_size=25), at_once=st.integers(2, 25))
def test_bundles_change_nothing(texts: list[str], at_once: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    together = kinds(texts, tmp_path_factory.mktemp("together"), at_once=at_once, near=0.6)
    assert together == kinds(texts, tmp_path_factory.mktemp("alone"), at_once=1, near=0.6)


def test_keys_written_to_the_file_are_found_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [
        LONG.replace("12", str(number)).replace("rolls", word) for word in ("rolls", "buns") for number in range(40)
    ]
    texts += texts[:20]
    expected = [None] * 40 + ["near"] * 40 + ["exact"] * 20
    assert kinds(texts, tmp_path / "memory") == expected
    monkeypatch.setattr(dedup, "_WAITING", 0)
    monkeypatch.setattr(dedup, "_ASKED_AT_ONCE", 3)
    assert kinds(texts, tmp_path / "file") == expected


def test_sketches_are_those_of_datasketch(monkeypatch: pytest.MonkeyPatch) -> None:
    forms = [compared(text) for text in (LONG, "", "one", "two words", "?!", "Zwölf 七个 Äpfel " * 30, LONG.upper())]
    expected = []
    for form in forms:
        sketch = MinHash(num_perm=PERMUTATIONS, hashfunc=zlib.crc32)
        sketch.update_batch([pair.encode() for pair in form.pairs()])
        expected.append(sketch.hashvalues)
    assert np.array_equal(sketches(forms), expected)
    monkeypatch.setattr(similarity, "_HASHES_AT_ONCE", 7)
    assert np.array_equal(sketches(forms), expected)


def test_band_keys_keep_bands_and_salts_apart() -> None:
    bands = Bands(0.9)
    same = sketches([compared("one two three")] * 2)
    first, second = bands.keys(same)
    assert first == second
    assert len(set(first)) == bands.count
    salted, other = bands.keys(same, ["a", "b"])
    assert not set(salted) & set(other)


def test_exact_and_near(tmp_path: Path) -> None:
    near = LONG.replace("coins", "euros")
    far = near.replace("trays", "boxes").replace("rolls", "buns").replace("hotel", "inn")
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
