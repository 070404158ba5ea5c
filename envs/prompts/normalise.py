"""Three forms of a text: as stored, as identified, as compared.

*Stored* is what the policy sees: Unicode NFC, uniform line ends, no outer white space, nothing else changed.
*Identified* is the content id, made from the stored text. *Compared* drops what can differ between copies of
the question (case, spacing, punctuation, compatibility characters, invisible characters) and keeps what makes it
another question: words, numbers, operators and brackets. The compared form is only ever compared, never shown to a
model.

Left out: look-alike letters of other scripts (Cyrillic a for Latin a), number words ("three" for 3) and stemming; and
scripts without spaces between words, except Chinese and Japanese, whose characters count as words.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from dataclasses import dataclass
from itertools import pairwise

from envs.prompts.program_form import without_form
from svd_loop.contracts import DomainName

OPERATORS = frozenset("+-*/=<>^%|±≤≥≠√∑∏∫∈∞")
_BRACKETS = frozenset("()[]{}")
_MARKS = OPERATORS | _BRACKETS
_CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"

# Invisible characters, and typographic variants of keyboard characters.
_INVISIBLE = (
    0xAD,
    0x180E,
    *range(0x200B, 0x2010),
    *range(0x202A, 0x202F),
    *range(0x2060, 0x2065),
    0xFEFF,
    *range(0xFE00, 0xFE10),
)
_UNIFIED: dict[int, str | None] = {
    **dict.fromkeys(_INVISIBLE),
    **dict.fromkeys(map(ord, "‐‑‒–—―−"), "-"),
    **dict.fromkeys(map(ord, "‘’ʼ′"), "'"),
    **dict.fromkeys(map(ord, "×·⋅∗"), "*"),
    **dict.fromkeys(map(ord, "÷⁄∕"), "/"),
}
_TOKEN = re.compile(
    rf"""[{_CJK}]                                            # one character is one word
    | (?:(?![{_CJK}])[^\W\d_])+(?:'[^\W\d_]+)*               # a word, apostrophes within it
    | \d{{1,3}}(?:,\d{{3}})+(?![\d])(?:\.\d+)?               # 12,345.6
    | \d+(?:\.\d+)?                                          # 12345.6
    | -(?=\s?(?:[\d.(]|[^\W\d_]\b))                          # a minus, not a hyphen or a dash
    | [{re.escape("".join(sorted(_MARKS - {"-"})))}]""",
    re.VERBOSE,
)
_ASCII_TOKEN = re.compile(
    rf"""[a-z]+(?:'[a-z]+)*
    | \d{{1,3}}(?:,\d{{3}})+(?!\d)(?:\.\d+)?
    | \d+(?:\.\d+)?
    | -(?=\s?(?:[\d.(]|[a-z]\b))
    | [{re.escape("".join(sorted(mark for mark in _MARKS - {"-"} if mark.isascii())))}]""",
    re.VERBOSE,
)


@dataclass(frozen=True, slots=True)
class Form:
    """A text in the form used for comparison.

    Attributes:
        words: Words and numbers in order; numbers as bare digits (`1,000.50` is `100050`).
        marks: Numbers (decimal point kept), operators and brackets in order. Two texts with the same words and
            different marks are different questions.
    """

    words: tuple[str, ...]
    marks: tuple[str, ...]

    @property
    def squeezed(self) -> str:
        """All words joined without spaces, so that spacing inside words and formulas does not matter."""
        return "".join(self.words)

    @property
    def numbers(self) -> tuple[str, ...]:
        """All numbers in order, as bare digits."""
        return tuple(word for word in self.words if word[0].isdecimal())

    @property
    def operators(self) -> str:
        """All operators in order; brackets are not operators."""
        return "".join(mark for mark in self.marks if mark in OPERATORS)

    def pairs(self) -> frozenset[str]:
        """Neighbouring words, the shingles of Jaccard similarity; a single word stands for itself."""
        return frozenset(map(" ".join, pairwise(self.words))) or frozenset(self.words)


def clean(text: str) -> str:
    """The text as stored: NFC, line ends as single newlines, no blanks around it."""
    return unicodedata.normalize("NFC", text.replace("\r\n", "\n").replace("\r", "\n")).strip()


def is_blank(text: str) -> bool:
    """Whether a text has no visible character."""
    return not (text if text.isascii() else text.translate(_UNIFIED)).strip()


def content_id(text: str, domain: DomainName) -> str:
    """16 hex digits of SHA-256 over domain and stored text: the same question has the same id in every file."""
    return hashlib.sha256(f"{domain}\x1f{clean(text)}".encode()).hexdigest()[:16]


def compared(text: str) -> Form:
    """The form of a text used for comparison."""
    text = without_form(text)
    folded = text.casefold()
    pattern = _ASCII_TOKEN
    if not folded.isascii():
        folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold()).translate(_UNIFIED)
        pattern = _TOKEN
    words, marks = [], []
    for token in pattern.findall(folded):
        if token.isalpha():
            words.append(token)
        elif token in _MARKS:
            marks.append(token)
        elif token[0].isdecimal():
            number = token.replace(",", "")
            marks.append(number)
            words.append(number.replace(".", ""))
        else:
            words.append(token.replace("'", ""))
    return Form(tuple(words), tuple(marks))


def digest(text: str, size: int = 8) -> int:
    """A signed integer of `size` bytes from BLAKE2b, as SQLite stores it."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=size).digest(), "big", signed=True)
