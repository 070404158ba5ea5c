r"""Multiple choice: find the options that a question lists, and the option that an answer means.

Options are labelled `A)`, `(A)`, `[A]`, `A.`, `A:` or `A -`, in bold, in LaTeX, with small letters or with numbers.
Any capital with a full stop looks like a label ("vitamin C. What is seen?"), so labels of one form count only as a
sequence from the first on, the longest there is.

An answer selects an option by its label, alone or before a reason or the option's text (`B`, `(B)`, `B, since ...`, `B
- carbon dioxide`), or by the text of exactly one option. Two labels, or a label beside another option's text, mean
none.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

_MARK: Final = r"[*_`]{0,3}"
_SAME_WIDTH: Final = str.maketrans("（）．、：［］–—", "().):[]--")
_NAMES: Final = r"[A-Za-z]|[0-9]{1,2}|[ivx]{2,4}|[IVX]{2,4}|[АБВГДабвгд]"
_ROMAN: Final = ("I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X")
_ALPHABETS: Final = {  # the sequences that labels form, the usual ones first
    "letter": tuple("ABCDEFGHIJKLMNOPQRSTUVWXYZ"),
    "digit": tuple(map(str, range(1, 27))),
    "other": tuple("FGHJK"),
    "last": tuple("PQRST"),
    "roman": _ROMAN,
    "cyrillic": tuple("АБВГД"),
}
_LABEL: Final = re.compile(
    r"(?:(?<=\s)|(?<=^)|(?<=[$;,?:.|]))"
    r"(?:\\item\s*\[\s*(?=[A-Za-z(]))?"
    + _MARK
    + r"(?:\$\s*)?(?:\\(?:text|textbf|mathrm|mathbf|bf)\s*\{\s*)?"
    + _MARK
    + rf"(?:(?:[Oo]ption|[Cc]hoice)\s+)?(?:(?P<open>[(\[<])\s*(?P<inside>{_NAMES})\s*(?P<close>[)\]>])[.:]?"
    rf"|(?P<bare>{_NAMES})(?P<mark>{_MARK}(?:[).:]|\s[-)](?=\s))|[ ]*\||\t|(?:\*\*|__|`)(?=\s)))"
    + _MARK
    + r"(?:\s*\})?(?:\s*\$)?"
    + _MARK
    + r"\]?(?P<blank>[~ \t]*)",
    re.MULTILINE,
)
_SPACES: Final = re.compile(r"\\q?quad(?![a-zA-Z])|\\[ ,;:]|~")
_AT_LINE_START: Final = re.compile(r"(?:^|\n)[ \t>*_+|-]*$")
_ONLY_AT_LINE_START: Final = (":", "-", "|", "tab", "set", " )", "<>")
_SELDOM: Final = ("digit.", "roman.", "other.", "last.")
"""Forms that a text without options has as well, so that they count at the start of a line only."""
_MOST_OPTIONS: Final = 26
_MOST_STARTS: Final = 64
_ANSWER: Final = re.compile(
    r"(?:(?:the|my|final|correct|best|right)\s+)*(?:(?:option|choice|answer|letter)s?\b(?:\s+(?:is|would\s+be))?\s*:?\s*)?"
    rf"(?P<open>[(\[{{<\"']?)\s*(?P<label>{_NAMES})\s*(?P<close>[)\]}}>\"']?)(?P<behind>(?:(?![a-zA-Z0-9_^]).*)?)",
    re.DOTALL | re.IGNORECASE,
)
_TEXT_FIRST: Final = re.compile(
    rf"(?P<text>.+?)[\s,]+(?:(?:option|choice)\s+)?[(\[]?(?P<label>{_NAMES})[)\]]?", re.DOTALL | re.IGNORECASE
)
_BEHIND: Final = re.compile(r"\s*(?P<mark>[).:,;\]=-]|\s[-–—]\s|\\quad|\\to)?\s*(?P<text>.*)", re.DOTALL)
_REASON: Final = re.compile(r"(?:since|because|as|for|which|so|due|is|are|was|would|will|\()\b|\(", re.IGNORECASE)
_HEDGE: Final = re.compile(
    r"(?:or|and|and/or|/|&|,)\s*(?:option\s+|choice\s+)?[(\[]?(?P<label>[A-Za-z])[)\]]?(?![\w'])"
)


@dataclass(frozen=True, slots=True)
class _Label:
    """A possible label: its name and form, its number in the sequence from 0, and where it and its text start."""

    name: str
    form: str
    place: int
    start: int
    end: int
    at_line_start: bool


@functools.lru_cache(maxsize=4096)
def options_of(question: str) -> Mapping[str, str]:
    """Options by label, in order, from the first label on; empty if the question lists fewer than two."""
    question = _SPACES.sub(lambda found: " " * len(found[0]), question.translate(_SAME_WIDTH))
    sequences: list[list[_Label]] = []
    forms: dict[str, list[_Label]] = {}
    for label in _labels(question):
        forms.setdefault(label.form, []).append(label)
    for labels in forms.values():
        own_lines = [label for label in labels if label.at_line_start]
        sequences += [*_sequences(own_lines), *_sequences(labels)]
    sequences = [found for found in sequences if len(found) > 1]
    if not sequences:
        return {}
    best = max(sequences, key=lambda found: (len(found), _is_letter(found[0]), found[0].at_line_start, found[0].start))
    ends = [later.start for later in best[1:]]
    texts = [question[label.end : end].strip() for label, end in zip(best, ends, strict=False)]
    last = question[best[-1].end :].strip()
    texts.append(last.partition("\n" if all("\n" not in text for text in texts) else "\n\n")[0].strip())
    return {label.name: _bare(text) for label, text in zip(best, texts, strict=True)}


def choice(answer: str, options: Mapping[str, str], same: Callable[[str, str], bool]) -> str | None:
    """The label that an answer means; None if it means none, or more than one.

    Args:
        answer: as `spelled` returns it.
        options: as `options_of` returns them.
        same: whether an answer's text equals an option's text.
    """
    by_text = [label for label, text in options.items() if same(answer, text)]
    match = _ANSWER.fullmatch(answer)
    label = match["label"].upper() if match else ""
    if match is None or label not in options or (label.isdigit() and by_text):
        return by_text[0] if len(by_text) == 1 else _label_behind(answer, options, same)
    behind = _BEHIND.fullmatch(match["behind"])
    assert behind is not None
    mark, text = (behind["mark"] or match["close"] or "").strip(), behind["text"].strip(" .!")
    if not text:
        return label
    if (hedge := _HEDGE.match(match["behind"].strip())) and hedge["label"].upper() in options:
        return None
    others = [name for name, option in options.items() if same(_unwrapped(text), option)]
    if others:
        return label if label in others else None
    if mark or _REASON.match(text):
        return label
    return by_text[0] if len(by_text) == 1 else None


def _label_behind(answer: str, options: Mapping[str, str], same: Callable[[str, str], bool]) -> str | None:
    """The label that stands behind its option's text (`carbon dioxide (B)`)."""
    found = _TEXT_FIRST.fullmatch(answer)
    label = found["label"].upper() if found else ""
    return label if found and label in options and same(found["text"].strip(), options[label]) else None


def _labels(question: str) -> Iterator[_Label]:
    for match in _LABEL.finditer(question):
        name = match["inside"] or match["bare"]
        form = f"{match['open']}{match['close']}" if match["open"] else _form(match["mark"])
        if match["open"] and form not in ("()", "[]", "<>"):
            continue
        case = "" if name.isdigit() else "capital " if name.isupper() else "small "
        at_line_start = _AT_LINE_START.search(question, max(0, match.start() - 8), match.start()) is not None
        for kind, names in _ALPHABETS.items():
            if name.upper() not in names:
                continue
            if (form in _ONLY_AT_LINE_START or f"{kind}{form}" in _SELDOM) and not at_line_start:
                continue
            place = names.index(name.upper())
            yield _Label(name.upper(), f"{case}{kind}{form}", place, match.start(), match.end(), at_line_start)


def _form(mark: str) -> str:
    """The name of what stands behind a label without brackets."""
    if mark == "\t":
        return "tab"
    plain = mark.lstrip("*_`")
    return plain.rstrip() if plain.strip() == ")" else plain.strip() or "set"


def _sequences(labels: list[_Label]) -> Iterator[list[_Label]]:
    """The sequence of labels that starts at each first label; other labels between them count as text."""
    starts = [place for place, label in enumerate(labels) if label.place == 0][-_MOST_STARTS:]
    for start in starts:
        found: list[_Label] = []
        for label in labels[start:]:
            if label.place == len(found) < _MOST_OPTIONS:
                found.append(label)
        yield found


def _is_letter(label: _Label) -> bool:
    return "letter" in label.form


def _bare(text: str) -> str:
    """An option's text without the separator before the next one."""
    return re.sub(r"[\s,;$|/]*(?:\b(?:and|or))?(?:[\s,;$|]|\n[-+*>])*$", "", text.strip(" \t*")) or text


def _unwrapped(text: str) -> str:
    return text[1:-1].strip() if text.startswith("(") and text.endswith(")") else text
