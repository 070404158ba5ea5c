"""The canaries of a round: what was planted, and how the judge voted on it.

The ledger has the judge's replies and not the planted texts. Planting is a seeded function of the round's accepted
solutions (`envs.canaries.plant`), so it is done again, and counts only if it gives the prompts that the replies belong
to. Those of a withdrawn round are no rows: they are the accepted candidates, in the order in which the pool of prompts
gives a round. If neither gives the replies' prompts, the replies are shown without kind and text.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, overload

from envs.canaries import Canary, plant
from envs.cascade.votes import read_verdict
from envs.prompts import PromptPool
from svd_loop.config.stages import roles_before_the_verdict
from svd_loop.contracts import Candidate, FinishReason, JobPaths, Prompt, Selection, VoteValue
from svd_loop.errors import SvdError
from svd_loop.ledger import LedgerReader
from svd_loop.ledger.browse import Call, calls_of

PURPOSE = "canary"


@dataclass(frozen=True, slots=True)
class JudgedCall:
    """A judge's reply, and the verdict it says; None if it was not asked for one."""

    call: Call
    value: VoteValue | None


@dataclass(frozen=True, slots=True)
class PlantedCanary:
    """One canary: its kind and text where they are known, and every call about it.

    Attributes:
        number: its number among the round's canaries.
        prompt_id: the prompt it pretends to solve; `prompt` is its text.
        kind: what is wrong with it; empty if unknown.
        text: what the judge was shown; empty if unknown.
        calls: the judge's replies.
    """

    number: int
    prompt_id: str
    prompt: str
    kind: str
    text: str
    calls: Sequence[JudgedCall]

    @property
    def caught(self) -> bool:
        """Whether a stage refused it."""
        return any(one.value is not None and one.value is not VoteValue.YES for one in self.calls)


def judged_calls(calls: Iterable[Call]) -> list[JudgedCall]:
    """Return the judge's replies among `calls`, each with its verdict if it is one.

    A reply of a role that prepares a vote, such as an inferred question, has no verdict.
    """
    return [JudgedCall(call, _value(call)) for call in calls if call.role != "solver"]


def canaries_of(reader: LedgerReader, round: int, config: Mapping[str, Any]) -> list[PlantedCanary]:
    """Return the canaries of a committed round, in the order planted; the verifier test's of round 0 have no text."""
    accepted = _Accepted(reader, round, _rows(reader, round) or _withdrawn(reader, round, config))
    per_kind = config["health"]["canaries"]
    planted = plant(accepted, per_kind=per_kind, seed=config["job"]["seed"], round=round) if accepted else []
    calls = {number: found for number, canary in enumerate(planted) if (found := _calls(reader, canary, round))}
    asked = [canary for number, canary in enumerate(planted) if number in calls]
    if asked and len(asked) >= len(planted) / 2:
        return [
            PlantedCanary(
                canary.candidate.index,
                canary.prompt.id,
                canary.prompt.text,
                canary.kind.value,
                canary.candidate.text,
                judged_calls(calls[canary.candidate.index]),
            )
            for canary in asked
        ]
    return _unknown(reader, round)


def _calls(reader: LedgerReader, canary: Canary, round: int) -> list[Call]:
    found = calls_of(reader, canary.prompt.id, round, PURPOSE)
    return [call for call in found if call.candidate == canary.candidate.index]


def _unknown(reader: LedgerReader, round: int) -> list[PlantedCanary]:
    """The canaries as far as the replies alone tell; every reply is looked at once."""
    query = "SELECT DISTINCT prompt_id FROM answers WHERE purpose = ? AND round = ?"
    ids = [row["prompt_id"] for row in reader.query(query, [PURPOSE, round])]
    found: dict[tuple[int, str], list[Call]] = {}
    for id in ids:
        for call in calls_of(reader, id, round, PURPOSE):
            found.setdefault((call.candidate, id), []).append(call)
    return [PlantedCanary(number, id, "", "", "", judged_calls(found[number, id])) for number, id in sorted(found)]


def _value(call: Call) -> VoteValue | None:
    if call.role in roles_before_the_verdict():
        return None
    return read_verdict(call.words, FinishReason(call.finish_reason))


def _rows(reader: LedgerReader, round: int) -> list[tuple[str, int]]:
    query = "SELECT prompt_id, candidate FROM accepted_rows WHERE round = ? AND origin_round = ? ORDER BY place"
    return [(row["prompt_id"], row["candidate"]) for row in reader.query(query, [round, round])]


def _withdrawn(reader: LedgerReader, round: int, config: Mapping[str, Any]) -> list[tuple[str, int]]:
    """The accepted candidates of a round, those that would be its rows, in the order of the round's prompts."""
    found: dict[str, list[int]] = {}
    query = "SELECT prompt_id, candidate FROM verdicts WHERE round = ? AND accepted ORDER BY prompt_id, candidate"
    for row in reader.query(query, [round]):
        found.setdefault(row["prompt_id"], []).append(row["candidate"])
    try:
        with closing(PromptPool(JobPaths(reader.folder).prompts)) as pool:
            prompts = pool.for_round(round, config["data"]["prompts_per_round"], config["job"]["seed"])
    except SvdError:  # the pool is gone, or an older program wrote it
        return []
    last = 1 if config["cascade"]["selection"] == Selection.FIRST_VALID else None
    return [(prompt.id, candidate) for prompt in prompts for candidate in found.get(prompt.id, [])[:last]]


class _Accepted(Sequence[tuple[Prompt, Candidate]]):
    """The accepted solutions of a round with their prompts, each read when it is drawn."""

    def __init__(self, reader: LedgerReader, round: int, names: Sequence[tuple[str, int]]) -> None:
        self._reader, self._round, self._rows = reader, round, names

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, place: int) -> tuple[Prompt, Candidate]: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[tuple[Prompt, Candidate]]: ...
    def __getitem__(self, place: int | slice) -> Any:
        if isinstance(place, slice):
            return [self[number] for number in range(*place.indices(len(self)))]
        id, candidate = self._rows[place]
        query = """SELECT p.domain, content_text(p.text) AS question, content_text(c.text) AS solution
                   FROM candidates AS c JOIN prompts AS p ON p.id = c.prompt_id
                   WHERE c.round = ? AND c.prompt_id = ? AND c.candidate = ?"""
        row = next(self._reader.query(query, [self._round, id, candidate]))
        return Prompt(id, row["question"], row["domain"]), Candidate(id, candidate, row["solution"])
