"""Text of a model as safe HTML: code highlighted, mathematics as MathML, thoughts folded, odd characters named.

The text may be anything, so every piece of it is escaped, sizes are bounded before any work, and no regular expression
here backtracks over more than a thousand characters. Control characters and those that change the direction of text are
shown as code points, since they can make a text look like another. Left out: Markdown in full (lists and tables read
well as they are).
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Iterator

from markupsafe import Markup, escape

from svd_loop.contracts import THOUGHT_MARKS
from svd_loop.viewer.mathematics import mathml

LONGEST = 20_000
"""Characters of a text that a page shows; the rest is one click away, as plain text."""
_LONGEST_CODE = 8_000
_MOST_FORMULAS = 150
_LANGUAGES = frozenset(
    re.findall(
        r"\S+",
        "python py python3 c cpp c++ java javascript js typescript ts rust go json yaml toml bash sh shell sql r julia "
        "haskell ocaml ruby lua latex tex html xml css diff",
    )
)
_OPEN, _CLOSE = THOUGHT_MARKS
_FENCE = re.compile(r"^[ \t]{0,3}(```+|~~~+)[ \t]*([A-Za-z0-9+#_-]{0,20})[^\n`]{0,80}$", re.MULTILINE)
_INLINE = re.compile(
    r"\$\$(?P<dollars>[^$]{1,1000})\$\$"
    r"|\\\[(?P<square>.{1,1000}?)\\\]"
    r"|\\\((?P<round>.{1,1000}?)\\\)"
    r"|(?<![\\$\w])\$(?P<dollar>[^\s$](?:[^$\n]{0,300}[^\s$\\])?)\$(?![\w$])"
    r"|(?P<boxed>\\boxed\{[^{}\n]{1,200}\})"
    r"|`(?P<code>[^`\n]{1,300})`"
    r"|\*\*(?P<strong>[^*\s][^*\n]{0,300})\*\*"
    r"|(?P<verdict>\[\[[YN]\]\])",
    re.DOTALL,
)
_ODD = re.compile(
    "[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u115f\u1160\u180e\u200b-\u200f\u202a-\u202e"
    "\u2060-\u206f\u2800\u3164\ufeff\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e0fff]"
)


def rich(text: str, *, limit: int = LONGEST) -> Markup:
    """Return the text as HTML with code, mathematics, thoughts and verdicts marked up."""
    shown = text[:limit]
    parts = [_thought_or_answer(piece, is_thought) for piece, is_thought in _thoughts(shown)]
    return Markup("").join([*parts, _rest(len(text) - len(shown))])


def plain(text: str, *, limit: int = LONGEST) -> Markup:
    """Return the text as it is, escaped, with odd characters named."""
    shown = text[:limit]
    return Markup("").join([_named(shown), _rest(len(text) - len(shown))])


def stylesheet() -> str:
    """Return the style sheet of highlighted code, light and dark."""
    from pygments.formatters import HtmlFormatter

    light = HtmlFormatter(style="friendly").get_style_defs(".code")
    dark = HtmlFormatter(style="github-dark").get_style_defs(".code")
    kept = [line for line in light.splitlines() if line.startswith(".code .")]
    night = [line for line in dark.splitlines() if line.startswith(".code .")]
    forced = [f'[data-theme="dark"] {line}' for line in night]
    system = [f':root:not([data-theme="light"]) {line}' for line in night]
    return "\n".join([*kept, "@media (prefers-color-scheme: dark) {", *system, "}", *forced])


def _rest(left: int) -> Markup:
    return Markup('<span class="cut">… {} more characters</span>').format(f"{left:,}") if left > 0 else Markup("")


def _thoughts(text: str) -> Iterator[tuple[str, bool]]:
    """Pieces of the text, and whether each is a thought; one that never closes runs to the end."""
    while text:
        before, opened, rest = text.partition(_OPEN)
        if before:
            yield before, False
        if not opened:
            return
        thought, _, text = rest.partition(_CLOSE)
        yield thought, True


def _thought_or_answer(text: str, is_thought: bool) -> Markup:
    if not is_thought:
        return _blocks(text.lstrip("\n"))
    summary = Markup("thought <small>{} characters</small>").format(f"{len(text):,}")
    return Markup('<details class="thought"><summary>{}</summary>{}</details>').format(summary, _blocks(text.strip()))


def _blocks(text: str) -> Markup:
    """The text with fenced code highlighted; a fence that never closes runs to the end."""
    parts: list[Markup] = []
    place = 0
    while opening := _FENCE.search(text, place):
        parts.append(_inline(text[place : opening.start()]))
        start = min(opening.end() + 1, len(text))
        end = text.find(f"\n{opening[1]}", start - 1)
        stop = len(text) if end < 0 else end
        parts.append(_code(text[start:stop] if stop > start else "", opening[2].lower()))
        place = len(text) if end < 0 else min(end + 1 + len(opening[1]), len(text))
        if place < len(text) and text[place] == "\n":
            place += 1
    parts.append(_inline(text[place:]))
    return Markup("").join(parts)


def _code(text: str, language: str) -> Markup:
    label = Markup('<span class="language">{}</span>').format(language) if language else Markup("")
    body = _highlighted(text, language) if language in _LANGUAGES and len(text) <= _LONGEST_CODE else _named(text)
    return Markup('<pre class="code">{}<code>{}</code></pre>').format(label, body)


@functools.lru_cache(maxsize=512)
def _highlighted(text: str, language: str) -> Markup:
    from pygments import highlight
    from pygments.formatters import HtmlFormatter
    from pygments.lexers import get_lexer_by_name

    if _ODD.search(text):
        return _named(text)
    return Markup(highlight(text, get_lexer_by_name(language, stripnl=False), HtmlFormatter(nowrap=True)).rstrip("\n"))


def _inline(text: str) -> Markup:
    parts: list[Markup] = []
    place = formulas = 0
    for match in _INLINE.finditer(text):
        kind = str(match.lastgroup)
        formulas += kind in ("dollars", "square", "round", "dollar", "boxed")
        parts += [_named(text[place : match.start()]), _marked(match, kind, formulas <= _MOST_FORMULAS)]
        place = match.end()
    parts.append(_named(text[place:]))
    return Markup("").join(parts)


def _marked(match: re.Match[str], kind: str, convert: bool) -> Markup:
    inner, whole = match[kind], match[0]
    if kind == "verdict":
        side = "yes" if inner == "[[Y]]" else "no"
        return Markup('<mark class="{}">{}</mark>').format(side, inner)
    if kind in ("code", "strong"):
        return Markup(f"<{kind}>{{}}</{kind}>").format(_named(inner))
    made = mathml(inner.strip(), block=kind in ("dollars", "square")) if convert and not _ODD.search(inner) else None
    if made is None:
        return Markup('<code class="latex">{}</code>').format(_named(whole))
    return Markup('<span class="math" title="{}">{}</span>').format(whole, made)


def _named(text: str) -> Markup:
    """The escaped text, with characters that cannot be seen, or turn others around, as their code points."""
    return Markup(_ODD.sub(lambda match: _odd(match[0]), str(escape(text))))


def _odd(character: str) -> str:
    name = unicodedata.name(character, "control character")
    return f'<span class="odd" title="{escape(name)}">U+{ord(character):04X}</span>'


def visible(text: str) -> str:
    """Return a text for a title or an attribute: one line, odd characters as code points."""
    return _ODD.sub(lambda match: f"<U+{ord(match[0]):04X}>", " ".join(text.split()))
