"""The configurations that come with the package, by name: `nano`, `scripted`, `paper/qwen3-4b`."""

from __future__ import annotations

from pathlib import Path

from svd_loop.errors import ConfigError
from svd_loop.support.listing import listing

_PACKAGE = Path(__file__).parents[1]
_FOLDERS = (_PACKAGE.parent / "configs", _PACKAGE / "configs")
"""In a checkout, and in an installed package."""
_NO_JOBS = ("accelerate", "experiments")


def config_file(path: Path) -> Path:
    """The file that a command names: a path, or else a shipped configuration's name without `.yaml`.

    Raises:
        ConfigError: there is neither; lists the shipped names.
    """
    known = shipped()
    if not path.is_file() and path.as_posix() in known:
        return known[path.as_posix()]
    if path.exists():
        return path
    raise ConfigError(
        f"{path}: no such configuration file; shipped with svd-loop, by name: {listing(path.stem, known)}"
    )


def shipped() -> dict[str, Path]:
    """The shipped configurations of jobs by name."""
    folder = next((folder for folder in _FOLDERS if (folder / "nano.yaml").is_file()), _FOLDERS[0])
    found = {path.relative_to(folder).with_suffix("").as_posix(): path for path in sorted(folder.rglob("*.yaml"))}
    return {name: path for name, path in found.items() if not name.startswith(_NO_JOBS)}
