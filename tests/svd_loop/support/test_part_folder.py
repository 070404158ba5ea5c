from __future__ import annotations

import sys
from pathlib import Path

import pytest

from svd_loop.support.part_folder import part_folder
from tests.kill import run_until_it_kills_itself

KILLED = """
import os, signal, sys
from pathlib import Path
from svd_loop.support.part_folder import part_folder
with part_folder(Path(sys.argv[1])) as part:
    (part / "half").write_text("h")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_folder_appears_when_it_is_renamed_and_only_then(tmp_path: Path) -> None:
    target = tmp_path / "new" / "target"
    with pytest.raises(KeyError), part_folder(target) as part:
        (part / "file").touch()
        raise KeyError
    assert names(target.parent) == []
    with part_folder(target) as part:
        (part / "file").touch()
        part.rename(target)
    assert names(target.parent) == ["target"] and names(target) == ["file"]


def test_what_a_killed_process_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "target"
    run_until_it_kills_itself([sys.executable, "-c", KILLED, str(target)])
    other = tmp_path / f".other.{'0' * 32}"
    other.mkdir()
    (left,) = (path for path in tmp_path.iterdir() if path != other)
    assert names(left) == ["half"]
    with part_folder(target) as first, part_folder(target) as second:
        assert first.is_dir() and second.is_dir() and first != second
    assert names(tmp_path) == [other.name]
