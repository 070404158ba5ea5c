"""The environment's defaults: three sums as prompts, and a rule that judges sums.

`gymnasium.make("SelfVerification-v0")` has to work by itself, for new users and for environment checkers. The judge is
not a model: it looks for a sum `a + b` in its prompt and for its result. It rejects everything that it cannot check, so
that forgetting to pass a real judge accepts nothing.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

from svd_loop.contracts import AgentCall, Domain, FinishReason, PolicyVersion, Prompt, Reply, Role

DEMO_PROMPTS = tuple(
    Prompt(id=f"demo-{a}-{b}", text=f"What is {a} + {b}? Show the sum.", domain=Domain.MATH, source="demo")
    for a, b in ((17, 25), (31, 48), (206, 77))
)

_SUM = re.compile(r"\b(\d{1,6}) \+ (\d{1,6})\b")


class DemoJudge:
    """A deterministic judge of sums: yes if the correct result of the first sum occurs as a number."""

    @property
    def version(self) -> PolicyVersion:
        """Round 0, with the fingerprint of an empty policy."""
        return PolicyVersion(0, hashlib.sha256(b"demo judge").hexdigest())

    def key(self, call: AgentCall) -> str:
        """SHA-256 over the version and the whole call."""
        return hashlib.sha256(repr((self.version, call)).encode("utf-8", "surrogatepass")).hexdigest()

    def generate(self, calls: Sequence[AgentCall]) -> list[Reply]:
        """Answer every call by the rule above."""
        return [Reply(call.id, _answer(call), FinishReason.STOP, self.version) for call in calls]

    def close(self) -> None:
        """Do nothing; no resources are held."""


def _answer(call: AgentCall) -> str:
    shown = call.messages[-1].content
    sums = _SUM.findall(shown)
    if call.id.role == Role.QUESTION_INFERRER:
        return f"What is {sums[0][0]} + {sums[0][1]}?" if sums else "There is no question this answers."
    if call.id.role == Role.QUESTION_COMPARER:
        return _verdict(len(sums) == 2 and sums[0] == sums[1])
    return _verdict(bool(sums) and re.search(rf"\b{int(sums[0][0]) + int(sums[0][1])}\b", shown) is not None)


def _verdict(is_yes: bool) -> str:
    return "[[Y]]" if is_yes else "[[N]]"
