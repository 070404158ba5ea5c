"""One call whose reply holds the findings and, on its last line, the verdict."""

from __future__ import annotations

from envs.cascade.stage import CallBuilder, Opinion
from envs.cascade.votes import read_verdict
from svd_loop.contracts import RoleName


def ask(calls: CallBuilder, role: RoleName, **fields: str) -> Opinion:
    """A vote by one call in a role; `fields` are the texts of its template."""
    reply = yield calls.call(role, **fields)
    return read_verdict(reply.text, reply.finish_reason), reply.text
