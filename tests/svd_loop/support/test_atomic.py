"""Files replaced whole."""

from __future__ import annotations

from pathlib import Path

from svd_loop.support.atomic import write_atomically


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text("a longer earlier version")
    write_atomically(path, "new")
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]
