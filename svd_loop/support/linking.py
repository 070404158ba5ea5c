"""Copy a folder without copying its bytes, where the file system has hard links."""

from __future__ import annotations

import shutil
from pathlib import Path


def copy_by_links(source: Path, target: Path) -> None:
    """Fill the folder `target` with the files of `source`: links to them, or copies where no link can be made.

    A linked file must not be written in place afterwards, since both folders would change.

    Raises:
        OSError: a file cannot be read or written.
    """
    shutil.copytree(source, target, copy_function=_link, dirs_exist_ok=True)


def _link(source: str, target: str) -> None:
    try:
        Path(target).hardlink_to(source)
    except FileNotFoundError:
        raise
    except OSError:  # a file system without links, or a file that is there already
        shutil.copy2(source, target)
