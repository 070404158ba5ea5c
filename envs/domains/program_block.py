"""Find the program in a solution.

1. A fenced block (backticks or tildes, at any indentation) that is complete and marked as Python is a candidate:
   `python`, `py`, `python3.11`, `python title=...`. Where there is none, one without a mark that reads as a program.
2. The last candidate is taken, unless it only demonstrates another one: a block that defines nothing new and uses what
   an earlier block defines (calls, assertions, functions named `test...`), or a session with `>>>`.
3. A block left open (a truncated solution) is not a candidate.

The text is read once, line by line, so that the time is linear for any text.
"""

from __future__ import annotations

import ast
import re
import textwrap
from dataclasses import dataclass, field
from typing import Final

_FENCE: Final = re.compile(r"(?P<indent>[ \t]*)(?:[-*+][ \t]+|[0-9]{1,9}[.)][ \t]+)?(?P<marks>`{3,}|~{3,})(?P<info>.*)")
_PYTHON: Final = re.compile(r"[{.\s]*(?:python|py)[0-9.]*(?=$|[\s,:;{}\[\]()=])", re.IGNORECASE)
_NO_PROGRAM: Final = (ast.Expr, ast.Pass)


@dataclass(slots=True)
class _Block:
    indent: str
    marks: str
    info: str
    lines: list[str] = field(default_factory=list)

    @property
    def is_python(self) -> bool:
        return _PYTHON.match(self.info) is not None

    @property
    def code(self) -> str:
        """The lines without the indentation of the fence, and dedented if they are not Python as they stand."""
        width = len(self.indent.expandtabs())
        text = "\n".join(_without(line, width) for line in self.lines) + "\n"
        return text if _tree(text) is not None else textwrap.dedent(text)


def program(text: str) -> str | None:
    """The program in a solution by the rules above, or None."""
    blocks = [block for block in _blocks(text) if any(line.strip() for line in block.lines)]
    codes = [block.code for block in blocks if block.is_python]
    if not codes:
        codes = [code for block in blocks if not block.info.strip() and _reads_as_program(code := block.code)]
    trees = [_tree(code) for code in codes]
    first: dict[str, int] = {}
    for place, tree in enumerate(trees):
        for name in _defined(tree):
            first.setdefault(name, place)
    for place in range(len(codes) - 1, 0, -1):
        if not _only_uses(
            codes[place], trees[place], {name for name in _used(trees[place]) if first.get(name, place) < place}
        ):
            return codes[place]
    return codes[0] if codes else None


def _blocks(text: str) -> list[_Block]:
    """All complete blocks. A Python fence inside an open block starts a new one: the earlier fence was never closed."""
    found: list[_Block] = []
    block: _Block | None = None
    for line in text.replace("\r\n", "\n").split("\n"):
        fence = _FENCE.fullmatch(line)
        if fence is None:
            if block is not None:
                block.lines.append(line)
            continue
        opening = _Block(fence["indent"], fence["marks"], fence["info"])
        if block is None:
            if "`" not in opening.info:
                block = opening
        elif not opening.info.strip() and opening.marks.startswith(block.marks):
            found.append(block)
            block = None
        elif opening.is_python and opening.marks.startswith(block.marks):
            block = opening
        else:
            block.lines.append(line)
    return found


def _without(line: str, width: int) -> str:
    line = line.expandtabs() if line[:width].strip(" ") else line
    blanks = len(line) - len(line.lstrip(" "))
    return line[min(width, blanks) :]


def _tree(code: str) -> ast.Module | None:
    try:
        return ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _reads_as_program(code: str) -> bool:
    """Whether an unmarked block is Python that does something; a line of output may parse, but does nothing."""
    tree = _tree(code)
    if tree is None:
        return False
    return any(not isinstance(node, _NO_PROGRAM) for node in tree.body) or any(
        isinstance(node, ast.Call) for node in ast.walk(tree)
    )


def _only_uses(code: str, tree: ast.Module | None, offered: set[str]) -> bool:
    """Whether a block only demonstrates another: it defines nothing itself and uses names of earlier blocks."""
    own = [name for name in _defined(tree) if not name.startswith(("test", "Test"))]
    return code.lstrip().startswith(">>>") or (bool(offered) and not own)


def _used(tree: ast.Module | None) -> set[str]:
    """Names that a block uses and does not assign."""
    names = [node for node in ast.walk(tree) if isinstance(node, ast.Name)] if tree else []
    return {node.id for node in names if isinstance(node.ctx, ast.Load)} - {
        node.id for node in names if isinstance(node.ctx, ast.Store)
    }


def _defined(tree: ast.Module | None) -> list[str]:
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return [node.name for node in tree.body if isinstance(node, kinds)] if tree else []
