"""Tables of the ledger as plain rows, with decoded contents and without internal ids, for digest and export."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from svd_loop.ledger.reader import LedgerReader


@dataclass(frozen=True, slots=True)
class View:
    """One table or view, its columns in order, and the encoding of its columns.

    Attributes:
        name: name of the rows.
        source: table or view to select from.
        columns: the selected columns.
        order: columns that order the rows by their contents, never by time.
        texts: columns that hold content ids of texts.
        ids: columns that hold content ids of token ids.
    """

    name: str
    source: str
    columns: tuple[str, ...]
    order: str
    texts: tuple[str, ...] = ()
    ids: tuple[str, ...] = ()


_CANDIDATE = ("round", "prompt_id", "candidate")

VIEWS = (
    View("prompts", "prompts", ("id", "domain", "source", "text"), "id", texts=("text",)),
    View(
        "answers",
        "replies",
        (
            "key",
            "purpose",
            "round",
            "role",
            "prompt_id",
            "candidate",
            "stage",
            "vote",
            "attempt",
            "policy_round",
            "fingerprint",
            "template_version",
            "finish_reason",
            "prompt_tokens",
            "output_tokens",
            "text",
            "prompt_ids",
            "token_ids",
        ),
        "key",
        texts=("text",),
        ids=("prompt_ids", "token_ids"),
    ),
    View(
        "candidates",
        "candidates",
        (*_CANDIDATE, "finish_reason", "policy_round", "fingerprint", "selected", "text", "prompt_ids", "token_ids"),
        "round, prompt_id, candidate",
        texts=("text",),
        ids=("prompt_ids", "token_ids"),
    ),
    View(
        "verdicts",
        "verdicts",
        (*_CANDIDATE, "accepted", "rejection", "stage", "vote"),
        "round, prompt_id, candidate",
    ),
    View(
        "votes",
        "votes",
        (*_CANDIDATE, "place", "stage", "vote", "value", "text"),
        "round, prompt_id, candidate, place",
        texts=("text",),
    ),
    View(
        "accepted_rows",
        "accepted_rows",
        (
            "round",
            "place",
            "origin",
            "origin_round",
            "prompt_id",
            "candidate",
            "domain",
            "supervised_from",
            "input_ids",
        ),
        "round, place",
        ids=("input_ids",),
    ),
    View(
        "judge_rows",
        "judge_rows",
        (
            "round",
            "place",
            "stage",
            "value",
            "reason",
            "prompt_id",
            "candidate",
            "domain",
            "supervised_from",
            "input_ids",
        ),
        "round, place",
        ids=("input_ids",),
    ),
    View("updates", "updates", ("round", "policy_round", "fingerprint", "path", "rows", "steps", "metrics"), "round"),
    View(
        "evaluations", "evaluations", ("round", "place", "problem_id", "domain", "correct", "undecided"), "round, place"
    ),
    View("estimates", "estimates", ("round", "place", "domain", "metric", "value", "low", "high"), "round, place"),
    View(
        "rounds",
        "rounds",
        (
            "round",
            "policy_round",
            "fingerprint",
            "prompts",
            "accepted_prompts",
            "rows",
            "split",
            "samples",
            "metrics",
            "seconds",
            "funnel",
            "figures",
        ),
        "round",
    ),
    View("stops", "stops", ("after_round", "reason", "best_round", "test", "notes"), "after_round"),
)


def rows_of(reader: LedgerReader, view: View, *, ordered: bool = False) -> Iterator[dict[str, Any]]:
    """Yield the view's rows with texts as strings and token ids as tuples; `ordered` sorts them by `view.order`."""
    columns = ", ".join(view.columns)
    order = f" ORDER BY {view.order}" if ordered else ""
    for row in reader.query(f"SELECT {columns} FROM {view.source}{order}"):
        for column in view.texts:
            row[column] = reader.text(row[column])
        for column in view.ids:
            row[column] = reader.ids(row[column])
        yield row
