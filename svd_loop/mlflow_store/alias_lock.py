"""Lock for moving a model's aliases: one process at a time.

With a local SQLite store the lock is a file lock, which ends with the process that holds it. A tracking server offers
no lock to its clients, only values where the last writer wins. There a process writes a claim as a tag of the model and
holds the lock if the claim is unchanged after a pause that is longer than any write in progress can take (Fischer's
algorithm; Lamport, "A fast mutual exclusion algorithm", 1987, section 2). A claim is void after a minute, in case its
process died.

Assumptions: one request to the server takes less than `SETTLE` seconds, and clocks differ by less than half a minute.
If one of them does not hold, two processes may move an alias at the same time; the check after the move then fails in
one of them.
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
"""Seconds for which a claim must stay unchanged."""
HOLD = 60.0
"""Seconds after which a claim is void; moving aliases takes far less, and measuring is done without the lock."""
MAX_WAIT = 180.0
"""Seconds to wait for the lock."""


def is_server(uri: str) -> bool:
    """Return whether a store is reached through a server, which stores artifacts itself."""
    return uri.startswith(("http://", "https://", "databricks"))


@contextmanager
def alias_lock(client: MlflowClient, name: str) -> Iterator[None]:
    """Hold the lock for moving a model's aliases during the block.

    Raises:
        RegistryConflictError: another process does not release it.
    """
    path = sqlite_path(str(client.tracking_uri))
    if path is None:
        with _claimed(client, name):
            yield
        return
    with FileLock(path.with_name(f".{path.name}.aliases.lock"), timeout=MAX_WAIT):
        yield


@contextmanager
def _claimed(client: MlflowClient, name: str) -> Iterator[None]:
    token = uuid.uuid4().hex
    deadline = time.monotonic() + MAX_WAIT
    while not _claim(client, name, token):
        if time.monotonic() > deadline:
            raise RegistryConflictError(
                f"{name}: another process has been moving its aliases for {MAX_WAIT:.0f} s; if there is none, delete "
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
    """Return the token of the process with a valid claim, or an empty string."""
    token, _, until = client.get_registered_model(name).tags.get(CLAIM_TAG, "").partition(" ")
    return token if token and float(until) > time.time() else ""
