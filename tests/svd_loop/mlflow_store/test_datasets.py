from __future__ import annotations

from dataclasses import replace

from envs.problems.arithmetic import generate
from svd_loop.mlflow_store.datasets import summarise


def test_a_summary_counts_and_never_depends_on_gold_or_order() -> None:
    problems = generate("development", 5, seed=0)
    summary = summarise("development", "arithmetic", problems)
    assert (summary.rows, summary.rows_by_domain) == (15, {"coding": 5, "math": 5, "science": 5})
    assert summarise("development", "arithmetic", [replace(p, answer="?", tests=()) for p in problems[::-1]]) == summary
    assert summarise("development", "arithmetic", [p.as_prompt() for p in problems]) == summary


def test_another_question_is_another_digest() -> None:
    problems = generate("development", 5, seed=0)
    assert summarise("train", "x", problems).digest != summarise("train", "x", problems[1:]).digest
