"""Text of a model as HTML: nothing of it is ever an element, and what it means can be read."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from svd_loop.viewer.mathematics import mathml
from svd_loop.viewer.rich_text import LONGEST, plain, rich, stylesheet, visible

OURS = {"span", "mark", "code", "strong", "pre", "details", "summary", "small"}
MATHML = {"math", "mrow", "mi", "mn", "mo", "mtext", "mspace", "mfrac", "msqrt", "mroot", "mstyle", "msub", "msup"}
MATHML |= {"msubsup", "munder", "mover", "munderover", "mtable", "mtr", "mtd", "menclose", "mpadded", "mphantom"}


class Elements(HTMLParser):
    """The elements, attribute names and text of a piece of HTML."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.attributes: set[str] = set()
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        self.text += data


HOSTILE = st.text(st.sampled_from([*"<>&\"'`$*~\\{}[]()/=\n yYN1x", "\u202e", "\x1b", "\x00", "\ud800"]))
PIECES = st.lists(
    st.sampled_from(
        [
            "<script>",
            "</pre>",
            "$",
            "$$",
            "\\(",
            "\\)",
            "\\text{<b>",
            "}",
            "```",
            "```python\n",
            "\n",
            "<think>",
            "[[Y]]",
        ]
    )
    | HOSTILE
).map("".join)


@given(PIECES)
def test_no_text_becomes_an_element_or_a_style(text: str) -> None:
    read = Elements(str(rich(text)))
    assert read.names <= OURS | MATHML
    assert not {name for name in read.attributes if name.startswith("on") or name in ("style", "href", "src")}


@given(HOSTILE)
def test_as_written_shows_every_character(text: str) -> None:
    shown = Elements(str(plain(text))).text
    odd = {character for character in text if character in "\u202e\x1b\x00\ud800"}
    assert all(f"U+{ord(character):04X}" in shown for character in odd)
    for character in odd:
        text = text.replace(character, f"U+{ord(character):04X}")
    assert shown == text


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("x $\\frac{1}{2}$ y", "<mfrac>"),
        ("\\[ a^2 \\]", 'display="block"'),
        ("\\boxed{7}", "<menclose"),
        ("it costs $5 and $6", "it costs $5 and $6"),
        ("```python\nreturn 1\n```", '<span class="k">return</span>'),
        ("```nonsense\na<b\n```", "a&lt;b"),
        ("so [[N]]", '<mark class="no">[[N]]</mark>'),
        ("<think>hm</think>42", "</details>42"),
        ("<think>hm", "hm</details>"),
        ("**bold** and `code`", "<strong>bold</strong> and <code>code</code>"),
        ("$\\unknowncommand{$", "$\\unknowncommand{$"),
    ],
)
def test_marks_are_shown_as_what_they_mean(text: str, part: str) -> None:
    assert part in str(rich(text))


def test_a_huge_text_is_cut_and_says_so() -> None:
    shown = str(rich("a" * (LONGEST + 5_000)))
    assert len(shown) < LONGEST + 200 and "5,000 more characters" in shown


@pytest.mark.parametrize("latex", ["\\text{<script>x</script>}", "{" * 500 + "}" * 500, "\\left(" * 100, "x" * 5000])
def test_a_formula_that_is_unsafe_or_too_large_stays_source(latex: str) -> None:
    assert mathml(latex) is None


def test_an_address_in_a_formula_is_dropped() -> None:
    made = mathml("\\href{javascript:alert(1)}{x}")
    assert made is not None and "javascript" not in made and "<mi>x</mi>" in made


def test_a_title_is_one_visible_line() -> None:
    assert visible("a\n\u202eb  c") == "a <U+202E>b c"


def test_highlighted_code_has_colours_for_both_themes() -> None:
    assert '[data-theme="dark"] .code .k' in stylesheet() and "prefers-color-scheme" in stylesheet()
