"""Models and domains of one's own, from Python."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import svd_loop
from envs.domains import add_domain
from svd_loop import SelfVerification, judge_answers
from svd_loop.errors import ConfigError, EngineError
from svd_loop.jobs import evaluate_solutions
from tests.svd_loop.jobs_support import small

GRADING = {"stages": ["factuality", "correctness"], "votes": 2}


def judge_of_five(text: str) -> str:
    return "[[Y]]" if "answer is 5" in text else "[[N]]"


def test_answers_are_judged_in_their_order_with_all_votes() -> None:
    answers = [("What is 2 + 3?", "The answer is 5."), ("What is 2 + 3?", "The answer is 6."), ("1 + 4?", "")]
    right, wrong, empty = judge_answers(judge_of_five, answers, cascade=GRADING)
    assert right.accepted and len(right.votes) == 4
    assert not wrong.accepted and (wrong.candidate, wrong.stage, len(wrong.votes)) == (1, "factuality", 1)
    assert empty.rejection == "empty"


def test_a_model_may_take_messages_and_questions_may_be_conversations() -> None:
    seen: list[Any] = []

    def model(messages: list[dict[str, str]]) -> str:
        seen.append(messages)
        return "[[Y]]"

    question = [{"role": "system", "content": "Be exact."}, {"role": "user", "content": "What is 2 + 3?"}]
    (verdict,) = judge_answers(model, [(question, "5")], takes="messages", cascade={**GRADING, "votes": 1})
    assert verdict.accepted and seen[0][0]["role"] == "user"
    assert "System: Be exact.\n\nUser: What is 2 + 3?" in seen[0][0]["content"]


def test_a_model_that_returns_no_text_is_an_error_that_names_the_call() -> None:
    model: Callable[[str], Any] = lambda text: None  # noqa: E731
    with pytest.raises(EngineError, match="must return a text, found NoneType"):
        judge_answers(model, [("What is 2 + 3?", "5")])


def test_a_round_ends_where_an_answer_is_accepted_or_n_are_refused() -> None:
    tries: list[str] = []

    def model(text: str) -> str:
        if "step by step" not in text:  # the judge's instructions
            return judge_of_five(text)
        tries.append(text)
        return "The answer is 5." if "2 + 3" in text else "The answer is 6."

    episode = SelfVerification(model, n=3, cascade=GRADING).play(["What is 2 + 3?", "What is 2 + 5?"])
    assert [one.text for one in episode.selected] == ["The answer is 5."]
    assert len(tries) == 1 + 3 and episode.accepted == 1
    frozen = SelfVerification(model, n=1, cascade=GRADING, judge=lambda text: "[[N]]").play(["What is 2 + 3?"])
    assert not frozen.selected


def test_an_own_domain_scores_in_configurations_of_this_process(tmp_path: Path) -> None:
    add_domain("rhymes", extract=lambda text: text.split()[-1], score=lambda answer, gold: answer[-2:] == gold[-2:])
    (tmp_path / "held.jsonl").write_text('{"id": "a", "prompt": "cat?", "answer": "hat"}\n')
    (tmp_path / "given.jsonl").write_text('{"id": "a", "solution": "It is a bat"}\n')
    config = small(tmp_path, f"data.development={{type: files, domain: rhymes, paths: [{tmp_path}/held.jsonl]}}")
    scores = evaluate_solutions(config, tmp_path / "given.jsonl", "development")
    assert scores.pass_at_1.value == 1.0 and "rhymes" in scores.estimates
    with pytest.raises(ConfigError, match="built-in domain"):
        add_domain("math", extract=str, score=str.__eq__)


def test_every_public_name_is_there() -> None:
    assert [name for name in svd_loop.__all__ if not hasattr(svd_loop, name)] == []
