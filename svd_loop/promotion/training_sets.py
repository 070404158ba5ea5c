"""Export a job's judged candidates as a data set in one of TRL's conversational formats.

Only what the job learned from becomes a label:

- *accepted* is a candidate that became an accepted row. Rows that hold a held-out problem, rows that cannot be trained
  on, and all rows of a round whose judge was not trusted were left out by the job, so they are left out here;
- *refused* is a candidate of such a round that a vote of "no" refused. A vote without a verdict, a truncated or an
  empty candidate says nothing about right and wrong, so these are counted and left out.

Canaries and held-out answers are stored apart from candidates and are never read. Every text is compared with the job's
held-out problems once more, because the job compares accepted candidates only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import chain, groupby, islice
from pathlib import Path
from typing import Any

from envs.cascade.template_sets import TemplateSet
from envs.prompts import LeakIndex
from svd_loop.assembly.data import held_out
from svd_loop.assembly.job import template_set
from svd_loop.config import Config, parse_config
from svd_loop.contracts import Rejection, Role, RootPaths, VoteValue
from svd_loop.errors import ConfigError, DataError
from svd_loop.ledger import LedgerReader
from svd_loop.promotion.data_card import data_card
from svd_loop.support.part_folder import part_folder
from svd_loop.support.row_files import write_rows

Row = dict[str, Any]

_AT_ONCE = 1000
"""Prompts whose candidates are in memory together."""

_CANDIDATES = """
SELECT c.round AS round, c.prompt_id AS prompt_id, c.candidate AS candidate, p.domain AS domain,
       content_text(p.text) AS question, content_text(c.text) AS solution, c.policy_round AS policy_round,
       c.fingerprint AS fingerprint, rows.candidate IS NOT NULL AS learned, v.accepted AS accepted,
       v.rejection AS rejection, v.stage AS stage,
       sum(votes.value = 'yes') AS yes, sum(votes.value = 'no') AS no, sum(votes.value = 'invalid') AS invalid,
       max(CASE WHEN votes.stage = v.stage AND votes.vote = v.vote THEN votes.value END) AS deciding
FROM candidates AS c
JOIN verdicts AS v ON v.round = c.round AND v.prompt_id = c.prompt_id AND v.candidate = c.candidate
JOIN prompts AS p ON p.id = c.prompt_id
LEFT JOIN accepted_rows AS rows
       ON rows.round = c.round AND rows.prompt_id = c.prompt_id AND rows.candidate = c.candidate
LEFT JOIN votes ON votes.round = c.round AND votes.prompt_id = c.prompt_id AND votes.candidate = c.candidate
WHERE c.round IN (SELECT round FROM accepted_rows)
GROUP BY c.round, c.prompt_id, c.candidate ORDER BY c.round, c.prompt_id, c.candidate
"""
_TEMPLATES = """
SELECT p.domain AS domain, group_concat(DISTINCT replies.template_version) AS versions
FROM replies JOIN prompts AS p ON p.id = replies.prompt_id
WHERE replies.purpose = 'train' AND replies.role = ? GROUP BY p.domain
"""


class SetKind(StrEnum):
    """A format of training data."""

    SFT = "sft"
    PREFERENCES = "preferences"
    KTO = "kto"


@dataclass(slots=True)
class ExportedSet:
    """What was written.

    Attributes:
        kind: the format.
        path: its folder.
        rows: number of rows.
        prompts: number of prompts that have a row.
        left_out: number of candidates that are in no row, by reason.
    """

    kind: SetKind
    path: Path
    rows: int = 0
    prompts: set[str] = field(default_factory=set)
    left_out: Counter[str] = field(default_factory=Counter)

    def as_dict(self) -> dict[str, Any]:
        """The export as plain data."""
        return {
            "as": str(self.kind),
            "path": str(self.path.resolve()),
            "rows": self.rows,
            "prompts": len(self.prompts),
            "left_out": dict(sorted(self.left_out.items())),
        }


def export_set(job: str, root: Path, kind: SetKind, target: Path, *, suffix: str = "jsonl") -> ExportedSet:
    """Write a job's judged candidates as a folder that `datasets.load_dataset` reads, complete or not at all.

    Args:
        job: job name.
        root: `job.root`.
        kind: the format.
        target: a new folder.
        suffix: `jsonl` or `parquet`.

    Raises:
        ConfigError: `target` exists and is not empty.
        DataError: the job has no row of this kind, its acceptor was a control of an experiment, or its solver's
            template has changed since.
        LedgerError: there is no such job, or it is damaged.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ConfigError(f"--to {target}: exists already; name a new folder, nothing is overwritten")
    with LedgerReader.open_for_reading(RootPaths(root).job(job).folder) as reader:
        if (control := reader.control()) is not None:
            raise DataError(
                f"{job}: was accepted by the control {control}, not by a judge; its labels are not exported"
            )
        reader.verify()
        config = parse_config(reader.config())
        templates = template_set(config)
        _refuse_changed_templates(reader, job, templates)
        written = ExportedSet(kind, target)
        candidates = _checked(reader, config, written.left_out)
        rows = chain.from_iterable(_rows_of(job, kind, templates, group, written) for group in candidates)
        try:
            with part_folder(target) as part:
                written.rows = write_rows(part / f"train.{suffix}", rows)
                if not written.rows:
                    raise DataError(f"{job}: has nothing to export as {kind}: {_why_empty(written)}")
                card = data_card(written.as_dict(), reader.state(), config, f"train.{suffix}")
                (part / "README.md").write_text(card, encoding="utf-8")
                part.rename(target)  # also over an empty folder
        except OSError as error:
            raise ConfigError(f"--to {target}: cannot be written: {error.strerror or error}") from error
    return written


def _refuse_changed_templates(reader: LedgerReader, job: str, templates: TemplateSet) -> None:
    """Raise an error if a prompt would be shown in other words than those that the policy answered."""
    for row in reader.query(_TEMPLATES, [Role.SOLVER]):
        now = templates.version(Role.SOLVER, row["domain"])
        if row["versions"] != now:
            raise DataError(
                f"{job}: its solver answered the template {row['versions']} (domain {row['domain']}), which is now "
                f"{now}; put the old file of model.templates back"
            )


def _checked(reader: LedgerReader, config: Config, left_out: Counter[str]) -> Iterator[list[dict[str, Any]]]:
    """The candidates that have a label, by round and prompt; the others are counted."""
    problems = [problem for split in held_out(config).values() for problem in split]
    index = LeakIndex(problems, config.data.leak)
    groups = (list(group) for _, group in groupby(reader.query(_CANDIDATES), _prompt_of))
    while batch := list(islice(groups, _AT_ONCE)):
        rows = [row for group in batch for row in group]
        held = index.find_each([row["solution"] for row in rows], [row["prompt_id"] for row in rows])
        for row, leaks in zip(rows, held, strict=True):
            row["why_not"] = "held_out" if leaks else _why_not(row)
        left_out.update(row["why_not"] for row in rows if row["why_not"])
        for group in batch:
            if labelled := [row for row in group if not row["why_not"]]:
                yield labelled


def _prompt_of(row: Mapping[str, Any]) -> tuple[int, str]:
    return row["round"], row["prompt_id"]


def _why_not(row: Mapping[str, Any]) -> str:
    """The reason why a candidate has no label; empty if it has one."""
    if row["learned"]:
        return ""
    if row["accepted"]:
        return "accepted_but_not_trained_on"
    if row["rejection"] != Rejection.VOTE:
        return str(row["rejection"])
    return "" if row["deciding"] == VoteValue.NO else "undecided"


def _rows_of(
    job: str, kind: SetKind, templates: TemplateSet, group: Sequence[Mapping[str, Any]], written: ExportedSet
) -> Iterator[Row]:
    """The rows of one prompt in one round."""
    first = group[0]
    rendered = templates.render(Role.SOLVER, first["domain"], question=first["question"])
    prompt = [{"role": turn.role, "content": turn.content} for turn in rendered]
    shared = {
        "job": job,
        "round": first["round"],
        "prompt_id": first["prompt_id"],
        "domain": first["domain"],
        "version": "" if first["policy_round"] is None else f"round-{first['policy_round']:03d}",
        "fingerprint": first["fingerprint"] or "",
    }
    accepted = [row for row in group if row["learned"]]
    refused = [row for row in group if not row["learned"]]
    made: list[Row] = []
    match kind:
        case SetKind.SFT:
            made = [{"messages": [*prompt, *_answer(row)], **shared, **_lineage(row)} for row in accepted]
            written.left_out["refused"] += len(refused)
        case SetKind.KTO:
            made = [
                {"prompt": prompt, "completion": _answer(row), "label": bool(row["learned"]), **shared, **_lineage(row)}
                for row in group
            ]
        case SetKind.PREFERENCES if accepted and refused:
            pairs = max(len(accepted), len(refused))  # every candidate is in a pair, and none in more than needed
            for place in range(pairs):
                chosen, rejected = accepted[place % len(accepted)], refused[place % len(refused)]
                made.append(
                    {
                        "prompt": prompt,
                        "chosen": _answer(chosen),
                        "rejected": _answer(rejected),
                        **shared,
                        **_lineage(chosen, "chosen_"),
                        **_lineage(rejected, "rejected_"),
                    }
                )
        case _:
            written.left_out["without_a_counterpart"] += len(group)
    if made:
        written.prompts.add(first["prompt_id"])
    yield from made


def _answer(row: Mapping[str, Any]) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": row["solution"]}]


def _lineage(row: Mapping[str, Any], prefix: str = "") -> Row:
    """Number, deciding stage (empty: every stage said yes) and votes of a candidate."""
    return {
        f"{prefix}candidate": row["candidate"],
        f"{prefix}stage": "" if row["learned"] else row["stage"],
        **{f"{prefix}votes_{value}": row[value] or 0 for value in ("yes", "no", "invalid")},
    }


def _why_empty(written: ExportedSet) -> str:
    reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(written.left_out.items()) if count)
    return f"candidates left out: {reasons}" if reasons else "no round has trained on an accepted candidate yet"
