"""Which environment variables a child process gets."""

from __future__ import annotations

import re
from collections.abc import Mapping

_SECRET = re.compile(
    r"(?:^|_)(?:API_?KEY|KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIALS?)(?:$|_(?:ID|FILE)$|$)", re.IGNORECASE
)
_URL_WITH_PASSWORD = re.compile(r"://[^/\s@]+:[^/\s@]+@")


def without_secrets(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables of an environment that are no credentials, told by name, or by a URL that holds a password.

    Engines, trainers and scorers read files that lie on this machine already and need no key of anybody's.
    """
    return {
        name: value
        for name, value in environment.items()
        if not _SECRET.search(name) and not _URL_WITH_PASSWORD.search(value)
    }
