"""Verdicts in text: reading the judge's, and making sure that a candidate cannot write one.

A judge ends its reply with `[[Y]]` or `[[N]]`. Reading is strict, because a vote read as yes by mistake becomes
training data, while a vote read as invalid is merely asked again. The rules, in full:

1. Only a reply that ended by itself is read. One cut off by the token limit is invalid whatever it says: the judge
   had not finished, and a marker in the middle of a thought is not a decision.
2. Reasoning in a `<think>` block is not part of the answer. Reasoning that never closes leaves no answer, and more
   than one closing tag makes it unclear where the answer begins: invalid.
3. Everything in the answer that looks like a marker is heard: other alphabets, other brackets, lower case, spaces,
   deeper nesting, invisible characters, HTML entities, quotations. If any two say different things, the reply is
   invalid.
4. The last of them is the verdict, and it must be written exactly `[[Y]]` or `[[N]]` and stand as plain text: not
   next to a quotation mark or backtick, not in a fenced code block, not in a quoted line (`>`).
5. Everything else is invalid. It is never guessed from words such as "yes".

`neutralise` is the other half: text written by a candidate goes into judge prompts with every marker look-alike
spread apart (`[ [Y] ]`, still valid Python), and with chat control tokens and reasoning tags broken, so that quoting
a candidate, or echoing a whole prompt, never amounts to a verdict.

Left out on purpose: judging whether "it is not [[Y]]" means no. Templates ask for the marker alone on the last line.
"""

from __future__ import annotations

import re
import unicodedata

from svd_loop.contracts import THOUGHT_MARKS, FinishReason, VoteValue

_THINK_OPEN, _THINK_CLOSE = THOUGHT_MARKS
_EXACT = {"[[Y]]": VoteValue.YES, "[[N]]": VoteValue.NO}

# --------------------------------------------------------------------------- what looks like a marker

_OPENERS = "[［【〔〖〘❲⦋⁅⟬『「⟦〚"
_CLOSERS = "]］】〕〗〙❳⦌⁆⟭』」⟧〛"
_DOUBLE = str.maketrans({"⟦": "[[", "〚": "[[", "⟧": "]]", "〛": "]]"})
_INVISIBLE = (  # Unicode's default ignorable code points, and combining marks
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164"
    "\ufe00-\ufe0f\ufeff\uffa0\U000e0000-\U000e0fff\u0300-\u036f\u20d0-\u20ff"
)
_COMPATIBLE = (  # blocks that hold styled or accented copies of the Latin letters
    range(0x41, 0x250),
    range(0x1E00, 0x1F00),
    range(0x2070, 0x2150),
    range(0x24B6, 0x24EA),
    range(0xFF21, 0xFF5B),
    range(0x1D400, 0x1D800),
    range(0x1F110, 0x1F18A),
)
_LOOK_LIKE_Y = "ɎɏƳƴʏΥϒυγУуҮүҰұᎩⲨⲩꓬ𐊲🅈🆈"
_LOOK_LIKE_N = "ɴƝɲŊŋΝνηНнИиПпՈոᏁⲚⲛꓠ🄽🅽"


def _letters(base: str, look_alikes: str) -> frozenset[str]:
    """Every character that decomposes to `base`, whatever its style, accents or enclosure, and the look-alikes."""

    def plain(character: str) -> str:
        return "".join(c for c in unicodedata.normalize("NFKD", character) if c.isalpha()).casefold()

    styled = {chr(code) for block in _COMPATIBLE for code in block if plain(chr(code)) == base}
    return frozenset(styled | set(look_alikes))


_YES_LETTERS, _NO_LETTERS = _letters("y", _LOOK_LIKE_Y), _letters("n", _LOOK_LIKE_N)


def _entity(*codes: int, names: str) -> str:
    """Characters written as HTML does it: by decimal or hexadecimal number, or by name."""
    decimal = "|".join(str(code) for code in codes)
    hexadecimal = "|".join(f"{code:x}" for code in codes)
    return rf"&(?:#0{{0,8}}(?:{decimal})|#[xX]0{{0,8}}(?i:{hexadecimal})|(?:{names}));?"


_OPEN_ENTITY = _entity(0x5B, 0xFF3B, names="lbrack|lsqb")
_CLOSE_ENTITY = _entity(0x5D, 0xFF3D, names="rbrack|rsqb")
_DOUBLE_OPEN_ENTITY = _entity(0x27E6, names="lobrk|LeftDoubleBracket")
_DOUBLE_CLOSE_ENTITY = _entity(0x27E7, names="robrk|RightDoubleBracket")
_INVISIBLE_ENTITY = _entity(
    0xAD, 0x200B, 0x200C, 0x200D, 0x2060, 0xFEFF, names="shy|zwj|zwnj|ZeroWidthSpace|NoBreak|nbsp"
)


def _pattern() -> re.Pattern[str]:
    """Look-alike markers. Every repetition is bounded, so that matching stays linear on hostile text."""
    opener, closer = f"(?:[{re.escape(_OPENERS)}]|{_OPEN_ENTITY})", f"(?:[{re.escape(_CLOSERS)}]|{_CLOSE_ENTITY})"
    invisible = f"(?:[{_INVISIBLE}]|{_INVISIBLE_ENTITY}){{0,16}}"
    padding = rf"(?:[\s\\*_~`'\"“”‘’{_INVISIBLE}]|{_INVISIBLE_ENTITY}){{0,16}}"
    yes, no = (f"[{re.escape(''.join(sorted(letters)))}]" for letters in (_YES_LETTERS, _NO_LETTERS))
    opened = rf"(?P<opened>{opener}(?:{invisible}\\?{opener}){{1,7}}|[⟦〚]|{_DOUBLE_OPEN_ENTITY})"
    closed = rf"(?P<closed>{closer}(?:{invisible}\\?{closer}){{1,7}}|[⟧〛]|{_DOUBLE_CLOSE_ENTITY})"
    yes, no = f"(?:{yes}|{_entity(0x59, 0x79, names='Ycy|ycy')})", f"(?:{no}|{_entity(0x4E, 0x6E, names='Ncy|ncy')})"
    letter = f"(?:(?P<yes>{yes}(?:[Ee][Ss])?)|(?P<no>{no}[Oo]?))"
    return re.compile(f"{opened}(?P<inside>{padding}{letter}{padding}){closed}")


_MARKER_LIKE = _pattern()

# ------------------------------------------------------------------------------------------- reading

_FENCE = re.compile(r"^[ \t]*(?:>[ \t]*)*(?:```|~~~)", re.MULTILINE)
_QUOTE_MARKS = frozenset("`'\"“”„‟‘’‚‛«»‹›")


def answer_of(text: str) -> str:
    """What follows the reasoning: the text after the last `</think>`, empty if reasoning was opened and not closed."""
    answer = text.rpartition(_THINK_CLOSE)[2]
    return "" if _THINK_OPEN in answer else answer


def with_thought(text: str) -> str:
    """The whole of an answer for somebody else to read: the reasoning and the final answer under plain headings.

    Without reasoning it is the answer alone.
    """
    reasoning, closed, _ = text.rpartition(_THINK_CLOSE)
    answer = answer_of(text).strip()
    if not closed:
        return answer
    return f"Reasoning:\n{reasoning.replace(_THINK_OPEN, '').strip()}\n\nFinal answer:\n{answer}"


def is_blank(text: str) -> bool:
    """Whether there is nothing to see: only white space and invisible characters, or nothing at all."""
    return not any(character.isprintable() and not character.isspace() for character in text)


def read_verdict(text: str, finish_reason: FinishReason = FinishReason.STOP) -> VoteValue:
    """Read a judge's reply by the rules at the head of this module; never raises.

    Args:
        text: The judge's reply. Nothing but a judge's reply may be passed.
        finish_reason: Why the judge stopped writing.
    """
    if finish_reason is FinishReason.LENGTH or text.count(_THINK_CLOSE) > 1:
        return VoteValue.INVALID
    answer = answer_of(text)
    markers = list(_MARKER_LIKE.finditer(answer))
    if not markers or len({marker["yes"] is None for marker in markers}) == 2:
        return VoteValue.INVALID
    final = markers[-1]
    if not _is_plain(answer, final):
        return VoteValue.INVALID
    return _EXACT.get(final[0], VoteValue.INVALID)


def _is_plain(answer: str, marker: re.Match[str]) -> bool:
    """Whether a marker is the judge's own words rather than a quotation."""
    before, after = answer[: marker.start()], answer[marker.end() :]
    quoted = before[-1:] in _QUOTE_MARKS or after[:1] in _QUOTE_MARKS
    line_start = before[before.rfind("\n") + 1 :].lstrip()
    fences = sum(1 for _ in _FENCE.finditer(before))
    return not quoted and not line_start.startswith(">") and fences % 2 == 0


# -------------------------------------------------------------------------------------- neutralising

_CONTROL_TOKEN = re.compile(r"<(?=\|[^|<>\n]{1,64}\|>|/?think>|/?s>|(?:bos|eos|pad|unk|start_of_turn|end_of_turn)>)")


def neutralise(text: str) -> str:
    """Text of candidate origin, made safe to show to a judge.

    Markers and their look-alikes are spread apart, control tokens and reasoning tags get a space after `<`. All other
    text is untouched: nested lists such as `a[[0]]` or `[[1, 2], [3]]` are no markers. Applying it twice changes
    nothing more.
    """
    return _CONTROL_TOKEN.sub("< ", _MARKER_LIKE.sub(_spread, text))


_BRACKET = re.compile(f"[{re.escape(_OPENERS + _CLOSERS)}]|{_OPEN_ENTITY}|{_CLOSE_ENTITY}")
_DOUBLE_ENTITY = re.compile(f"(?P<open>{_DOUBLE_OPEN_ENTITY})|{_DOUBLE_CLOSE_ENTITY}")


def _spread(marker: re.Match[str]) -> str:
    return f"{_brackets(marker['opened'])}{marker['inside']}{_brackets(marker['closed'])}"


def _brackets(text: str) -> str:
    """The brackets of one side of a marker, each for itself; what is between them is dropped."""
    single = _DOUBLE_ENTITY.sub(lambda found: "[[" if found["open"] else "]]", text.translate(_DOUBLE))
    return " ".join(_BRACKET.findall(single))
