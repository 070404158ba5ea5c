"""Telling people and programs how a job ended. A hook that fails is a warning: it can neither undo nor hold up a job.

A kill between the call and its record brings the call again at the next tick, so whoever is told may be told twice;
`job` and `event` name what it is about.
"""

from __future__ import annotations

import json
import logging
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any

import urllib3
from urllib3.util import Retry

from svd_loop.config.schedule import HookEvent, HookSection

log = logging.getLogger(__name__)
_PAUSE = 0.5
"""Seconds before the second retry of an address; each further pause is twice as long."""
_WORTH_A_RETRY = (408, 429, 500, 502, 503, 504)


def call_hooks(hooks: Sequence[HookSection], event: HookEvent, message: Mapping[str, Any]) -> list[str]:
    """Tell every hook that asked for `event`, each whether or not the others could be told.

    Returns:
        What went wrong, one sentence a hook.
    """
    told = {"event": event, **message}
    failures = []
    for hook in hooks:
        if event not in hook.on:
            continue
        try:
            if hook.command is not None:
                _start(hook, told)
            else:
                _post(hook, told)
        except (OSError, subprocess.SubprocessError, urllib3.exceptions.HTTPError) as error:
            failures.append(f"{hook.url or ' '.join(hook.command or ())}: {error}")
            log.warning("schedule.hooks: %s", failures[-1])
    return failures


def _start(hook: HookSection, message: Mapping[str, Any]) -> None:
    subprocess.run(
        list(hook.command or ()),
        input=json.dumps(message),
        text=True,
        timeout=hook.seconds,
        check=True,
        stdout=subprocess.DEVNULL,
    )


def _post(hook: HookSection, message: Mapping[str, Any]) -> None:
    retries = Retry(total=hook.tries - 1, backoff_factor=_PAUSE, status_forcelist=_WORTH_A_RETRY, allowed_methods=None)
    with urllib3.PoolManager() as pool:
        reply = pool.request("POST", str(hook.url), json=message, timeout=hook.seconds, retries=retries)
    if reply.status >= 300:
        raise urllib3.exceptions.HTTPError(f"answered {reply.status}")
