"""A few candidates of a round with everything said of them, the same ones whenever they are asked for."""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from svd_loop.contracts import Rejection
from svd_loop.ledger.browse import ShownCandidate, candidates_of, prompt_of
from svd_loop.ledger.reader import LedgerReader


@dataclass(frozen=True, slots=True)
class SampledCandidate:
    """A candidate with its votes and calls, and the prompt it answers (`id`, `domain`, `source`, `text`)."""

    prompt: Mapping[str, Any]
    candidate: ShownCandidate


def sampled_candidates(reader: LedgerReader, round: int, limit: int) -> list[SampledCandidate]:
    """Return up to `limit` judged candidates of a committed round, accepted and refused ones in equal numbers.

    If there are too few of one kind, the other fills up. The choice depends on the ids alone.
    """
    query = "SELECT prompt_id, candidate, accepted FROM verdicts WHERE round = ? AND (accepted OR rejection = ?)"
    judged = list(reader.query(query, [round, Rejection.VOTE.value]))
    accepted, refused = (
        _first(limit, (row for row in judged if bool(row["accepted"]) is kind), round) for kind in (True, False)
    )
    accepted = accepted[: max((limit + 1) // 2, limit - len(refused))]
    chosen = [*accepted, *refused[: limit - len(accepted)]]
    found = []
    for row in chosen:
        prompt = prompt_of(reader, row["prompt_id"])
        shown = candidates_of(reader, round, row["prompt_id"])
        candidate = next(one for one in shown if one.mark.candidate == row["candidate"])
        if prompt is not None:
            found.append(SampledCandidate(prompt, candidate))
    return found


def _first(limit: int, rows: Iterable[dict[str, Any]], round: int) -> list[dict[str, Any]]:
    def rank(row: Mapping[str, Any]) -> bytes:
        return hashlib.sha256(f"{round}\x1f{row['prompt_id']}\x1f{row['candidate']}".encode()).digest()

    return heapq.nsmallest(limit, rows, key=rank)
