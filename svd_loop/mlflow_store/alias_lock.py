"""One at a time: the right to move a model's aliases.

Beside a local SQLite store the right is a file lock, which ends with its holder. A server gives its clients nothing to
lock with, only values that the last writer wins. There a claim is written as a tag of the model, and is good if it
still stands after a pause longer than any write under way can take (Fischer's algorithm; Lamport, "A fast mutual
exclusion algorithm", 1987, section 2). A claim whose holder died is void after a minute by the clock.

What this rests on: one request to the server takes less than `SETTLE` seconds, and clocks agree within half a minute.
Where either fails, two processes may move an alias at once; the check after the move then tells one of them.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from filelock import FileLock

from svd_loop.errors import RegistryConflictError
from svd_loop.support.sqlite_uri import sqlite_path

if TYPE_CHECKING:
    from mlflow import MlflowClient

CLAIM_TAG = "svd_loop.turn"
SETTLE = 1.0
"""Seconds a claim must stand."""
HOLD = 60.0
"""Seconds after which a claim is void: moving aliases takes far less, measuring is done outside."""
PATIENCE = 180.0
"""Seconds to wait for one's turn."""


def is_server(uri: str) -> bool:
    """Whether a store is reached through a server, which keeps artifacts of its own."""
    return uri.startswith(("http://", "https://", "databricks"))


@contextmanager
def turn(client: MlflowClient, name: str) -> Iterator[None]:
    """The right to move the aliases of a model, for the length of the block.

    Raises:
        RegistryConflictError: someone else has it and does not give it back.
    """
    path = sqlite_path(str(client.tracking_uri))
    if path is None:
        with _claimed(client, name):
            yield
        return
    with FileLock(path.with_name(f".{path.name}.aliases.lock"), timeout=PATIENCE):
        yield


@contextmanager
def _claimed(client: MlflowClient, name: str) -> Iterator[None]:
    token = uuid.uuid4().hex
    patience = time.monotonic() + PATIENCE
    while not _claim(client, name, token):
        if time.monotonic() > patience:
            raise RegistryConflictError(
                f"{name}: another process has been moving its aliases for {PATIENCE:.0f} s; if there is none, delete "
                f"the tag {CLAIM_TAG} of the model"
            )
        time.sleep(0.2)
    try:
        yield
    finally:
        if _holder(client, name) == token:
            client.delete_registered_model_tag(name, CLAIM_TAG)


def _claim(client: MlflowClient, name: str, token: str) -> bool:
    if _holder(client, name):
        return False
    client.set_registered_model_tag(name, CLAIM_TAG, f"{token} {time.time() + HOLD:.0f}")
    time.sleep(SETTLE)
    return _holder(client, name) == token


def _holder(client: MlflowClient, name: str) -> str:
    """Who has a valid claim; empty for nobody."""
    token, _, until = client.get_registered_model(name).tags.get(CLAIM_TAG, "").partition(" ")
    return token if token and float(until) > time.time() else ""
