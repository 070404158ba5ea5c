"""Select the environment variables of a child process."""

from __future__ import annotations

import re
from collections.abc import Mapping

_SECRET = re.compile(
    r"(?:^|_)(?:API_?KEY|KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIALS?)(?:$|_(?:ID|FILE)$|$)", re.IGNORECASE
)
_URL_WITH_PASSWORD = re.compile(r"://[^/\s@]+:[^/\s@]+@")


def without_secrets(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment without credentials, recognised by name, or by a URL that holds a password.

    Engines, trainers and scorers read local files only and need no credentials.
    """
    return {
        name: value
        for name, value in environment.items()
        if not _SECRET.search(name) and not _URL_WITH_PASSWORD.search(value)
    }
