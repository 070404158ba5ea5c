from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from svd_loop.config.sections import EvaluationSection
from svd_loop.contracts import (
    AgentCall,
    Candidate,
    Domain,
    FinishReason,
    Half,
    Outcome,
    Policy,
    PolicyVersion,
    Problem,
    Prompt,
    Reply,
)
from svd_loop.errors import DataError, EngineError
from svd_loop.evaluation.evaluation import (
    Evaluator,
    Solution,
    read_solutions,
    same_answers,
    score_pairs,
    score_solutions,
)
from svd_loop.report import scores_json

CODE = Problem("c", "Write f.", Domain.CODING, tests=("assert f(1) == 2",))
PROBLEMS = (
    Problem("m1", "1+1?", Domain.MATH, "2"),
    CODE,
    Problem("m2", "2+2?", Domain.MATH, "4"),
    Problem("s", "Force? A) 1 N B) 2 N", Domain.SCIENCE, "B"),
)
RIGHT = {"m1": r"\boxed{2}", "c": "```python\ndef f(x): return x + 1\n```", "m2": r"\boxed{4}", "s": r"\boxed{2 N}"}
SETTINGS = EvaluationSection(samples=4, pass_at=(1, 2), resamples=200)


class Nobody:
    """A policy that is handed through and never asked."""

    version = PolicyVersion(0, "f")

    def key(self, call: AgentCall) -> str:
        return ""

    def generate(self, calls: Sequence[AgentCall]) -> list[Reply]:
        raise AssertionError("the solver asks")

    def close(self) -> None: ...


class Answers:
    """A solver whose first `right[id]` samples of a problem are right; the last sample is cut off."""

    def __init__(self, right: dict[str, int]) -> None:
        self.right = right
        self.asked: list[tuple[list[Prompt], list[int], int, str]] = []

    def sample(
        self, policy: Policy, prompts: Sequence[Prompt], indices: Sequence[int], *, round: int, purpose: str = "train"
    ) -> list[Candidate]:
        self.asked.append((list(prompts), list(indices), round, purpose))
        return [
            Candidate(
                prompt.id,
                index,
                RIGHT[prompt.id] if index < self.right[prompt.id] else "no idea",
                FinishReason.LENGTH if index == len(indices) - 1 else FinishReason.STOP,
                token_ids=(1,) * (10 + index),
            )
            for prompt in prompts
            for index in indices
        ]


def test_every_figure_overall_and_by_domain() -> None:
    solver = Answers({"m1": 4, "c": 2, "m2": 0, "s": 1})
    scores = Evaluator({"development": PROBLEMS}, solver, SETTINGS).evaluate(Nobody(), "development")
    assert scores.problem_ids == ("m1", "c", "m2", "s") and scores.correct == (4, 2, 0, 1)
    assert scores.domains == ("math", "coding", "math", "science")
    assert scores.pass_at_1.value == pytest.approx(7 / 16)
    assert scores.pass_at_1.low < 7 / 16 < scores.pass_at_1.high
    by_domain = {group: metrics["pass@1"].value for group, metrics in scores.estimates.items()}
    assert by_domain == pytest.approx({"overall": 7 / 16, "math": 0.5, "coding": 0.5, "science": 0.25})
    assert scores.estimates["overall"]["pass@2"].value == pytest.approx((1 + 5 / 6 + 0 + 0.5) / 4)
    assert scores.estimates["math"]["truncated"].value == 0.25
    assert scores.estimates["overall"]["output_tokens"].value == 11.5


def test_undecided_samples_are_counted_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """A scorer that runs out of time cannot be had at will, so that its outcomes are set here."""
    outcomes = [Outcome.RIGHT] * 4 + [Outcome.RIGHT, Outcome.WRONG, *[Outcome.UNDECIDED] * 2]
    monkeypatch.setattr("svd_loop.evaluation.evaluation.score_pairs", lambda pairs, seconds, domains: outcomes)
    solver = Answers({"m1": 4, "m2": 4})
    problems = (PROBLEMS[0], PROBLEMS[2])
    scores = Evaluator({"test": problems}, solver, SETTINGS).evaluate(Nobody(), "test")
    assert (scores.correct, scores.undecided, scores.decided) == ((4, 1), (0, 2), (4, 2))
    assert scores.pass_at_1.value == pytest.approx((1 + 1 / 2) / 2)
    assert scores.pass_at_1.low == pytest.approx(1 / 4) and scores.pass_at_1.high == pytest.approx(1.0)
    assert scores.estimates["math"]["undecided"].value == 0.25
    assert scores_json(scores)["undecided"] == 2


def test_every_round_is_asked_the_same_without_gold() -> None:
    solver = Answers(dict.fromkeys(RIGHT, 0))
    evaluator = Evaluator({"development": PROBLEMS, "test": PROBLEMS[:1]}, solver, SETTINGS)
    evaluator.evaluate(Nobody(), "development")
    evaluator.evaluate(Nobody(), "test")
    prompts, indices, round, purpose = solver.asked[0]
    assert (indices, round, purpose) == ([0, 1, 2, 3], 0, "development") and solver.asked[1][3] == "test"
    assert all(type(prompt) is Prompt for prompt in prompts)


def test_checkpoints_are_compared_on_halves_of_the_problems_one_with_samples_of_its_own() -> None:
    solver = Answers({"m1": 4, "c": 1, "m2": 1, "s": 0})
    evaluator = Evaluator({"development": PROBLEMS}, solver, SETTINGS)
    assert evaluator.count(Nobody(), Half.CHOOSING, range(2, 4)) == [(2, 2), (0, 2)]
    assert evaluator.count(Nobody(), Half.CONFIRMING, range(4)) == [(1, 4), (0, 4)]
    asked = [([prompt.id for prompt in prompts], indices, purpose) for prompts, indices, _, purpose in solver.asked]
    assert asked == [(["m1", "m2"], [2, 3], "choice"), (["c", "s"], [0, 1, 2, 3], "development")]


def test_a_split_without_problems_and_a_solver_that_leaves_some_out_are_errors() -> None:
    with pytest.raises(DataError, match="`test`"):
        Evaluator({"development": PROBLEMS}, Answers({}), SETTINGS).evaluate(Nobody(), "test")

    class Lazy(Answers):
        def sample(self, *args: object, **named: object) -> list[Candidate]:
            return []

    with pytest.raises(EngineError, match="16 solutions"):
        Evaluator({"test": PROBLEMS}, Lazy({}), SETTINGS).evaluate(Nobody(), "test")


def test_solutions_of_others_are_scored_without_a_model() -> None:
    solutions = [Solution(name, text) for name, text in RIGHT.items()]
    scores = score_solutions(PROBLEMS, reversed(solutions), SETTINGS, split="development")
    assert scores.samples == 1 and scores.correct == (1, 1, 1, 1)
    assert set(scores.estimates["overall"]) == {"pass@1", "undecided"}
    twice = [*solutions, *(replace(solution, text="?") for solution in solutions)]
    assert score_solutions(PROBLEMS, twice, SETTINGS, split="test").estimates["math"]["pass@2"].value == 1.0


def test_solutions_may_name_problems_as_their_file_does() -> None:
    problems = [replace(problem, own_id=f"row-{place}") for place, problem in enumerate(PROBLEMS)]
    mixed = [Solution(problems[0].id, RIGHT[problems[0].id])]
    mixed += [Solution(problem.own_id, RIGHT[problem.id]) for problem in problems[1:]]
    assert score_solutions(problems, mixed, SETTINGS, split="test").correct == (1, 1, 1, 1)
    with pytest.raises(DataError, match="3 of 4 problems have none: row-1, row-2, row-3"):
        score_solutions(problems, mixed[:1], SETTINGS, split="test")
    with pytest.raises(DataError, match="held-out file: row-0, row-1"):
        score_solutions(problems, [Solution("x", "")], SETTINGS, split="test")


@pytest.mark.parametrize(
    ("solutions", "message"),
    [
        ([Solution("x", "", "f:3")], "f:3: there is no problem with the id 'x' in `test`"),
        ([Solution("m1", "")], "3 of 4 problems have none: c, m2, s"),
        ([Solution(p.id, "") for p in (*PROBLEMS, PROBLEMS[0])], "found 1 for 3, 2 for 1 problems"),
    ],
)
def test_solutions_that_do_not_fit_are_refused(solutions: list[Solution], message: str) -> None:
    with pytest.raises(DataError, match=message):
        score_solutions(PROBLEMS, solutions, SETTINGS, split="test")


def test_solutions_are_read_with_their_lines(tmp_path: Path) -> None:
    path = tmp_path / "s.jsonl"
    path.write_text('{"id": "a", "solution": "x"}\n\n' + json.dumps({"id": "b", "solution": "", "more": 1}))
    assert read_solutions(path) == [Solution("a", "x", f"{path}:1"), Solution("b", "", f"{path}:3")]
    path.write_text('{"id": 3, "solution": "x"}')
    assert read_solutions(path) == [Solution("3", "x", f"{path}:1")]
    path.write_text('\ufeff{"id": "a", "solution": "x\u2028y\x85"}\n', encoding="utf-8")
    assert read_solutions(path) == [Solution("a", "x\u2028y\x85", f"{path}:1")]


@pytest.mark.parametrize(
    "line", ["{", "[1]", '{"id": true, "solution": "x"}', '{"id": 1.5, "solution": "x"}', '{"id": "a"}', "[" * 100_000]
)
def test_a_bad_line_names_file_and_line(tmp_path: Path, line: str) -> None:
    path = tmp_path / "s.jsonl"
    path.write_text('{"id": "a", "solution": "x"}\n' + line)
    with pytest.raises(DataError, match=r"s\.jsonl:2: "):
        read_solutions(path)


def test_an_unreadable_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    for path in (tmp_path / "none", tmp_path / "binary"):
        with pytest.raises(DataError, match=path.name):
            read_solutions(path)


def test_pairs_of_mixed_domains_keep_their_order() -> None:
    pairs = [(RIGHT[p.id] if place % 2 else "?", p) for place, p in enumerate(PROBLEMS * 3)]
    assert score_pairs(pairs, 2.0) == [Outcome.of(bool(place % 2)) for place in range(len(pairs))]
    assert score_pairs([], 2.0) == []


def test_only_what_stands_behind_the_thought_is_scored() -> None:
    """A right answer in a thought is none, and a wrong one there does no harm."""
    math, code = PROBLEMS[0], CODE
    program = "```python\ndef f(x): return x + 1\n```"
    pairs = [
        (r"<think>\boxed{2}</think>I cannot tell.", math),
        (r"<think>\boxed{2}", math),
        (r"<think>\boxed{3}</think>\boxed{2}", math),
        (rf"<think>{program}", code),
        (f"<think>```python\ndef f(x): return x\n```</think>{program}", code),
    ]
    assert score_pairs(pairs, 5.0) == [Outcome.of(right) for right in (False, False, True, False, True)]


def test_solutions_of_a_prompt_come_to_the_same_or_not_without_gold() -> None:
    def pair(domain: str, one: str, other: str, text: str = "?") -> tuple[Prompt, str, str]:
        return Prompt("p", text, domain), one, other

    options = "Which? A) 3 J B) 12 J"
    code = "```python\ndef f(x):\n    return {}\n```"
    same = [
        pair(Domain.MATH, "\\boxed{0.5}", "so \\boxed{\\frac{1}{2}}"),
        pair(Domain.SCIENCE, "\\boxed{B}", "\\boxed{12 J}", options),
        pair(Domain.CODING, code.format("x + 1"), "First:\n" + code.format("x  +  1")),
        pair(Domain.MATH, "<think>\\boxed{7}</think> \\boxed{5}", "\\boxed{5}"),
    ]
    other = [
        pair(Domain.MATH, "\\boxed{5}", "\\boxed{6}"),
        pair(Domain.SCIENCE, "\\boxed{A}", "\\boxed{12 J}", options),
        pair(Domain.CODING, code.format("x + 1"), code.format("1 + x")),
        pair(Domain.MATH, "none", "none"),
        pair(Domain.CODING, "none", "none"),
    ]
    assert same_answers([*same, *other]) == [Outcome.RIGHT] * len(same) + [Outcome.WRONG] * len(other)
    assert same_answers([]) == []
