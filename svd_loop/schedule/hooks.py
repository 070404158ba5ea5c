"""Notify people and programs of how a job ended. A failing hook is only a warning: it does not change or delay a job.

If the process is killed between the call and its record, the next tick calls the hook again. A receiver may therefore
get the same event twice; `job` and `event` identify it.
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
"""Seconds before the second retry of a URL; each further pause is twice as long."""
_RETRY_STATUSES = (408, 429, 500, 502, 503, 504)


def call_hooks(hooks: Sequence[HookSection], event: HookEvent, message: Mapping[str, Any]) -> list[str]:
    """Call every hook configured for `event`; a failing hook does not prevent the next call.

    Returns:
        One sentence for each hook that failed.
    """
    payload = {"event": event, **message}
    failures = []
    for hook in hooks:
        if event not in hook.on:
            continue
        try:
            if hook.command is not None:
                _run_command(hook, payload)
            else:
                _post(hook, payload)
        except (OSError, subprocess.SubprocessError, urllib3.exceptions.HTTPError) as error:
            failures.append(f"{hook.url or ' '.join(hook.command or ())}: {error}")
            log.warning("schedule.hooks: %s", failures[-1])
    return failures


def _run_command(hook: HookSection, message: Mapping[str, Any]) -> None:
    subprocess.run(
        list(hook.command or ()),
        input=json.dumps(message),
        text=True,
        timeout=hook.seconds,
        check=True,
        stdout=subprocess.DEVNULL,
    )


def _post(hook: HookSection, message: Mapping[str, Any]) -> None:
    retries = Retry(total=hook.tries - 1, backoff_factor=_PAUSE, status_forcelist=_RETRY_STATUSES, allowed_methods=None)
    with urllib3.PoolManager() as pool:
        reply = pool.request("POST", str(hook.url), json=message, timeout=hook.seconds, retries=retries)
    if reply.status >= 300:
        raise urllib3.exceptions.HTTPError(f"answered {reply.status}")
