"""Reading a judge's reply: yes, no, or invalid.

A judge ends its reply with `[[Y]]` or `[[N]]`. Parsing is strict, because a vote read as yes by mistake becomes
training data, while a vote read as invalid is merely asked again. The rules, in full:

1. Only a reply that ended by itself is parsed. One cut off by the token limit is invalid whatever it says: the judge
   had not finished, and a marker in the middle of reasoning is not a decision.
2. Reasoning in a `<think>` block is not part of the answer. Reasoning that never closes leaves no answer, and more
   than one closing tag makes it unclear where the answer begins: invalid.
3. Everything in the answer that looks like a marker counts (`envs.cascade.markers`): look-alikes, quotations, markers
   with a bracket missing. If any two say different things, or words in double brackets could be meant as a verdict
   (`[[Not sure]]`), the reply is invalid. Two things do not count: lower-case letters that are an index or code
   (`x[[n]]`), and the two options repeated, as long as the verdict stands alone on the last line.
4. The last marker is the verdict. It must be written exactly `[[Y]]` or `[[N]]` and stand as plain text: not in
   quotation marks, backticks, a fenced code block, a quoted line (`>`), an HTML comment or a quoting HTML element, not
   struck out, and not as part of an instruction (`[[Y]] to approve`). Words that deny it, take it back, make it
   conditional or somebody else's (`not [[Y]]`, `[[Y]]? No.`, `the author says [[Y]]`) make the reply invalid, as does
   another verdict in other brackets (`envs.cascade.doubts`).
5. Everything else is invalid. It is never guessed from words such as "yes".

Left out on purpose: deciding what "it is not [[Y]]" means. Templates ask for the marker alone on the last line.
"""

from __future__ import annotations

import re
from bisect import bisect
from collections import defaultdict
from dataclasses import dataclass

from envs.cascade.doubts import is_doubtful
from envs.cascade.markers import BROKEN, DOUBTFUL, EXACT, INVISIBLE, MARKER_LIKE
from svd_loop.contracts import THOUGHT_MARKS, Candidate, FinishReason, Rejection, VoteValue

_THINK_OPEN, _THINK_CLOSE = THOUGHT_MARKS


def answer_of(text: str) -> str:
    """The text after the last `</think>`; empty if reasoning was opened and not closed."""
    answer = text.rpartition(_THINK_CLOSE)[2]
    return "" if _THINK_OPEN in answer else answer


def with_thought(text: str) -> str:
    """The whole answer for another reader: the reasoning and the final answer under plain headings.

    Without reasoning it is the answer alone.
    """
    reasoning, closed, _ = text.rpartition(_THINK_CLOSE)
    answer = answer_of(text).strip()
    if not closed:
        return answer
    return f"Reasoning:\n{reasoning.replace(_THINK_OPEN, '').strip()}\n\nFinal answer:\n{answer}"


_UNSEEN = re.compile(f"[\\s\u2800{INVISIBLE}]+")


def is_blank(text: str) -> bool:
    """Whether a text is empty or holds only white space, fillers and invisible characters."""
    return not any(character.isprintable() for character in _UNSEEN.sub("", text))


def says_nothing(text: str) -> bool:
    """Whether a text has no letter, digit or symbol (blank, or punctuation only)."""
    return is_blank(text) or not any(character.isalnum() for character in text)


def unfit(candidate: Candidate) -> Rejection | None:
    """The reason to reject a candidate without a vote (truncated, or no answer), or None."""
    if candidate.finish_reason is FinishReason.LENGTH:
        return Rejection.TRUNCATED
    return Rejection.EMPTY if is_blank(answer_of(candidate.text)) else None


def read_verdict(text: str, finish_reason: FinishReason = FinishReason.STOP) -> VoteValue:
    """Parse a judge's reply by the rules in this module's docstring; never raises.

    Args:
        text: The judge's reply; no other text may be passed.
        finish_reason: Why the judge stopped writing.
    """
    if finish_reason is FinishReason.LENGTH or text.count(_THINK_CLOSE) > 1:
        return VoteValue.INVALID
    if (alone := EXACT.get(text)) is not None:
        return alone  # nothing around the marker can make it doubtful
    answer = answer_of(text)
    if not any(exact in answer for exact in EXACT):
        return VoteValue.INVALID
    fenced = _fenced_lines(answer)
    markers = [marker for marker in _markers(answer) if not _is_index(answer, marker, fenced)]
    if not markers:
        return VoteValue.INVALID
    *others, final = markers
    if final.text not in EXACT or not _is_plain(answer, final, fenced) or _is_option(answer, final):
        return VoteValue.INVALID
    if is_doubtful(answer, final.start, final.end, says_yes=final.value is VoteValue.YES):
        return VoteValue.INVALID
    if _stands_alone(answer, final):
        others = _without_options(answer, others)
    return EXACT[final.text] if all(other.value is final.value for other in others) else VoteValue.INVALID


@dataclass(frozen=True, slots=True)
class _Marker:
    """A marker, or text that could be meant as one; `value` is INVALID where it is neither yes nor no."""

    start: int
    end: int
    text: str
    value: VoteValue


def _markers(answer: str) -> list[_Marker]:
    """All text that could be meant as a verdict, in order; whole markers win over broken ones."""
    found = [_marker(match) for match in MARKER_LIKE.finditer(answer)]
    taken = {place for marker in found for place in range(marker.start, marker.end)}
    for pattern in (BROKEN, DOUBTFUL):
        for match in pattern.finditer(answer):
            if taken.isdisjoint(range(*match.span())):
                found.append(_marker(match))
                taken.update(range(*match.span()))
    return sorted(found, key=lambda marker: marker.start)


def _marker(match: re.Match[str]) -> _Marker:
    groups = match.groupdict()
    says_yes = any(text is not None for name, text in groups.items() if name.startswith("yes"))
    says_no = any(text is not None for name, text in groups.items() if name.startswith("no"))
    value = VoteValue.YES if says_yes else VoteValue.NO if says_no else VoteValue.INVALID
    return _Marker(match.start(), match.end(), match[0], value)


# --------------------------------------------------------------------------------------------- where a marker stands

_PREFIX = r"[ \t]{0,16}(?:(?:[-*+]|\d{1,9}[.)]|>)[ \t]{0,16}){0,16}"
_FENCE = re.compile(rf"{_PREFIX}(`{{3,64}}|~{{3,64}})(.*)")
_QUOTED_LINE = re.compile(r"[ \t]*(?:(?:[-*+]|\d{1,9}[.)])[ \t]+){0,16}>")
_QUOTE_MARKS = frozenset("`'\"“”„‟‘’‚‛«»‹›")
_QUOTING = "code|pre|tt|var|cite|noscript|q|blockquote|samp|kbd|s|del|strike|script|style|template|textarea|title"
_TAG = re.compile(rf"<(/?)(?:{_QUOTING})\b[^<>]{{0,200}}>", re.IGNORECASE)
_EMPHASIS = " \t*_({"
_EMPHASIS_END = " \t*_)}.!"


def _fenced_lines(answer: str) -> list[tuple[int, int]]:
    """Spans of fenced code (CommonMark's rule for closing a fence); one that never closes runs to the end."""
    spans: list[tuple[int, int]] = []
    opened, fence, place = -1, "", 0
    for line in answer.splitlines(keepends=True):
        if match := _FENCE.match(line):
            mark, info = match[1], match[2]
            if opened < 0 and not (mark[0] == "`" and "`" in info):
                opened, fence = place, mark
            elif opened >= 0 and mark[0] == fence[0] and len(mark) >= len(fence) and not info.strip():
                spans.append((opened, place + len(line)))
                opened = -1
        place += len(line)
    return [*spans, (opened, len(answer))] if opened >= 0 else spans


def _line_around(answer: str, marker: _Marker, reach: int | None = None) -> tuple[str, str]:
    """The text before and behind a marker on its own line, at most `reach` characters of each if given."""
    first, last = (0, len(answer)) if reach is None else (max(marker.start - reach, 0), marker.end + reach)
    before = answer[max(answer.rfind("\n", first, marker.start) + 1, first) : marker.start]
    return before, answer[marker.end : last].partition("\n")[0]


def _within(place: int, spans: list[tuple[int, int]]) -> bool:
    """Whether a position lies in one of the spans (sorted, not overlapping)."""
    found = bisect(spans, (place, len(spans) and spans[-1][1] + 1)) - 1
    return found >= 0 and place < spans[found][1]


def _is_index(answer: str, marker: _Marker, fenced: list[tuple[int, int]]) -> bool:
    """Whether a lower-case marker is an index or code, such as `x[[n]]`, and not a verdict."""
    if marker.text not in ("[[n]]", "[[y]]"):
        return False
    before, after = answer[: marker.start][-1:], answer[marker.end :][:1]
    in_code = (before == "`" and after == "`") or _within(marker.start, fenced)
    return in_code or before.isalnum() or before in ("_", ")", "]")


def _is_plain(answer: str, marker: _Marker, fenced: list[tuple[int, int]]) -> bool:
    """Whether a marker is the judge's own text rather than a quotation, code, or struck out."""
    before, after = _line_around(answer, marker)
    left, right = before.rstrip(_EMPHASIS)[-1:], after.lstrip(_EMPHASIS_END)[:1]
    if left in _QUOTE_MARKS or right in _QUOTE_MARKS or (left == right == "~"):
        return False
    if any(before.count(mark) % 2 and mark in after for mark in '"`') or _QUOTED_LINE.match(before):
        return False
    if _within(marker.start, fenced):
        return False
    earlier = answer[: marker.start]
    balance = sum(-1 if tag[1] else 1 for tag in _TAG.finditer(earlier))
    return balance <= 0 and earlier.rfind("<!--") <= earlier.rfind("-->")


# ----------------------------------------------------------------------------------------- the options, said again

_CONDITION = re.compile(
    r"[\s*_'\"`]{0,8}(?:if|when|unless|means|stands for|only (?:if|when)|or|and|/|=|→|->"
    r"|[:–-] ?(?:if|when|the|correct|incorrect)"
    r"|to (?:approve|accept|refuse|reject|say|indicate|confirm|pass|fail|mark)"
    r"|for (?:yes|no|approv|accept|correct|incorrect|wrong|right|refus|reject))\b",
    re.IGNORECASE,
)
_IMPERATIVE = re.compile(
    r"(?:^|[.!?:;,(]\s*)(?:please |then |you (?:should |must |can )?)?"
    r"(?:write|output|reply with|respond with|return|print|type|put|end with|use|either)\s+[*_'\"`]{0,4}$",
    re.IGNORECASE,
)
_ANNOUNCED = re.compile(
    r"[\s*_#>-]*(?:(?:(?:so|hence|therefore|thus),? )?(?:my |the )?(?:final |overall )?"
    r"(?:verdict|answer|decision|judge?ment|conclusion|result)(?: is)?)?[\s:*_]*",
    re.IGNORECASE,
)


def _is_option(answer: str, marker: _Marker) -> bool:
    """Whether a marker is part of an instruction that names it, such as `[[Y]] to approve`."""
    before, after = _line_around(answer, marker, reach=100)
    return bool(_CONDITION.match(after) or _IMPERATIVE.search(before))


def _stands_alone(answer: str, marker: _Marker) -> bool:
    """Whether the last line holds only a marker and words that announce a verdict."""
    before, _ = _line_around(answer, marker)
    return not answer[marker.end :].strip(" \t\r\n*_.!") and _ANNOUNCED.fullmatch(before) is not None


def _without_options(answer: str, markers: list[_Marker]) -> list[_Marker]:
    """The markers without those that only repeat the two options; changed only where both are named."""
    by_line: defaultdict[int, list[_Marker]] = defaultdict(list)
    line = end = 0
    for marker in markers:
        line += answer.count("\n", end, marker.start)
        end = marker.start
        by_line[line].append(marker)
    options: set[_Marker] = set()
    for on_line in by_line.values():
        both = {VoteValue.YES, VoteValue.NO} <= {marker.value for marker in on_line}
        options.update(marker for marker in on_line if both or _is_option(answer, marker))
    options = {marker for marker in options if marker.value is not VoteValue.INVALID}
    if {option.value for option in options} != {VoteValue.YES, VoteValue.NO}:
        return markers
    return [marker for marker in markers if marker not in options]
