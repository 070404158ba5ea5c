"""Generated parts of pages written by hand: the text between two markers is replaced, the rest is kept."""

from __future__ import annotations

from pathlib import Path

from svd_loop.support.atomic import write_atomically


def put(page: Path, name: str, text: str) -> None:
    """Replace the text between `<!-- name -->` and `<!-- /name -->`, or append both; a missing page is created."""
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    old = page.read_text(encoding="utf-8") if page.exists() else ""
    if begin not in old or end not in old:
        old = f"{old.rstrip()}\n\n{begin}\n{end}\n".lstrip()
    head, _, rest = old.partition(begin)
    write_atomically(page, f"{head}{begin}\n{text}\n{end}{rest.partition(end)[2]}")
