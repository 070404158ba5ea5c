"""Addresses of SQLite stores for paths with characters that have a meaning in a URL.

SQLAlchemy decodes percent signs in an address from 2.1 on and treats `?` as its end, so it writes and reads addresses
itself here, except for the paths that look the same either way.
"""

from __future__ import annotations

import re
from pathlib import Path

_PREFIX = "sqlite:///"
_PLAIN = re.compile(r"[\w./ -]*")


def sqlite_uri(path: Path) -> str:
    """The address of the SQLite file `path`."""
    if _PLAIN.fullmatch(str(path)):
        return f"{_PREFIX}{path}"
    from sqlalchemy import URL

    return URL.create("sqlite", database=str(path)).render_as_string(hide_password=False)


def sqlite_path(uri: str) -> Path | None:
    """The file behind an address; None for a server, another database or one in memory.

    Raises:
        ValueError: the address cannot be read.
    """
    if not uri.startswith("sqlite"):
        return None
    if _PLAIN.fullmatch(name := uri.removeprefix(_PREFIX)):
        return Path(name) if name else None
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        database = make_url(uri).database
    except ArgumentError as error:
        raise ValueError(str(error)) from None
    return Path(database) if database and database != ":memory:" and not database.startswith("file:") else None
