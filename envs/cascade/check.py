"""Ask a judge for a vote in the configured way (`cascade.asking`); each way is a file beside this one.

A built-in stage says what it asks about (`Check`) and which texts it shows; a way turns that into calls:

    direct, think   instruction ──> findings and verdict in one reply
    two_turns       instruction ──> findings ──> "does it pass?" ──> one of the two markers
    solve_first     the question ──> own solution ──> the candidate, compare ──> findings ──> "does it pass?" ──> marker
                    (once per vote and prompt)

`think` differs from `direct` by its sampling parameters alone (`svd_loop.config.sections`).
"""

from __future__ import annotations

from dataclasses import dataclass

from envs.cascade import direct, solve_first, two_turns
from envs.cascade.stage import CallBuilder, Opinion
from svd_loop.contracts import Asking, RoleName


@dataclass(frozen=True, slots=True)
class Check:
    """What a stage asks about: the role, and with it the template, of each way of asking.

    Attributes:
        judge: gives findings and verdict in one reply.
        reviewer: gives findings alone.
        comparer: gives findings after an own solution; None where an own solution does not help.
    """

    judge: RoleName
    reviewer: RoleName
    comparer: RoleName | None = None

    def ask(self, calls: CallBuilder, **fields: str) -> Opinion:
        """One attempt at a vote.

        Args:
            calls: builds the calls; has the way of asking.
            **fields: the texts in the prompts of judge and reviewer; the comparer already has the question and gets the
                others.
        """
        if calls.asking in (Asking.DIRECT, Asking.THINK):
            return direct.ask(calls, self.judge, **fields)
        if calls.asking is Asking.SOLVE_FIRST and self.comparer is not None:
            shown = {name: text for name, text in fields.items() if name != "question"}
            return solve_first.ask(calls, self.comparer, **shown)
        return two_turns.ask(calls, self.reviewer, **fields)
