"""LaTeX as MathML that a browser shows without a script.

`latex2mathml` does not escape what stands in a text, so its output is never taken as it is: it is parsed, and written
again with the elements and attributes of presentation MathML alone. What cannot be converted stays as its source.
"""

from __future__ import annotations

import functools
import re
from xml.etree import ElementTree

from markupsafe import Markup, escape

_LONGEST = 1_000
"""Characters of a formula that is converted; longer ones are shown as source."""
_DEEPEST = 24
"""Levels of braces; the converter works recursively."""
_NAMESPACE = "{http://www.w3.org/1998/Math/MathML}"
_ELEMENTS = frozenset(
    re.findall(
        r"\w+",
        "math mrow mi mn mo ms mtext mspace mfrac msqrt mroot mstyle merror mpadded mphantom msub msup msubsup munder "
        "mover munderover mmultiscripts mprescripts mtable mtr mtd menclose none",
    )
)
_ATTRIBUTES = frozenset(
    re.findall(
        r"\w+",
        "display stretchy fence form lspace rspace width height depth linethickness mathvariant displaystyle "
        "scriptlevel columnalign rowspacing columnspacing columnlines rowlines separator accent accentunder largeop "
        "movablelimits notation minsize maxsize symmetric",
    )
)


@functools.lru_cache(maxsize=4096)
def mathml(latex: str, *, block: bool = False) -> Markup | None:
    """Return a formula as MathML, or None if it is too large or cannot be converted."""
    if len(latex) > _LONGEST or _depth(latex) > _DEEPEST:
        return None
    from latex2mathml.converter import convert

    try:
        tree = ElementTree.fromstring(convert(latex, display="block" if block else "inline"))
        return Markup(_written(tree))
    except Exception:  # any input of a model: whatever the converter cannot do, the source can still be read
        return None


def _depth(latex: str) -> int:
    deepest = level = 0
    for character in latex:
        level += (character in "{[") - (character in "}]")
        deepest = max(deepest, level)
    return deepest + latex.count("\\left")


def _written(element: ElementTree.Element) -> str:
    """The element with everything left out that is not presentation MathML; foreign elements are an error."""
    name = element.tag.removeprefix(_NAMESPACE)
    if name not in _ELEMENTS:
        raise ValueError(f"{name} is no element of MathML")
    kept = "".join(f' {key}="{escape(value)}"' for key, value in element.attrib.items() if key in _ATTRIBUTES)
    inside = "".join(_written(child) + str(escape(child.tail or "")) for child in element)
    return f"<{name}{kept}>{escape(element.text or '')}{inside}</{name}>"
