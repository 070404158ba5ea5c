from __future__ import annotations

from hypothesis import assume, given
from hypothesis import strategies as st

from envs.problems.arithmetic import generate
from policies.scripted import tasks
from policies.scripted.tasks import CODE, FORMS, ROPE, SUM, Task
from svd_loop.contracts import Domain


@st.composite
def any_task(draw: st.DrawFn) -> Task:
    form = draw(st.sampled_from(FORMS))
    left = 0 if form is CODE else draw(st.integers(0, 9999))
    sign = "+" if form is ROPE else draw(st.sampled_from("+-*"))
    return Task(form, left, sign, draw(st.integers(0, 9999)))


@given(any_task(), st.text(alphabet="ab \n=[]{}?.`", max_size=30), st.text(alphabet="ab \n=[]{}?.`", max_size=30))
def test_a_question_is_found_inside_any_prompt(task: Task, before: str, after: str) -> None:
    assert tasks.questions_in(f"{before}\n{task.question()}\n{after}") == [task]


@given(any_task(), st.integers(0, 99_999))
def test_a_solution_tells_its_question_and_solves_it_only_with_the_right_result(task: Task, result: int) -> None:
    assert tasks.solved_in(task.solution(result)) == [task]
    assert task.is_solved_by(task.solution(result)) is (result == task.result)
    assert task.is_solved_by(task.solution(task.result))


@given(any_task())
def test_a_drifted_question_is_another_question(task: Task) -> None:
    assert task.drifted() != task
    assert tasks.questions_in(task.drifted().question()) == [task.drifted()]


@given(any_task(), any_task())
def test_questions_come_in_the_order_of_the_text(first: Task, second: Task) -> None:
    assert tasks.questions_in(f"{first.question()} ... {second.question()}") == [first, second]


@given(st.text(max_size=20), st.text(max_size=20))
def test_a_question_of_unknown_form_gets_a_sum_of_its_own(one: str, other: str) -> None:
    assume(one != other)
    assert tasks.stand_in(one) == tasks.stand_in(one) != tasks.stand_in(other)


def test_every_generated_problem_is_understood_and_its_gold_agrees() -> None:
    for problem in generate("development", 50, seed=0):
        (task,) = tasks.questions_in(problem.text)
        assert task.form is {Domain.MATH: SUM, Domain.SCIENCE: ROPE, Domain.CODING: CODE}[problem.domain]
        if problem.domain == Domain.MATH:
            assert str(task.result) == problem.answer
        elif problem.domain == Domain.SCIENCE:
            assert f"{task.result} m" == problem.answer


def test_solutions_of_other_authors_are_read_by_their_final_answer() -> None:
    task = Task(SUM, 12, "+", 30)
    assert task.is_solved_by(r"First \boxed{41}, no: \boxed{42}")
    assert not task.is_solved_by(r"First \boxed{42}, no: \boxed{41}")
    assert not task.is_solved_by("It is 42.")
    assert Task(CODE, 0, "-", 5).is_solved_by("def f(x):\n    return x - 5")
    assert not Task(CODE, 0, "-", 5).is_solved_by("def f(x):\n    return x + 5")
