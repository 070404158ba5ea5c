"""The corpus's promises: the solver learns only right solutions, the judge only true verdicts."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest

from envs.problems.nano import DOMAINS, generate_tasks
from svd_loop.nano.corpus import JUDGE_ROLES, Row, anchor_rows, rows
from svd_loop.nano.tokenizer import PAD, render, train_tokenizer
from svd_loop.nano.works import Flaw, Style, check, compare, grade, misread, question_answered_by, solve

TASKS = [task for domain in DOMAINS for task in generate_tasks(domain, "posttrain", 60, seed=0)]
STYLES: tuple[Style, ...] = ("derive", "leap")
FLAWS: tuple[Flaw, ...] = ("slip", "forced", "honest", "final", "misread", "unit", "word")


@pytest.fixture(scope="module")
def sample() -> list[Row]:
    return list(rows(4_000, seed=1))


def test_a_seed_decides_the_rows() -> None:
    assert anchor_rows(50, seed=3) == anchor_rows(50, seed=3)
    assert anchor_rows(50, seed=3) != anchor_rows(50, seed=4)


def test_anchor_rows_are_judge_rows_only() -> None:
    assert {row.role for row in anchor_rows(300, seed=0)} == set(JUDGE_ROLES)


def test_verdicts_are_balanced_in_each_role(sample: list[Row]) -> None:
    for role in ("question_comparer", "fact_checker", "grader"):
        verdicts = Counter(row.completion_text[-5:] for row in sample if row.role == role)
        assert set(verdicts) == {"[[Y]]", "[[N]]"}
        assert 0.43 < verdicts["[[Y]]"] / verdicts.total() < 0.57


def test_a_candidate_in_a_judge_prompt_holds_no_verdict(sample: list[Row]) -> None:
    assert not any("[[Y]]" in row.user_text or "[[N]]" in row.user_text for row in sample)


@pytest.mark.parametrize("style", STYLES)
def test_right_solutions_pass_every_check(style: Style) -> None:
    for task in TASKS:
        work = solve(task, style, Random(0))
        assert work is not None
        assert work.final == task.final(task.ans)
        assert check(task, work).endswith("[[Y]]")
        assert grade(task, work.final).endswith("[[Y]]")
        assert question_answered_by(work) == task.canonical_question


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("flaw", FLAWS)
def test_flawed_solutions_are_wrong_if_the_check_rejects_them(style: Style, flaw: Flaw) -> None:
    for task in TASKS:
        work = solve(task, style, Random(1), flaw)
        if work is None or not check(task, work).endswith("[[N]]"):
            continue
        sound = all(eval(step.expression.replace("/", "//")) == step.claimed for step in work.steps)
        right = solve(task, style, Random(0))
        assert right is not None
        assert not sound or work.final != right.final or work.text != right.text


def test_a_forced_certificate_claims_a_false_result() -> None:
    forced = [(task, solve(task, "leap", Random(2), "forced")) for task in TASKS]
    for task, work in forced:
        if work is not None:
            assert work.ans != task.ans
            assert check(task, work).endswith("[[N]]")


def test_a_misreading_is_caught_by_the_comparer() -> None:
    for task in TASKS:
        other = misread(task, Random(3))
        assert other is None or compare(task, other).endswith("[[N]]")
        assert compare(task, task).endswith("[[Y]]")


def test_the_tokenizer_encodes_any_text_and_splits_digits(sample: list[Row]) -> None:
    texts = [render(row.user_text, row.completion_text) for row in sample]
    tokenizer = train_tokenizer(texts, 512)
    for text in [*texts[:200], "été 漢字 🙂\t\x00", "  spaces  ,  kept ."]:
        assert tokenizer.decode(tokenizer(text)["input_ids"], skip_special_tokens=False) == text
    assert tokenizer.tokenize("1234") == list("1234")
    assert len(tokenizer.tokenize("[[Y]]")) == len(tokenizer.tokenize("[[N]]")) == 1
    assert tokenizer.pad_token == PAD != tokenizer.eos_token


def test_the_chat_template_writes_what_training_reads(sample: list[Row]) -> None:
    tokenizer = train_tokenizer((render(row.user_text, row.completion_text) for row in sample), 512)
    row = sample[0]
    chat = [{"role": "user", "content": row.user_text}]
    assert tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False) == render(row.user_text)
    chat.append({"role": "assistant", "content": row.completion_text})
    full = tokenizer.apply_chat_template(chat, tokenize=False)
    assert full == render(row.user_text, row.completion_text)
