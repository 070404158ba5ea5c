"""The judge solves the question itself, without sight of any candidate, and then compares the candidate with that.

The solution belongs to the vote and the prompt, not to a candidate (`CallId.candidate` is `NO_CANDIDATE`): all
candidates of the prompt are compared with the same one, it is asked once, and the conversations about them share it as
their prefix. A solution that is cut off or empty is asked again when the vote is.
"""

from __future__ import annotations

from envs.cascade.stage import CallBuilder, Opinion
from envs.cascade.two_turns import continued, decide, is_usable
from svd_loop.contracts import Role, RoleName, VoteValue


def ask(calls: CallBuilder, role: RoleName, **fields: str) -> Opinion:
    """A vote by comparison, in a role, with an own solution; `fields` are the texts of the role's template."""
    for attempt in range(calls.attempt + 1):
        call = calls.shared_call(Role.REFERENCE_SOLVER, Role.SOLVER, attempt, question=calls.question)
        solved = yield call
        if is_usable(solved):
            break
    else:
        return VoteValue.INVALID, solved.text
    compared = calls.next_turn(continued(calls, call, solved), role, fields)
    value, text = yield from decide(calls, compared)
    return value, f"{solved.text}\n\n{text}"
