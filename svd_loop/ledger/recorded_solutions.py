"""Read solutions of a committed round again, with their prompts."""

from __future__ import annotations

from collections.abc import Sequence

from svd_loop.contracts import Candidate, FinishReason, Prompt
from svd_loop.errors import LedgerError
from svd_loop.ledger import LedgerReader


def recorded_solutions(
    ledger: LedgerReader, round: int, sources: Sequence[tuple[str, int]]
) -> list[tuple[Prompt, Candidate]]:
    """Return candidates of a committed round with their prompts, in the order of `sources` (prompt id and number).

    Raises:
        LedgerError: the round is not what was committed, or does not hold one of them.
    """
    ledger.verify(round)
    found: list[tuple[Prompt, Candidate]] = []
    for prompt_id, index in sources:
        row = next(ledger.query(_CANDIDATE, (round, prompt_id, index)), None)
        if row is None:
            raise LedgerError(f"{ledger.path}: round {round} holds no candidate {index} of prompt {prompt_id}")
        prompt = Prompt(prompt_id, ledger.text(row["question"]), row["domain"], row["source"])
        finish = FinishReason(row["finish_reason"])
        found.append((prompt, Candidate(prompt_id, index, ledger.text(row["text"]), finish)))
    return found


_CANDIDATE = """
SELECT candidates.text AS text, finish_reason, prompts.text AS question, domain, source
FROM candidates JOIN prompts ON prompts.id = candidates.prompt_id
WHERE candidates.round = ? AND prompt_id = ? AND candidate = ?
"""
