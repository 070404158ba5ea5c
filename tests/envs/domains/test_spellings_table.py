"""1,383 ways to write an answer or to miss it, by kinds of faults (C2 to C5, D1 to D4), with what a person would say.

A second table (`notations.jsonl`) has pairs of notations, a third one (`attacks.jsonl`) answers that try to pass for
another one. All are suites of `benchmarks.scorers`, too. The test takes a few seconds of processor time, most of it in
`math-verify`.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from envs.domains import domain_of
from svd_loop.contracts import Domain, DomainName, Outcome, Problem

DATA = Path(__file__).parents[3] / "benchmarks" / "data"


def rows_of(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (DATA / name).read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("domain", [Domain.MATH, Domain.SCIENCE])
def test_answers_are_scored_as_a_person_would_except_the_known_ones(domain: DomainName) -> None:
    everything = [row for name in ("spellings", "notations", "attacks") for row in rows_of(f"{name}.jsonl")]
    rows = [row for row in everything if row.get("domain", Domain.MATH) == domain]
    pairs = [(row["answer"], Problem("p", row.get("question", "?"), domain, row["gold"])) for row in rows]
    outcomes = domain_of(domain).score_all(pairs, seconds=5.0)
    others = [
        (row["note"], row["gold"], row["answer"])
        for row, outcome in zip(rows, outcomes, strict=True)
        if outcome is not Outcome.of(row["expected"])
    ]
    assert others == [(row["note"], row["gold"], row["answer"]) for row in rows if "known" in row]


def test_every_kind_has_sixty_rows() -> None:
    kinds = Counter(row["note"] for row in rows_of("spellings.jsonl"))
    assert sorted(kinds) == ["C2", "C3", "C4", "C5", "D1", "D2", "D3", "D4"]
    assert min(kinds.values()) >= 60
