"""What counts as the same text, and what does not."""

from __future__ import annotations

import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envs.prompts.normalise import clean, compared, content_id, is_blank
from svd_loop.contracts import BUILT_IN_DOMAINS, Domain


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("What is 3 + 4?", "  WHAT\tis 3+4 "),
        ("Don't pay $1,000.50!", "Don’t pay 1000.50"),
        ("caf\u00e9 and x\u00b2", "cafe\u0301 and x2"),
        ("a\u200bb\u00adc", "abc"),
        ("5 × 3 ÷ 2 − 1", "5 * 3 / 2 - 1"),
        ("ｆｕｌｌ　ｗｉｄｔｈ", "full width"),
        ("a well-known fact", "a well known fact"),
    ],
)
def test_copies_compare_equal(left: str, right: str) -> None:
    assert compared(left) == compared(right)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("3 + 4", "3 * 4"),
        ("2*(3+4)", "2*3+4"),
        ("x = -5", "x = 5"),
        ("1.5 kg", "15 kg"),
        ("5-3", "5, 3"),
        ("[1,2]", "12"),
    ],
)
def test_other_questions_compare_different(left: str, right: str) -> None:
    assert compared(left) != compared(right)


def test_form_of_a_question() -> None:
    form = compared("Ann's 1,000.5 apples (x+2)")
    assert form.words == ("anns", "10005", "apples", "x", "2")
    assert form.marks == ("1000.5", "(", "+", "2", ")")
    assert form.squeezed == "anns10005applesx2"
    assert form.numbers == ("10005", "2")
    assert form.operators == "+"
    assert form.pairs() == {"anns 10005", "10005 apples", "apples x", "x 2"}


def test_chinese_characters_are_words() -> None:
    assert compared("三个苹果 abc").words == ("三", "个", "苹", "果", "abc")


def test_empty_form_has_no_pairs() -> None:
    assert compared("?!").pairs() == frozenset()
    assert compared("one").pairs() == {"one"}


@given(st.text())
def test_clean_is_idempotent_and_nfc(text: str) -> None:
    cleaned = clean(text)
    assert clean(cleaned) == cleaned
    assert unicodedata.is_normalized("NFC", cleaned)
    assert "\r" not in cleaned


@given(st.text(), st.sampled_from(BUILT_IN_DOMAINS))
def test_id_depends_on_the_stored_text_only(text: str, domain: str) -> None:
    identity = content_id(text, domain)
    assert re.fullmatch("[0-9a-f]{16}", identity)
    assert identity == content_id(clean(text), domain) == content_id(f"\n {text}\r\n", domain)


def test_id_depends_on_domain_and_case() -> None:
    assert len({content_id("a", Domain.MATH), content_id("a", Domain.CODING), content_id("A", Domain.MATH)}) == 3


@given(st.text(alphabet=st.characters(codec="ascii")))
def test_ascii_path_agrees_with_the_general_one(text: str) -> None:
    # A trailing word in another script sends the same text through the general path.
    general = compared(text + " é")
    assert general.words[:-1] == compared(text).words
    assert general.marks == compared(text + " e").marks


@given(
    st.lists(
        st.sampled_from(["What", "is", "12", "plus", "x", "times", "3.5", "of", "all", "apples", "left"]), min_size=1
    )
)
def test_spacing_case_and_stops_do_not_count(words: list[str]) -> None:
    assert compared(" ".join(words)) == compared("\n\u00a0 ".join(words).upper() + " ?!")


@pytest.mark.parametrize(
    ("text", "blank"), [("", True), (" \n", True), ("\u200b\ufeff", True), ("?", False), ("é", False)]
)
def test_is_blank(text: str, blank: bool) -> None:
    assert is_blank(text) is blank
