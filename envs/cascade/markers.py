"""Verdict markers: find those in a text, and text that only looks like one.

`[[Y]]` and `[[N]]` are the markers. `MARKER_LIKE` finds them and everything that a reader could take for one: other
alphabets, other brackets, lower case, spaces, deeper nesting, invisible characters, HTML entities. `BROKEN` finds
markers with a bracket missing, `DOUBTFUL` finds words in double brackets. `neutralise` breaks look-alikes in text that
a judge will see; `without_delimiters` breaks lines that look like the separator lines of a template.
"""

from __future__ import annotations

import re
import unicodedata

from svd_loop.contracts import VoteValue

EXACT = {"[[Y]]": VoteValue.YES, "[[N]]": VoteValue.NO}
MARKERS = tuple(EXACT)

_OPENERS = "[［【〔〖〘❲⦋⁅⟬『「⟦〚"
_CLOSERS = "]］】〕〗〙❳⦌⁆⟭』」⟧〛"
_DOUBLE = str.maketrans({"⟦": "[[", "〚": "[[", "⟧": "]]", "〛": "]]"})
INVISIBLE = (  # Unicode's default ignorable code points, and combining marks
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
    """A pattern for characters written as HTML entities: by decimal or hexadecimal number, or by name."""
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


_OPENER = f"(?:[{re.escape(_OPENERS)}]|{_OPEN_ENTITY})"
_CLOSER = f"(?:[{re.escape(_CLOSERS)}]|{_CLOSE_ENTITY})"
_HIDDEN = f"(?:[{INVISIBLE}]|{_INVISIBLE_ENTITY})"
# Every repetition is bounded, so that matching stays linear on hostile text.
_OPENED = rf"(?:{_OPENER}(?:{_HIDDEN}{{0,16}}\\?{_OPENER}){{1,7}}|[⟦〚]|{_DOUBLE_OPEN_ENTITY})"
_CLOSED = rf"(?:{_CLOSER}(?:{_HIDDEN}{{0,16}}\\?{_CLOSER}){{1,7}}|[⟧〛]|{_DOUBLE_CLOSE_ENTITY})"
_PADDING = rf"(?:[\s\\*_~`'\"“”‘’{INVISIBLE}]|{_INVISIBLE_ENTITY}){{0,16}}"


def _class(letters: frozenset[str]) -> str:
    return f"[{re.escape(''.join(sorted(letters)))}]"


_YES = f"(?:{_class(_YES_LETTERS)}|{_entity(0x59, 0x79, names='Ycy|ycy')})"
_NO = f"(?:{_class(_NO_LETTERS)}|{_entity(0x4E, 0x6E, names='Ncy|ncy')})"


def _inside(suffix: str = "") -> str:
    """One letter or word of a verdict between its brackets; `suffix` keeps group names of alternatives apart."""
    return f"{_PADDING}(?:(?P<yes{suffix}>{_YES}(?:[Ee][Ss])?)|(?P<no{suffix}>{_NO}[Oo]?)){_PADDING}"


MARKER_LIKE = re.compile(f"(?P<opened>{_OPENED})(?P<inside>{_inside()})(?P<closed>{_CLOSED})")
"""A marker or a look-alike; the group `yes` or `no` says which."""

BROKEN = re.compile(
    rf"{_OPENED}{_inside()}(?:{_CLOSER}(?![ \t]?,|\[)|(?=[\r\n]|$))"
    rf"|(?<![\w\[]){_OPENER}{_inside('2')}{_CLOSED}"
    r"|(?:^|(?<=\n))[ \t*_]{0,8}\[(?:(?P<yes3>Y)|(?P<no3>N))\][ \t*_.]{0,8}(?=[\r\n]|$)"
)
"""A marker with a bracket missing, or one in single brackets that stands alone on its line."""

DOUBTFUL = re.compile(
    rf"(?<![\w\])])(?:\[\[(?:{_class(_YES_LETTERS | _NO_LETTERS)})[^\[\]\n,]{{1,40}}\]\]"
    r"|(?:(?:^|(?<=\n))[ \t]{0,8}\[\[[^\W\d][^\[\]\n,]{0,40}\]\][ \t.]{0,8}(?=[\r\n]|$)))"
)
"""Words in double brackets that are not a verdict but could be meant as one: `[[Not sure]]`, or `[[Maybe]]` alone."""

_CONTROL_TOKEN = re.compile(r"<(?=\|[^|<>\n]{1,64}\|>|/?think>|/?s>|(?:bos|eos|pad|unk|start_of_turn|end_of_turn)>)")


def neutralise(text: str) -> str:
    """Make text from a candidate safe to show to a judge.

    Markers and their look-alikes are spread apart, control tokens and reasoning tags get a space after `<`. All other
    text is untouched: nested lists such as `a[[0]]` or `[[1, 2], [3]]` are not markers. Applying it twice changes
    nothing more.
    """
    return _CONTROL_TOKEN.sub("< ", MARKER_LIKE.sub(_spread, text))


_BRACKET = re.compile(f"[{re.escape(_OPENERS + _CLOSERS)}]|{_OPEN_ENTITY}|{_CLOSE_ENTITY}")
_DOUBLE_ENTITY = re.compile(f"(?P<open>{_DOUBLE_OPEN_ENTITY})|{_DOUBLE_CLOSE_ENTITY}")


def _spread(marker: re.Match[str]) -> str:
    return f"{_brackets(marker['opened'])}{marker['inside']}{_brackets(marker['closed'])}"


def _brackets(text: str) -> str:
    """The brackets on one side of a marker, one by one; the characters between them are dropped."""
    single = _DOUBLE_ENTITY.sub(lambda found: "[[" if found["open"] else "]]", text.translate(_DOUBLE))
    return " ".join(_BRACKET.findall(single))


_WORDS = re.compile(r"[^\W_]+")
_DECORATED = re.compile(r"\s*(?:[^\w\s]\S*\s.*\s\S*[^\w\s]|<[^<>]+>)\s*")


def delimiter_lines(template: str) -> frozenset[tuple[str, ...]]:
    """The words of a template's separator lines, such as `=== Answer ends ===` or `<answer>`.

    Args:
        template: a template's text, placeholders included.
    """
    lines = [line for line in template.splitlines() if "$" not in line and _DECORATED.fullmatch(line)]
    return frozenset(words for line in lines if (words := _words_of(line)))


def without_delimiters(text: str, delimiters: frozenset[tuple[str, ...]]) -> str:
    """`text` with every line that spells a separator line put in round brackets, without its decoration.

    Case, spacing, style of letters and decoration do not matter: a model may take any look-alike for the separator.
    """
    if not delimiters:
        return text
    longest = max(sum(map(len, words)) + len(words) for words in delimiters) * 2 + 80
    lines = re.split("([\n\r\v\f\x1c-\x1e\x85\u2028\u2029])", text)
    return "".join(
        f"({' '.join(_words_of(line))})"
        if len(line) <= longest and _DECORATED.fullmatch(line) and _words_of(line) in delimiters
        else line
        for line in lines
    )


def _words_of(line: str) -> tuple[str, ...]:
    visible = re.sub(f"[{INVISIBLE}]", "", unicodedata.normalize("NFKC", line))
    return tuple(word.casefold() for word in _WORDS.findall(visible))
