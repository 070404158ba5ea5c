r"""Recognise words in an answer: answers of words alone, sentences, and the one number that a sentence says.

`math-verify` searches a sentence that it cannot parse for a number, so that `not 9.75€` equals 9.75. A sentence
therefore never reaches it, unless gold has the same words.
"""

from __future__ import annotations

import re
from typing import Final

from envs.domains.units import NOT_UNITS

_TEXT: Final = re.compile(r"\\text\s*\{((?:[^{}]|\{[^{}]*\})*)\}")
_ONLY_WORDS: Final = re.compile(r"[a-zA-Z][a-zA-Z\s'.-]*")
_COMMAND: Final = re.compile(r"\\(?:begin|end|operatorname)\s*\{[^{}]*\}?|\\[a-zA-Z]+")
_WORD: Final = re.compile(r"(?<![a-zA-Z'])[a-zA-Z]{2,}(?:'[a-z]{1,2})?")
_SENTENCE: Final = re.compile(
    r"(?<![a-zA-Z])(?:[a-zA-Z']{2,}[\s,:]+[a-zA-Z']{2,}|[a-zA-Z]{3,}\s|[a-zA-Z]{4,})|\s[a-zA-Z]{3,}(?![a-zA-Z])"
)
_FUNCTIONS_TEXT: Final = (
    "sin cos tan cot csc log ln exp lim max det gcd lcm sqrt pi infinity undefined mod modulo plus minus times by"
)
_FUNCTIONS: Final = frozenset(_FUNCTIONS_TEXT.split())
_MORE_CHANGES_TEXT: Final = (
    "never wrong incorrect false impossible cannot doubt doubts doubtful unlikely hardly barely exceed exceeds above "
    "below beyond within reject exclude excludes"
)
_CHANGES_MEANING: Final = (NOT_UNITS - _FUNCTIONS) | frozenset(_MORE_CHANGES_TEXT.split())
_OTHER_NUMBERS_TEXT: Final = (
    "zero one two three four five six seven eight nine ten eleven twelve twenty thirty forty fifty hundred half twice "
    "double triple third quarter dozen square squared cubed root sum product difference negative"
)
_OTHER_NUMBERS: Final = frozenset(_OTHER_NUMBERS_TEXT.split())
_DIGITS: Final = re.compile(r"(?<![\w.])[+-]?\s?[$€£]?\s?\d(?:[\d.,]*\d)?")
_LEAD: Final = re.compile(r"[A-Za-z][A-Za-z', :-]*\s")


def words_of(text: str) -> str:
    """The words of a text that holds only words, without formatting commands; empty for all other texts."""
    plain = " ".join(_TEXT.sub(r" \1 ", text).split())
    return plain if _ONLY_WORDS.fullmatch(plain) and plain not in ("i", "e") else ""


def sentence_words(text: str) -> list[str]:
    """The words of a normalised text that is no expression.

    It has two words in a row, one that no product of variables looks like, or one that changes a meaning ("not").
    """
    plain = _COMMAND.sub(" ", _TEXT.sub(r" \1 ", text))
    words = [word.lower() for word in _WORD.findall(plain)]
    return words if _SENTENCE.search(plain) or _CHANGES_MEANING.intersection(words) else []


def said_number(text: str) -> str | None:
    """The number at the end of a sentence and what follows it ("3 hours ago").

    None if the sentence holds another number, or a word that changes the meaning of one.
    """
    plain = " ".join(_TEXT.sub(r" \1 ", text).split())
    words = {word.lower() for word in _WORD.findall(plain)}
    numbers = list(_DIGITS.finditer(plain))
    if len(numbers) != 1 or words & (_CHANGES_MEANING | _OTHER_NUMBERS) or any("n't" in word for word in words):
        return None
    lead = plain[: numbers[0].start()]
    return plain[numbers[0].start() :] if _LEAD.fullmatch(lead) and len(lead.split()) > 1 else None
