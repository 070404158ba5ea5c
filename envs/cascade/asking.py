"""Call a policy and check that each reply belongs to its call.

This is the only place where replies are matched with calls: a missing or swapped reply would otherwise put a verdict on
the wrong candidate without an error.
"""

from __future__ import annotations

from collections.abc import Sequence

from svd_loop.contracts import AgentCall, Policy, Reply
from svd_loop.errors import EngineError


def ask(policy: Policy, calls: Sequence[AgentCall]) -> list[Reply]:
    """Return one reply per call, in the order of the calls.

    Raises:
        EngineError: The policy gave fewer or more replies than calls, or a reply to another call.
    """
    if not calls:
        return []
    replies = policy.generate(calls)
    name = policy.version.name
    if len(replies) != len(calls):
        raise EngineError(f"the policy {name} was asked {len(calls)} calls and gave {len(replies)} replies")
    for call, reply in zip(calls, replies, strict=True):
        if reply.call != call.id:
            raise EngineError(f"the policy {name} was asked {call.id} and replied to {reply.call}")
    return replies
