"""Conditions on the played prompts of a round, and their SQL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from svd_loop.contracts import Rejection
from svd_loop.errors import ConfigError
from svd_loop.support.listing import listing

OUTCOMES = ("accepted", "refused", "mixed", "trained")
"""Outcomes of a prompt: a candidate was accepted; none was; both accepted and refused ones; one became a row."""

SPLIT = "split"
"""Vote pattern: votes of one stage on one candidate differ."""

_LETTERS = frozenset("yniYNI*?")


@dataclass(frozen=True, slots=True)
class PromptFilter:
    """Conditions on a prompt of a round; empty ones hold always. Those of a candidate must hold for one candidate.

    Attributes:
        domain: of the prompt.
        outcome: one of `OUTCOMES`.
        rejection: why a candidate was rejected, one of `Rejection`.
        stage: the stage that rejected a candidate.
        votes: a candidate's votes in the order cast, such as `yyn` (yes, yes, no; `i` is invalid), where `?` is any
            vote and `*` any number of them; or `split`.
        text: words that occur in the prompt, a candidate or a vote, whatever their case.

    Raises:
        ConfigError: a value is none of the known ones, which are listed.
    """

    domain: str = ""
    outcome: str = ""
    rejection: str = ""
    stage: str = ""
    votes: str = ""
    text: str = ""

    def __post_init__(self) -> None:
        _one_of("outcome", self.outcome, OUTCOMES)
        _one_of("rejection", self.rejection, tuple(Rejection))
        if self.votes and self.votes != SPLIT and not _LETTERS.issuperset(self.votes):
            raise ConfigError(f"votes {self.votes!r}: is {SPLIT}, or letters y, n, i with ? and *, such as yyn or *n*")

    @property
    def is_empty(self) -> bool:
        """Whether every prompt matches."""
        return self == PromptFilter()


ROUND = object()
"""Stands for the round among the parameters of `conditions`."""

_VERDICTS = "FROM verdicts AS v WHERE v.round = ? AND v.prompt_id = p.prompt_id"
_SELECTED = "FROM candidates AS c WHERE c.round = ? AND c.prompt_id = p.prompt_id AND c.selected"
_OUTCOME: Mapping[str, str] = {
    "accepted": f"(SELECT max(v.accepted) {_VERDICTS})",
    "refused": f"NOT (SELECT max(v.accepted) {_VERDICTS})",
    "mixed": f"(SELECT count(DISTINCT v.accepted) = 2 {_VERDICTS})",
    "trained": f"EXISTS (SELECT 1 {_SELECTED})",
}
PATTERN = """(SELECT group_concat(substr(value, 1, 1), '') FROM (SELECT value FROM votes AS w
    WHERE w.round = v.round AND w.prompt_id = v.prompt_id AND w.candidate = v.candidate ORDER BY place))"""
_SPLIT_VOTES = """EXISTS (SELECT 1 FROM votes AS w
    WHERE w.round = v.round AND w.prompt_id = v.prompt_id AND w.candidate = v.candidate
    GROUP BY w.stage HAVING count(DISTINCT w.value) > 1)"""


def conditions(wanted: PromptFilter) -> tuple[list[str], list[Any]]:
    """SQL conditions on `p.prompt_id` with their parameters; `ROUND` stands for the round. `text` has none."""
    clauses: list[str] = []
    values: list[Any] = []
    if wanted.domain:
        clauses.append("(SELECT domain FROM prompts WHERE id = p.prompt_id) = ?")
        values.append(wanted.domain)
    if wanted.outcome:
        clauses.append(_OUTCOME[wanted.outcome])
        values.append(ROUND)
    own: list[tuple[str, list[Any]]] = []  # of one and the same candidate
    if wanted.rejection:
        own.append(("v.rejection = ?", [wanted.rejection]))
    if wanted.stage:
        own.append(("v.stage = ?", [wanted.stage]))
    if wanted.votes == SPLIT:
        own.append((_SPLIT_VOTES, []))
    elif wanted.votes:
        own.append((f"coalesce({PATTERN}, '') GLOB ?", [wanted.votes.lower()]))
    if own:
        clauses.append(f"EXISTS (SELECT 1 {_VERDICTS} AND {' AND '.join(clause for clause, _ in own)})")
        values += [ROUND, *(value for _, given in own for value in given)]
    return clauses, values


def _one_of(name: str, value: str, known: Sequence[str]) -> None:
    if value and value not in known:
        raise ConfigError(f"{name} {value!r}: is one of {listing(value, known)}")
