r"""Normalise an answer: one LaTeX spelling for what can be written in several ways.

Characters become commands (`π` is `\pi`, `x²` is `x^{2}`, `½` is `\frac{1}{2}`), commands that only format text are
removed, grouped digits become one number, and repeating decimals become fractions. Nothing is computed and no word is
lost: words stay in `\text{...}` or as they are. `envs.domains.units` decides what the words mean (a unit, a
restriction).
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Callable
from typing import Final

_CHARACTERS: Final = {
    **{"∞": r"\infty ", "×": r"\times ", "⋅": r"\cdot ", "·": r"\cdot ", "∙": r"\cdot ", "÷": "/", "∕": "/", "⁄": "/"},
    **{"−": "-", "–": "-", "—": "-", "‐": "-", "‑": "-", "±": r"\pm ", "∓": r"\mp ", "≤": r"\le ", "⩽": r"\le "},
    **{"≥": r"\ge ", "⩾": r"\ge ", "≠": r"\neq ", "≈": r"\approx ", "∪": r"\cup ", "∩": r"\cap ", "∈": r"\in "},
    **{"∅": r"\emptyset ", "°": r"^{\circ}", "º": r"^{\circ}", "′": "'", "’": "'", "‘": "'", "“": '"', "”": '"'},
    **{"→": r"\to ", "µ": r"\mu ", "\N{OHM SIGN}": r"\Omega ", "：": ":", "，": ",", "。": ".", "％": "%"},
    **{"⌊": r"\lfloor ", "⌋": r"\rfloor ", "⌈": r"\lceil ", "⌉": r"\rceil ", "⟨": "(", "⟩": ")", "℃": r"^{\circ}C"},
    **{"ℝ": r"\mathbb{R}", "ℤ": r"\mathbb{Z}", "ℂ": r"\mathbb{C}", "ℕ": r"\mathbb{N}", "ℚ": r"\mathbb{Q}"},
    **{"\N{NO-BREAK SPACE}": " ", "\N{NARROW NO-BREAK SPACE}": r"\,", "\N{THIN SPACE}": r"\,"},
}
_INVISIBLE: Final = re.compile(
    "[\u00ad\u034f\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u206f\ufe00-\ufe0f\ufeff]"
)
_GREEK_NAMES_TEXT: Final = (
    "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi pi rho sigma tau upsilon phi chi "
    "psi omega Gamma Delta Theta Lambda Xi Pi Sigma Phi Psi Omega"
)
_GREEK_NAMES: Final = _GREEK_NAMES_TEXT.split()


def _greek(name: str) -> str:
    case = "CAPITAL" if name[0].isupper() else "SMALL"
    return unicodedata.lookup(f"GREEK {case} LETTER {'LAMDA' if name.lower() == 'lambda' else name.upper()}")


_GREEK: Final = {_greek(name): f"\\{name} " for name in _GREEK_NAMES}
_RAISED: Final = dict(zip("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁽⁾ⁿ", "0123456789+-()n", strict=True))
_LOWERED: Final = dict(zip("₀₁₂₃₄₅₆₇₈₉₊₋", "0123456789+-", strict=True))
_ROOTS: Final = {"√": r"\sqrt", "∛": r"\sqrt[3]", "∜": r"\sqrt[4]"}

_SETTING: Final = re.compile(  # commands that only change the appearance
    r"\\(?:left|right|[bB]igg?[lrm]?|displaystyle|textstyle|limits|mathop|strut|hfill|newline|ensuremath)(?![a-zA-Z])\.?"
    r"|\\textcolor\s*\{[^{}]*\}|\\color\s*(?:\[[^\[\]]*\])?\s*\{[^{}]*\}"
    r"|(?<!\\)\\[!@]|\\phantom\{[^{}]*\}|\\label\{[^{}]*\}|\\tag\*?\{[^{}]*\}"
)
_DOUBLED: Final = re.compile(r"\\\\(?=[a-zA-Z{}%$,;])")
_MATRIX: Final = re.compile(
    r"(?:(?<!\\)[\[(]\s*)?\\begin\{(?:[pb]?matrix|array)\}(?:\{[lcr| ]*\})?((?:(?!\\begin|\\end).)*?)(?:\\\\\s*)?"
    r"\\end\{(?:[pb]?matrix|array)\}\s*[\])]?",
    re.DOTALL,
)
_SPACE: Final = re.compile(r"\\(?:quad|qquad|enspace|thinspace|space)(?![a-zA-Z])|(?<!\\)\\[,;: >]|~|\s+")
_TEXT: Final = re.compile(
    r"\\(?:textbf|textit|textrm|textnormal|textsf|texttt|mbox|mathrm|mathbf|mathit|mathsf|operatorname\*?|rm|emph|hbox|bm"
    r"|boldsymbol|underline)(?=\s*\{)"
)
_OLD_TEXT: Final = re.compile(r"\{\s*\\(?:rm|bf|it)\s+([^{}]*)\}")
_POWER: Final = re.compile(r"(?<=[\w)}\]])\*\*(?=[\d({-]|[a-zA-Z](?![a-zA-Z*]))")
_DELIMITERS: Final = re.compile(r"\$+|(?<!\\)\\[()\[\]]|\*\*|`")
_DIGIT_GROUPS: Final = re.compile(r"(?<![\d.])(\d{1,3})((?:(?:\\,|\{,\}|,\\!|\{,\\!\}|\\ |\\;|\\:)\s*\d{3})+)(?!\d)")
_WHOLE_GROUPS: Final = re.compile(r"(?<![\d.,])([1-9]\d{0,2}(?:,\d{3})+)(?![\d,])")
_DECIMAL_COMMA: Final = re.compile(r"(?<=\d)\{,\}(?=\d)")
_SPACED_GROUPS: Final = re.compile(r"[+-]?\d{1,3}(?: \d{3})+(?:\.\d+)?")
_REPEATING: Final = re.compile(r"(\d*)\.(\d*)\\(?:overline|bar|dot)\s*(?:\{(\d+)\}|(\d))")
_DOTTED: Final = re.compile(r"\\dot\s*\{?(\d)\}?(\d*?)\s*\\dot\s*\{?(\d)\}?")
_OVERLINED: Final = re.compile("(?:[0-9]\N{COMBINING OVERLINE})+")
_LOG_E: Final = re.compile(r"\\log\s*_\s*(?:\{\s*e\s*\}|e(?![a-zA-Z]))\s*")
_BASES: Final = {
    **{"two": "2", "three": "3", "four": "4", "five": "5", "six": "6", "seven": "7", "eight": "8", "nine": "9"},
    **{"ten": "10", "eleven": "11", "twelve": "12", "sixteen": "16", "binary": "2", "octal": "8", "hexadecimal": "16"},
}
_BASE: Final = rf"(?P<base>\d{{1,2}}|{'|'.join(_BASES)})"
_IN_A_BASE: Final = re.compile(
    r"(?<![\w.])(?P<open>\\text\s*\{\s*|\()?(?P<digits>(?=[A-F]*[0-9])[0-9A-Fa-f]+)(?(open)\s*[})])"
    rf"(?:\s*_\s*\{{?\s*(?:\\text\s*\{{\s*)?{_BASE}[\s}}]*"
    r"|\s*(?:\\text\s*\{)?\s*\(?\s*(?:in\s+)?base\s*\}?[\s-]*" + _BASE.replace("P<base>", "P<named>") + r"[\s})]*)$"
)
_DOTS: Final = r"(?:\.\.\.|\\[lc]?dots(?![a-zA-Z]))"
_ENDLESS: Final = re.compile(rf"(?<![\d.])(\d{{0,20}})\.(\d{{0,12}}?)(?:(\d)\3{{2,12}}|(\d{{2,6}})\4{{1,6}}){_DOTS}")
_IN_BRACKETS: Final = re.compile(r"(?<![\d.])(\d{1,20})\.(\d{0,12})\((\d{1,12})\)()")
_CHOOSE: Final = re.compile(r"\{([^{}]*)\\choose(?![a-zA-Z])([^{}]*)\}")
_OVER: Final = re.compile(r"\{([^{}]*)\\over(?![a-zA-Z])([^{}]*)\}")
_BARE_OVER: Final = re.compile(r"([^{}]*)\\over(?![a-zA-Z])([^{}]*)")
_NAMES: Final = {
    **{
        r"\dfrac": r"\frac",
        r"\tfrac": r"\frac",
        r"\cfrac": r"\frac",
        r"\nicefrac": r"\frac",
        r"\sfrac": r"\frac",
        r"\flatfrac": r"\frac",
        r"\langle": "(",
        r"\rangle": ")",
        r"\lvert": "|",
        r"\rvert": "|",
        r"\leq": r"\le",
        r"\geq": r"\ge",
        r"\ne": r"\neq",
    },
    **{
        r"\leqslant": r"\le",
        r"\geqslant": r"\ge",
        r"\lbrace": r"\{",
        r"\rbrace": r"\}",
        r"\lbrack": "[",
        r"\rbrack": "]",
    },
    **{r"\lt": "<", r"\gt": ">", r"\degree": r"^{\circ}", r"\textdegree": r"^{\circ}", r"\varnothing": r"\emptyset"},
    **{
        r"\land": r"\text{ and }",
        r"\lor": r"\text{ or }",
        r"\colon": ":",
        r"\ast": "*",
        r"\euro": "€",
        r"\pounds": "£",
    },
    **{r"\backslash": r"\setminus", r"\micro": r"\mu", r"\ohm": r"\Omega", r"\thinspace": " ", r"\percent": "%"},
}
_COMMAND: Final = re.compile(r"\\[a-zA-Z]+")
_PLAIN_NAMES: Final = re.compile(r"(?<![a-zA-Z\\])(pi|sqrt|infinity|inf|oo)(?![a-zA-Z])")
_PLAIN: Final = {"pi": r"\pi ", "sqrt": r"\sqrt", "infinity": r"\infty ", "inf": r"\infty ", "oo": r"\infty "}
_FUNCTION: Final = re.compile(
    r"(?<![a-zA-Z\\])(arcsin|arccos|arctan|sinh|cosh|tanh|sin|cos|tan|cot|sec|csc|log|ln|exp)"
    r"(?=\s*(?:[(^\\]|_[\d{(])|\s*\d|\s+[a-z](?![a-z]))"
)
_UPRIGHT: Final = re.compile(r"\\(?:mathrm|rm|text|operatorname)\s*\{\s*([ei])\s*\}")
_ROOT_OF: Final = re.compile(r"(\\sqrt(?:\[\d\])?)\s*(?:\(([^()]*)\)|(\d+(?:\.\d+)?|[a-zA-Z]))")
_SHORT_FRACTION: Final = re.compile(r"\\frac\s*(\d|\{[^{}]*\})\s*(\d|[a-zA-Z]|\{[^{}]*\})")


@functools.lru_cache(maxsize=8192)
def spelled(text: str) -> str:
    """The normalised text; texts with different meanings stay different."""
    text = _ascii(_OVERLINED.sub(lambda digits: rf"\overline{{{digits[0][::2]}}}", text))
    if "\\begin" not in text:
        text = _DOUBLED.sub(r"\\", text)
    text = _DIGIT_GROUPS.sub(lambda group: group[1] + re.sub(r"\D", "", group[2]), text)
    text = _DECIMAL_COMMA.sub(".", _UPRIGHT.sub(r" \1 ", text))
    text = _OLD_TEXT.sub(r"\\text{\1}", _SETTING.sub("", text))
    text = _MATRIX.sub(r"\\begin{pmatrix}\1\\end{pmatrix}", _TEXT.sub(r"\\text", text))
    text = _COMMAND.sub(lambda command: _NAMES.get(command[0], command[0]), text)
    text = _DELIMITERS.sub(_delimiter, _POWER.sub("^", text))
    text = _SPACE.sub(" ", text).replace(r"\%", "%").replace(r"\$", "$").replace(r"\&", "&").replace(r"\#", "#")
    text = _PLAIN_NAMES.sub(lambda name: _PLAIN[name[1]], text)
    text = _FUNCTION.sub(r"\\\1 ", text)
    text = _ROOT_OF.sub(lambda root: f"{root[1]}{{{root[2] or root[3]}}}", text)
    text = _CHOOSE.sub(r"\\binom{\1}{\2}", text)
    text = _OVER.sub(r"\\frac{\1}{\2}", text)
    text = _BARE_OVER.sub(r"\\frac{\1}{\2}", text) if text.count(r"\over") == 1 and r"\overline" not in text else text
    text = _SHORT_FRACTION.sub(lambda found: "\\frac" + _braced(found[1]) + _braced(found[2]), text)
    text = re.sub(r"\^\s*\\circ(?![a-zA-Z])", r"^{\\circ}", text)
    text = _LOG_E.sub(r"\\ln ", _DOTTED.sub(r"\\overline{\1\2\3}", text))
    text = _IN_A_BASE.sub(_with_base, text.strip())
    text = _ENDLESS.sub(_fraction, _IN_BRACKETS.sub(_fraction, _REPEATING.sub(_fraction, text)))
    if not re.search(r"[\[\]()]|\\\{|^\s*\{", text):
        text = _WHOLE_GROUPS.sub(lambda group: group[1].replace(",", ""), text)
        text = text.replace(" ", "") if _SPACED_GROUPS.fullmatch(text.strip()) else text
    return " ".join(text.split()).rstrip(" ,;.").strip()


def _with_base(number: re.Match[str]) -> str:
    """A number whose base stands in words or behind brackets, with a subscript."""
    base = number["base"] or number["named"]
    return f"{number['digits']}_{{{_BASES.get(base, base)}}}"


def _ascii(text: str) -> str:
    """Replace special characters by commands, and compatibility characters (full width, ligatures) by plain ones."""
    parts: list[str] = []
    text = _INVISIBLE.sub("", text)
    for place, character in enumerate(text):
        if character.isascii():
            parts.append(character)
        elif character in _RAISED or character in _LOWERED:
            table, mark = (_RAISED, "^") if character in _RAISED else (_LOWERED, "_")
            if place and text[place - 1] in table:
                parts[-1] = parts[-1][:-1] + table[character] + "}"
            else:
                parts.append(f"{mark}{{{table[character]}}}")
        elif "VULGAR FRACTION" in unicodedata.name(character, ""):
            above, _, below = unicodedata.normalize("NFKC", character).partition("⁄")
            parts.append(f"\\frac{{{above}}}{{{below or 1}}}")
        else:
            known = _CHARACTERS.get(character) or _GREEK.get(character) or _ROOTS.get(character)
            digit = unicodedata.decimal(character, None)
            parts.append(known or (unicodedata.normalize("NFKC", character) if digit is None else str(digit)))
    return "".join(parts)


def _delimiter(mark: re.Match[str]) -> str:
    """Nothing, or the dollar sign that an amount begins or ends with."""
    before, after = mark.string[: mark.start()], mark.string[mark.end() : mark.end() + 1]
    if mark[0] == "$" and before.endswith("\\"):
        return "$"
    if mark[0] == "$" and mark.string.count("$") == 1 and (after.isdigit() or after == "." or before[-1:].isdigit()):
        return "$"
    return " "


def _braced(argument: str) -> str:
    return argument if argument.startswith("{") else f"{{{argument}}}"


def _fraction(decimal: re.Match[str]) -> str:
    r"""A repeating decimal (`0.1\overline{6}`, `0.1(6)`, `0.1666...`) is (16 - 1) / 90."""
    whole, fixed, period = decimal[1], decimal[2], decimal[3] or decimal[4]
    above = int(whole + fixed + period) - int((whole + fixed) or "0")
    return f"\\frac{{{above}}}{{{'9' * len(period)}{'0' * len(fixed)}}}"


def balanced_split(text: str, is_separator: Callable[[str, int], int]) -> list[str]:
    """Split a text at separators that stand outside all brackets.

    Args:
        text: as `spelled` returns it.
        is_separator: the length of the separator at a position of the text; 0 for none.
    """
    parts, depth, start, place = [], 0, 0, 0
    while place < len(text):
        if text[place] == "\\" and text[place + 1 : place + 2] in ("{", "}"):
            depth += 1 if text[place + 1] == "{" else -1
            place += 2
            continue
        depth += (text[place] in "([{") - (text[place] in ")]}")
        width = is_separator(text, place) if depth == 0 else 0
        if width:
            parts.append(text[start:place])
            start = place + width
        place += width or 1
    return [*parts, text[start:]]
