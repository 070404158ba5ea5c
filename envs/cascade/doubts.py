r"""Words around a marker that make it no verdict: denied, taken back, conditional, an example, or somebody else's.

No vote is guessed from words, neither yes nor no. A marker that these words surround is invalid, so the judge is asked
again; that costs one vote, while a yes that was none would become training data.
"""

from __future__ import annotations

import re

_BEFORE = re.compile(
    r"(?:\b(?:not|never|cannot|hardly|neither|nor|without)|n['’]t)(?:\s+\w+){0,2}"  # "would not call it [[Y]]"
    r"|\bno"
    r"|\b(?:e\.g\.|for example|for instance|examples?|such as|like|as in|maybe|perhaps|i\.e\. not)[,:]?"
    r"|\b(?:says|said|writes|wrote|written|claims|claimed|states|stated|asserts|reads|quotes|quoted|copied"
    r"|insists|demands|asks(?: me)? (?:for|to)|tells(?: me)?(?: to)?|wants)(?:\s+\w+){0,2}[,:]?"
    r"|\baccording to [^.!?\n]{0,60}[,:]"
    r"|\b(?:if|unless|provided|assuming)\b[^.!?,:;\n]{0,60}[,:]"
    r"|\b(?:system|assistant|user|proposed answer|proposed solution|candidate(?:'s text)?)\s*:"
    r"|\\(?:verb|texttt|lstinline|sout|st|cancel|xcancel|bcancel)\*?\s*[{|!+]?",
    re.IGNORECASE,
)
_BEHIND = re.compile(
    r"[\s*_.,;:!()…–—-]{0,20}(?:\?|(?:no|nope|not|never|wait|actually|hmm+|scratch that|just kidding|on second thought"
    r"|is (?:not|wrong|incorrect|false|a lie)|isn['’]t|would (?:be|not)|wouldn['’]t|cannot|can['’]t"
    r"|should(?: not|n['’]t)|(?:says?|said|claims?|wrote|writes|states?) (?:the|its?|this|that)|but|however)(?![\w-]))",
    re.IGNORECASE,
)
_PLAIN_NO = r"(?:N|no|No|NO)"
_PLAIN_YES = r"(?:Y|yes|Yes|YES)"
_SAID = (
    r"(?m)^[\s*_#>-]{{0,12}}(?:(?:(?i:my|the|final|overall|so)\s+){{0,4}}(?i:verdict|decision|judge?ment|vote)(?:\s+is)?\s*[:=]?"
    r"[\W_]{{0,8}}{0}[\W_]{{0,8}}|[\[({{<【「『〔⟦⟨]{{1,3}}\s*[\[(]?{0}[\])]?\s*[\])}}>】」』〕⟧⟩]{{1,3}}[.!]?\s*)$"
)
_SAYS_NO = re.compile(_SAID.format(_PLAIN_NO))
_SAYS_YES = re.compile(_SAID.format(_PLAIN_YES))
_ALONE = re.compile(r"(?m)^[ \t*_#>-]{0,12}\[ ?\[(?P<inside>[^\n\[\],]{0,40})\] ?\][ \t*_.!]{0,12}$")
_TRIPLE = re.compile(r"\"\"\"|'''")
_PAIRS = (("“", "”"), ("«", "»"), ("„", "“"), (r"\begin{verbatim}", r"\end{verbatim}"), ("/*", "*/"))
_REACH = 120


def is_doubtful(answer: str, start: int, end: int, *, says_yes: bool) -> bool:
    """Whether the words around the marker at `start:end` leave it open what it says."""
    line = answer[max(answer.rfind("\n", 0, start) + 1, start - _REACH) : start].rstrip(" \t*_({")
    if any(found.end() == len(line) for found in _BEFORE.finditer(line)):
        return True
    if _BEHIND.match(answer, end, end + _REACH):
        return True
    earlier, later = answer[:start], answer[end:]
    if (_SAYS_NO if says_yes else _SAYS_YES).search(earlier) or (_SAYS_NO if says_yes else _SAYS_YES).search(later):
        return True
    if any(found["inside"].strip() not in ("Y", "N", "y", "n") for found in _ALONE.finditer(answer)):
        return True
    return _is_enclosed(earlier, later)


def _is_enclosed(earlier: str, later: str) -> bool:
    """Whether a quotation, a comment or verbatim text opens before a place and closes behind it."""
    if len(_TRIPLE.findall(earlier)) % 2 and _TRIPLE.search(later):
        return True
    return any(earlier.rfind(opening) > earlier.rfind(closing) and closing in later for opening, closing in _PAIRS)
