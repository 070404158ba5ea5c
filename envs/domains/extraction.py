r"""Extract the final answer of a solution, the same way in every domain, in time linear in the text.

1. The last `\boxed{...}` or `\fbox{...}` whose braces balance decides; an escaped brace does not count. Boxes that are
   joined by a comma, "and" or "or" are one answer of several parts, so that two guesses are not one. A box left open (a
   truncated solution) is no answer. A "final answer" that is named behind the last box, or an `<answer>` element there,
   overrides it.
2. Without any box, the last marker with something behind it: `####`, `<answer>`, `answer is`, `answer:` (in English or
   another language), `final result:`, a heading that says no more than "Final Answer", or a line that starts with `A:`.
   What stands behind it, or on the next line with words where the marker ends its own, counts up to the end of the
   sentence, or to a reason (", since ..."). Sentences about an answer ("the answer is correct") do not count.
3. Without a marker, what is named before one ("B is the correct answer"), then what stands behind `result is` or
   `result:`.
4. Otherwise there is none. A number somewhere in the text is not an answer: guessing one rewards hedging.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from typing import Final

_BOX_TOKEN: Final = re.compile(
    r"(?P<box>\\{1,2}(?:boxed|fbox|framebox)(?![a-zA-Z])[ \t]*(?P<open>\{)?)|\\.|[{}]", re.DOTALL
)
_UNBRACED: Final = re.compile(r"[ \t]*(?P<content>(?:\\[a-zA-Z]+(?:[ \t]*(?:\{[^{}]*\}|[0-9])){1,2}|[^\s$\\,;])+)")
_BLANK: Final = r"(?:[\s$]|\\q?quad|\\[,;: ()\[\]])*"
_FOR_A_PART: Final = r"(?:for\s[^{}.\n]{1,30}?\s)?"
_BETWEEN_BOXES: Final = re.compile(
    rf"{_BLANK}(?:\\text\{{\s*[,;]?\s*{_FOR_A_PART}(?:and|or)\s*\}}|[,;]?\s*{_FOR_A_PART}(?:and|or)\b|[,;]){_BLANK}"
    rf"(?:[A-Za-z][\w{{}}]{{0,5}}\s*={_BLANK})?"
)
_BETWEEN: Final = 60
"""Characters between two boxes that may still join them."""

_FOREIGN_MARKERS: Final = (  # Spanish, German, French, Italian, Portuguese, Dutch, Swedish, Polish, Russian, ...
    r"respuestas?|antwort(?:en)?|l(?:ö|oe)sung\s+lautet|r[ée]ponses?|risposta|resposta|antwoord|svar(?:et)?|odpowied[źz]"
    r"|ответ|відповідь|cevap|jawaban"
)
_EASTERN_MARKERS: Final = r"答案|答え|正解|解答|정답|答(?=\s*[:：])"  # no spaces around these, so no ends of words
_MARKER: Final = re.compile(
    rf"####+|<answer>|(?<![^\W_])(?:answers?|ans|final\s+result|(?:correct|right|best)\s+(?:option|choice)"
    rf"|{_FOREIGN_MARKERS})(?![^\W_])|{_EASTERN_MARKERS}|^[ \t]*[*_]{{0,3}}A[*_]{{0,3}}(?=[ \t]*:)",
    re.IGNORECASE | re.MULTILINE,
)
_WEAK_MARKER: Final = re.compile(r"\b(?:results?|resultado|r[ée]sultat|ergebnis|risultato|результат)\b", re.IGNORECASE)
_STATED: Final = re.compile(  # what is named before a marker: "42 is the answer", "option B is correct"
    r"(?<!\S)[*_(]{0,3}(?:(?:(?:[Oo]ption|[Cc]hoice)\s+)(?P<option>\(?[A-Z]\)?)[*_)]{0,3}\s+is\s+(?:therefore\s+|thus\s+)?(?:the\s+)?"
    r"(?:correct|right|best)(?![^\W_])"
    r"|(?P<value>\$[^$\n]{1,200}\$|\\\([^\n]{1,200}?\\\)|\(?[A-Z]\)?|[+-]?[0-9]\S{0,60})[*_)]{0,3}\s+(?:is|are)"
    r"\s+(?:therefore\s+|thus\s+|indeed\s+)?(?:the|our|my)\s+(?:(?:correct|final|right|best|only|desired|required)\s+){0,2}"
    r"(?:answer|option|choice)(?![^\W_]))"
)
_OPTION_LINE: Final = re.compile(r"^[ \t]*[*_(]{0,3}B[*_]{0,3}[ \t]*[:.)]", re.MULTILINE)
_VERB: Final = re.compile(  # what turns the word into a marker, within a bounded reach
    r"(?:\W{0,3}(?:to|for|of|in)\s[^\n.:=]{1,80}?)?(?:[ \t]+(?:final|finale|correct[ae]?|richtige))?[ \t*_]{0,6}"
    r"(?:(?:is|are|was|be|should\s+be|would\s+be|will\s+be|must\s+be|equals|comes\s+(?:out\s+)?to(?:\s+be)?"
    r"|es|est|ist|lautet|é|è|jest|är)\b(?:[ \t]*[:=])?"
    r"|(?:[:=\uff1a\u662f\u4e3a\u70ba\u306f\uc740\u2192\u21d2]{1,3}|\.(?=[ \t]*\S)|-(?=[ \t]))"
    r"|(?=[ \t]*(?:\$|\\\(|\\\[))"
    r"|(?=[ \t]+(?:[(\[]?[A-Z][)\]]?|[+-]?[0-9][0-9.,/]{0,30})[.*_]{0,4}[ \t]*$))[*_]{0,3}",
    re.IGNORECASE | re.MULTILINE,
)
_NOTHING_MORE: Final = re.compile(r"[ \t*_#:.]{0,12}$", re.MULTILINE)
_HEADING_WORDS: Final = re.compile(
    r"^[ \t#*_>\d.]{0,12}(?:(?:the|final|correct|my|your|our|short)[ \t]+){0,3}$", re.IGNORECASE
)
_FILLER: Final = re.compile(
    r"(?:[*_:=>,\s]|\\(?:quad|qquad|;|,)"
    r"|(?:therefore|thus|simply|just|hence|now|clearly|indeed|exactly|definitely|certainly|given\s+by|equal\s+to|option|choice)\b[,:]?(?=\s*\S))*",
    re.IGNORECASE,
)
_ABOUT: Final = re.compile(  # a sentence about an answer, not the answer
    r"(?:not|in|as|to|that|what|how|why|when|which|of|for|on|by|from|below|above|based|found|obtained|derived|expressed|unique"
    r"|correct|incorrect|right|wrong|reasonable|valid|verified|consistent|clear|then|also|likely|probably|supposed|expected"
    r"|complete|ready|here|therefore|still|already|actually|wanted|asked|given|an?\s+(?!b\b)[a-z]{2,}|the\s+\w+\s+of)\b",
    re.IGNORECASE,
)
_REMARK: Final = re.compile(r"[a-z ]{3,}$")
"""What is no correction of a box: "the final answer is positive"."""
_REASON: Final = re.compile(
    r"[,;:.(\s]\s*(?:since|because|as\s+(?:the|it|we|there|this)|which|where|when|so\s+(?:the|that|we|it)|i\s+(?:hope|think|believe|guess)|hope|this\s+is|the\s+(?:other|rest)"
    r"|rounded|assuming|given\s+that|due\s+to|after|for\s+(?:the|a)\s|and\s+(?:this|that|it|so|the\s+answer))\b"
    r"|[,;]\s*(?:so|weil|da|denn|porque|pues|ya\s+que|car|puisque|parce\s+que|perch[ée])\s|</answer|(?<=[\d$)])(?::|\s+[\u2013\u2014])\s+[a-z]{2,}|[,，]?\s*因[为為]",
    re.IGNORECASE,
)
_SENTENCE_END: Final = re.compile(
    r"(?<!\b[A-Za-z]\.[a-z])(?<!\bapprox)(?<!\bca)\.(?=[*_\"')\]$`]{0,4}(?:\s|$))|\u3002|!(?=[*_]{1,4}(?:\s|$)|\s+[A-Z])"
)
_SENTENCE: Final = re.compile(  # "The volume of the box is 12"
    r"(?:the|there|it|this|that|we|he|she|they|so|not?|a|an|each|its|his|her|[A-Z][a-z]+)\s"
    r"(?P<before>.{0,200})(?:\b(?:is|are|was|were|equals)|'s)\s+(?P<said>[^a-z\s].*)"
)
_TWO_STATEMENTS: Final = re.compile(
    r"\b(?:is|are|was|were|equals)\s.*\b(?:or|and|but|if|while|when)\b|\b(?:either|if)\b"
)
_OPENERS: Final = {"$$": "$$", "\\[": "\\]", "\\(": "\\)", "$": "$"}
_MOST_MARKERS: Final = 200
"""Markers that are examined, from the end of a text: a collapsed model may write any number of them."""
_LONGEST: Final = 2000
"""Characters behind a marker that are examined; a longer answer is no answer."""


def final_answer(text: str) -> str | None:
    """The final answer by the rules above, stripped; None if there is none or it is empty."""
    boxes = _boxes(text)
    if boxes:
        corrected = next(_marked(text, _MARKER, boxes[-1][3], final=True), None)
        return corrected or _said(_joined(text, boxes).strip()) or None
    return next(_marked(text, _MARKER), None) or _stated(text) or next(_marked(text, _WEAK_MARKER), None)


def _boxes(text: str) -> list[tuple[int, int, int, int]]:
    """Complete boxes in order: start of the command, start and end of the content, end of the box."""
    found: list[tuple[int, int, int, int]] = []
    unclosed: list[tuple[int, int] | None] = []
    for token in _BOX_TOKEN.finditer(text):
        if token["box"] and token["open"]:
            unclosed.append((token.start(), token.end()))
        elif token["box"]:
            if content := _UNBRACED.match(text, token.end(), token.end() + _LONGEST):
                end = content.start("content") + len(content["content"].rstrip(".,;:!?"))
                found.append((token.start(), content.start("content"), end, end))
        elif token[0] == "{":
            unclosed.append(None)
        elif token[0] == "}" and unclosed and (opened := unclosed.pop()) is not None:
            found.append((*opened, token.start(), token.end()))
    return sorted(found)


def _joined(text: str, boxes: list[tuple[int, int, int, int]]) -> str:
    """The last box's content, preceded by those that a comma, "and" or "or" joins to it."""
    parts = [text[boxes[-1][1] : boxes[-1][2]]]
    for earlier, later in zip(boxes[-2::-1], boxes[:0:-1], strict=True):
        between = text[earlier[3] : later[0]]
        if len(between) > _BETWEEN or not _BETWEEN_BOXES.fullmatch(between):
            break
        parts.append(text[earlier[1] : earlier[2]])
    return ", ".join(dict.fromkeys(reversed(parts)))


def _stated(text: str) -> str | None:
    """The last value that is named before a marker."""
    found = next(iter(deque(_STATED.finditer(text), maxlen=1)), None)
    return (found["option"] or found["value"]).rstrip(".,;:*_") if found else None


def _marked(text: str, markers: re.Pattern[str], start: int = 0, *, final: bool = False) -> Iterator[str]:
    """The text behind the markers from `start` on, the last one first; `final` looks for "final answer" only."""
    lists_options = _OPTION_LINE.search(text) is not None
    for marker in reversed(deque(markers.finditer(text, start), maxlen=_MOST_MARKERS)):
        word = marker[0].strip(" \t*_").lower()
        if word == "a" and lists_options:
            continue
        named_final = text[max(0, marker.start() - 8) : marker.start()].lower().rstrip().endswith("final")
        if final and not named_final and word != "<answer>":
            continue
        end = marker.end() if word[0] in "#<" else _end_of_marker(text, marker.start(), marker.end())
        value = None if end is None else _value(text, end)
        if value and not (final and _REMARK.match(value)):
            yield value


def _end_of_marker(text: str, start: int, end: int) -> int | None:
    """Where the value of a marker's word begins; None if the word marks nothing."""
    verb = _VERB.match(text, end, end + 140)
    if verb is not None:
        return verb.end()
    line = text.rfind("\n", max(0, start - 60), start) + 1
    if _NOTHING_MORE.match(text, end) and _HEADING_WORDS.match(text[max(line, start - 60) : start]):
        return end
    return None


def _value(text: str, start: int) -> str | None:
    """The answer that begins at `start`, up to the end of its sentence; None if there is none."""
    window = text[start : start + _LONGEST]
    lead = _FILLER.match(window)
    window = window[lead.end() if lead else 0 :]
    another = _MARKER.match(window)
    if window[:1] == "#" or (another and another[0].strip(" \t*_") != "A"):  # this marker has no answer
        return None
    for opening, closing in _OPENERS.items():
        if window.startswith(opening) and (end := window.find(closing, len(opening))) > 0:
            head = window[: end + len(closing)]
            return _until_reason(head.replace("\n", " "), window[len(head) :].partition("\n")[0])
    line = window.partition("\n")[0]
    return None if _ABOUT.match(line) else _until_reason("", line)


def _said(value: str) -> str:
    """What a sentence of one statement says at its end ("The volume is 12"); any other text as it is."""
    sentence = _SENTENCE.match(value)
    return value if sentence is None or _TWO_STATEMENTS.search(sentence["before"]) else sentence["said"]


def _until_reason(head: str, line: str) -> str | None:
    """`head` and the part of the line that belongs to the answer, without formatting commands."""
    ends = [found.start() for found in (_SENTENCE_END.search(line), _REASON.search(line)) if found]
    value = (head + line[: min(ends, default=len(line))]).strip()
    value = _said(value)
    if value.count("(") > value.count(")") and value.endswith("("):
        value = value[:-1]
    value = value.strip(" \t\r*_`").rstrip(".,;:").strip(" *_`")
    return value if any(character.isalnum() or character in "\u221e\u2205" for character in value) else None
