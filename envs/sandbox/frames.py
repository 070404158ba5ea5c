"""Messages over pipes: a four-byte length, then JSON."""

from __future__ import annotations

import json
import os
import select
import time
from typing import Any

_HEADER = 4
MAX_FRAME = 64 * 1024 * 1024
"""Largest message in bytes; a longer one is an error of the sender."""


class ChannelClosed(Exception):
    """The other side has closed the channel."""


class ChannelTimeout(Exception):
    """The other side did not answer in time."""


def write_frame(descriptor: int, message: dict[str, Any]) -> None:
    """Send one message.

    Raises:
        ChannelClosed: the other side no longer reads.
    """
    payload = json.dumps(message).encode()
    data = memoryview(len(payload).to_bytes(_HEADER, "big") + payload)
    try:
        while data:
            data = data[os.write(descriptor, data) :]
    except BrokenPipeError:
        raise ChannelClosed from None


def read_frame(descriptor: int, timeout: float | None = None) -> dict[str, Any]:
    """Receive one message.

    Args:
        descriptor: where to read.
        timeout: seconds until the whole message must have arrived; None waits for ever.

    Raises:
        ChannelClosed: the other side closed, or sent something that is not a message.
        ChannelTimeout: the message is late.
    """
    deadline = None if timeout is None else time.monotonic() + timeout
    size = int.from_bytes(_read_exactly(descriptor, _HEADER, deadline), "big")
    if size > MAX_FRAME:
        raise ChannelClosed(f"a message of {size} bytes was announced")
    try:
        message = json.loads(_read_exactly(descriptor, size, deadline))
    except (ValueError, RecursionError) as error:
        raise ChannelClosed(f"not a message: {error}") from None
    if not isinstance(message, dict):
        raise ChannelClosed("not a message: no object")
    return message


def _read_exactly(descriptor: int, size: int, deadline: float | None) -> bytes:
    parts = bytearray()
    while len(parts) < size:
        if deadline is not None and not _readable(descriptor, deadline - time.monotonic()):
            raise ChannelTimeout
        chunk = os.read(descriptor, min(size - len(parts), 1 << 20))
        if not chunk:
            raise ChannelClosed
        parts += chunk
    return bytes(parts)


def _readable(descriptor: int, seconds: float) -> bool:
    poller = select.poll()
    poller.register(descriptor, select.POLLIN)
    return bool(poller.poll(max(0.0, seconds) * 1000))
