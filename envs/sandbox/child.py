"""A helper process that answers messages and can be killed if it does not."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from typing import Any

from envs.sandbox.frames import ChannelClosed, ChannelTimeout, read_frame, write_frame

__all__ = ["ChannelClosed", "ChannelTimeout", "Child"]


class Child:
    """A process that speaks `frames` on standard input and output; ends when this object is closed or deleted."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
        """Start `command`; None as environment inherits this process's."""
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            env=environment,
            start_new_session=True,
        )
        assert self._process.stdin is not None and self._process.stdout is not None
        self._stdin, self._stdout = self._process.stdin, self._process.stdout

    def tell(self, message: dict[str, Any]) -> None:
        """Send one message that has no answer of its own.

        Raises:
            ChannelClosed: the child died.
        """
        write_frame(self._stdin.fileno(), message)

    def ask(self, message: dict[str, Any], timeout: float) -> dict[str, Any]:
        """Send one message and wait for its answer.

        Raises:
            ChannelTimeout: no answer within `timeout` seconds; the child must be replaced.
            ChannelClosed: the child died.
        """
        write_frame(self._stdin.fileno(), message)
        return read_frame(self._stdout.fileno(), timeout)

    def close(self) -> None:
        """Kill the process and wait for its end; may be called twice."""
        self._process.kill()
        self._process.wait()
        self._stdin.close()
        self._stdout.close()
