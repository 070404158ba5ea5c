"""Addresses of the pages: paths on the server, or file names in an export."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Protocol
from urllib.parse import quote, urlencode


class Links(Protocol):
    """Where each page is; `None` for a page that is not there."""

    def static(self, name: str) -> str:
        """A style sheet or script."""
        ...

    def job(self) -> str:
        """The first page."""
        ...

    def round(self, round: int) -> str:
        """A round."""
        ...

    def prompts(self, round: int, query: Mapping[str, str] | None = None) -> str | None:
        """The prompts of a round, filtered."""
        ...

    def prompt(self, round: int, id: str, query: Mapping[str, str] | None = None) -> str | None:
        """One prompt of a round; the filter decides its neighbours."""
        ...

    def canaries(self, round: int) -> str | None:
        """The canaries of a round."""
        ...

    def held_out(self, round: int, query: Mapping[str, str] | None = None) -> str | None:
        """The held-out problems of a round."""
        ...

    def problem(self, round: int, id: str, query: Mapping[str, str] | None = None) -> str | None:
        """One held-out problem, answered by a round's version."""
        ...

    def call(self, seq: int) -> str | None:
        """One reply with the exact prompt."""
        ...

    def newest(self) -> str | None:
        """The newest replies."""
        ...


class ServerLinks:
    """Paths on the server."""

    def static(self, name: str) -> str:
        """A style sheet or script."""
        return f"/static/{name}"

    def job(self) -> str:
        """The first page."""
        return "/"

    def round(self, round: int) -> str:
        """A round."""
        return f"/round/{round}"

    def prompts(self, round: int, query: Mapping[str, str] | None = None) -> str:
        """The prompts of a round, filtered."""
        return f"/round/{round}/prompts{_query(query)}"

    def prompt(self, round: int, id: str, query: Mapping[str, str] | None = None) -> str:
        """One prompt of a round; the filter decides its neighbours."""
        return f"/round/{round}/prompt/{quote(id, safe='')}{_query(query)}"

    def canaries(self, round: int) -> str:
        """The canaries of a round."""
        return f"/round/{round}/canaries"

    def held_out(self, round: int, query: Mapping[str, str] | None = None) -> str:
        """The held-out problems of a round."""
        return f"/round/{round}/held-out{_query(query)}"

    def problem(self, round: int, id: str, query: Mapping[str, str] | None = None) -> str:
        """One held-out problem, answered by a round's version."""
        return f"/round/{round}/held-out/{quote(id, safe='')}{_query(query)}"

    def call(self, seq: int) -> str:
        """One reply with the exact prompt."""
        return f"/reply/{seq}"

    def newest(self) -> str:
        """The newest replies."""
        return "/replies"


class FileLinks:
    """File names in an export folder; only pages in `written` are linked.

    Args:
        single: everything is one file, whose parts are anchors.
    """

    def __init__(self, *, single: bool = False) -> None:
        self.single = single
        self.written: set[str] = set()

    def static(self, name: str) -> str:
        """A style sheet or script."""
        return name

    def job(self) -> str:
        """The first page."""
        return self.address("index")

    def round(self, round: int) -> str:
        """A round."""
        return self.address(f"round-{round}")

    def prompts(self, round: int, query: Mapping[str, str] | None = None) -> str | None:
        """The prompts of a round; an export has no filters."""
        return None if any((query or {}).values()) else self._known(f"round-{round}-prompts")

    def prompt(self, round: int, id: str, query: Mapping[str, str] | None = None) -> str | None:
        """One prompt of a round."""
        return self._known(prompt_name(round, id))

    def canaries(self, round: int) -> str | None:
        """The canaries of a round."""
        return self._known(f"round-{round}-canaries")

    def held_out(self, round: int, query: Mapping[str, str] | None = None) -> str | None:
        """Held-out problems stay where they are: a bundle is shared."""
        return None

    def problem(self, round: int, id: str, query: Mapping[str, str] | None = None) -> str | None:
        """Held-out problems stay where they are: a bundle is shared."""
        return None

    def call(self, seq: int) -> str | None:
        """Not in an export."""
        return None

    def newest(self) -> str | None:
        """Not in an export."""
        return None

    def address(self, name: str) -> str:
        """The address of a page by its name."""
        return f"#{name}" if self.single else f"{name}.html"

    def _known(self, name: str) -> str | None:
        return self.address(name) if name in self.written else None


def prompt_name(round: int, id: str) -> str:
    """Return the name of a prompt's page in an export: ids may hold anything, file names may not."""
    safe = id if id.isascii() and id.isalnum() and len(id) <= 64 else hashlib.sha256(id.encode()).hexdigest()[:24]
    return f"round-{round}-prompt-{safe}"


def _query(query: Mapping[str, str] | None) -> str:
    kept = {name: value for name, value in (query or {}).items() if value}
    return f"?{urlencode(kept)}" if kept else ""
