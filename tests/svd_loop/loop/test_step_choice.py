"""The choice among checkpoints, on scripted curves: what is chosen, what it costs, and that its figure is honest."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

from envs.cascade.template_sets import TemplateSet
from envs.problems import arithmetic
from envs.solving import SolverAgent
from policies.scripted import ScriptedPolicy, Traits, read_traits, write_traits
from policies.versions.stored import step_folder, stored_version
from svd_loop.config.sections import EvaluationSection
from svd_loop.contracts import Half
from svd_loop.evaluation.evaluation import Evaluator
from svd_loop.loop.step_choice import StepChooser, choose, most_samples
from svd_loop.support.usage import MeteredPolicy

Count = Callable[[int, Half, Sequence[int]], list[tuple[int, int]]]


def curve(rates: Mapping[int, float], problems: int = 300, seed: int = 0, asked: Counter[int] | None = None) -> Count:
    """Checkpoints that solve each problem with a chance of its own, around the checkpoint's rate.

    Samples are paired as a policy's are: a problem's luck in a sample is the same for all checkpoints.
    """

    def count(step: int, half: Half, indices: Sequence[int]) -> list[tuple[int, int]]:
        if asked is not None:
            asked[step] += len(indices) * problems // 2
        found = []
        for problem in range(problems // 2):
            spread = random.Random(f"{seed} {half} {problem}").uniform(-0.3, 0.3)
            luck = [random.Random(f"{seed} {half} {problem} {index}").random() for index in indices]
            found.append((sum(one < rates[step] + spread for one in luck), len(indices)))
        return found

    return count


_GAINS = (-9.6, -9.0, -7.5, -5.0, -2.0, 0.0, 4.0, 8.0, 12.0, 15.0, 17.0, 18.0)
DIP = {100 * place: 0.4 + gain / 100 for place, gain in enumerate(_GAINS, 1)}
"""The curve of the source's 0.6B: 9.6 points down at step 100, back at 600, 18 up at 1,200."""


def test_an_early_dip_ends_nothing() -> None:
    choice = choose(sorted(DIP), curve(DIP), samples=4)
    assert choice.best == choice.kept == 1200
    assert [figure.step for figure in choice.steps] == sorted(DIP)
    first, last = choice.steps[0], choice.steps[-1]
    assert first.difference == pytest.approx(-0.276, abs=0.06) and first.samples == 1
    assert last.samples > 1 and last.difference == 0.0
    assert choice.confirmed is None


def test_a_scripted_policy_that_dips_first_is_chosen_at_its_end(tmp_path: Path) -> None:
    """The same curve, played by scripted policies on arithmetic: 9.6 points down at first and 18 up in the end."""
    gains = {100: -0.096, 400: -0.05, 600: 0.0, 1200: 0.18}
    for step, gain in gains.items():
        write_traits(step_folder(tmp_path, 1, step), Traits(skill=0.4 + gain), round=1, parent=0)
    problems = {"development": arithmetic.generate("development", 60, seed=0)}
    solver = SolverAgent(TemplateSet.load("chat"))
    evaluator = Evaluator(problems, solver, EvaluationSection(samples=2))

    def open_step(round: int, step: int) -> MeteredPolicy:
        stored = stored_version(step_folder(tmp_path, round, step))
        return MeteredPolicy(ScriptedPolicy.simulated(read_traits(stored.path), version=stored.version, job_seed=0))

    choice, usage = StepChooser(open_step, evaluator, samples=2)(1, sorted(gains))
    assert choice.kept == 1200
    assert choice.steps[0].difference < -0.15
    assert usage["solver"].calls >= 4 * 90


def test_a_peak_in_the_middle_is_kept_and_confirmed_on_other_problems() -> None:
    choice = choose([10, 20, 30, 40], curve({10: 0.5, 20: 0.62, 30: 0.56, 40: 0.5}), samples=4)
    assert (choice.best, choice.kept) == (20, 20)
    assert choice.confirmed is not None
    assert choice.confirmed.low < 0.12 < choice.confirmed.high and choice.confirmed.low > 0


def test_first_looks_are_cheap_and_the_close_ones_get_more() -> None:
    asked: Counter[int] = Counter()
    steps = list(range(1, 9))
    choose(steps, curve({step: 0.5 + 0.01 * step for step in steps}, asked=asked), samples=4)
    assert asked[1] == asked[2] == 150  # one look at one sample of each problem of the half
    assert asked[8] >= asked[7] > asked[1]
    assert sum(asked.values()) <= most_samples(8, 4) * 150
    assert most_samples(8, 4) == 8 + 5 + 2 * 4 + 4
    assert most_samples(1, 4) == most_samples(0, 4) == 0


def test_nothing_more_is_asked_when_all_but_the_last_are_clearly_worse() -> None:
    asked: Counter[int] = Counter()
    choice = choose([1, 2, 3], curve({1: 0.3, 2: 0.35, 3: 0.9}, asked=asked), samples=8)
    assert choice.kept == 3
    assert asked == {1: 150, 2: 150, 3: 150}


def test_equal_checkpoints_leave_the_last_one() -> None:
    def same(step: int, half: Half, indices: Sequence[int]) -> list[tuple[int, int]]:
        return [(len(indices) // 2, len(indices))] * 10

    choice = choose([1, 2, 3], same, samples=4)
    assert (choice.best, choice.kept, choice.confirmed) == (3, 3, None)


def test_a_winner_by_luck_is_not_kept_and_its_figure_is_not_the_one_that_made_it_win() -> None:
    def lucky(step: int, half: Half, indices: Sequence[int]) -> list[tuple[int, int]]:
        right = 1 if step == 1 and half is Half.CHOOSING else 0
        return [(right * len(indices), len(indices))] * 5 + [(len(indices), len(indices))] * 5

    choice = choose([1, 2], lucky, samples=2)
    assert (choice.best, choice.kept) == (1, 2)
    assert choice.steps[0].difference == 0.5
    assert choice.confirmed is not None and choice.confirmed.value == 0.0


def test_the_confirmed_difference_is_unbiased_where_the_winning_one_is_not() -> None:
    noise = random.Random(1)

    def count(step: int, half: Half, indices: Sequence[int]) -> list[tuple[int, int]]:
        return [(sum(noise.random() < 0.5 for _ in indices), len(indices)) for _ in range(30)]

    won, confirmed = [], []
    for _ in range(40):
        choice = choose(range(1, 9), count, samples=2)
        if choice.confirmed is not None:
            won.append(next(figure.difference for figure in choice.steps if figure.step == choice.best))
            confirmed.append(choice.confirmed.value)
    assert sum(won) / len(won) > 0.06  # the winner's curse
    assert abs(sum(confirmed) / len(confirmed)) < 0.04


def test_undecided_problems_are_left_out_of_a_comparison() -> None:
    def count(step: int, half: Half, indices: Sequence[int]) -> list[tuple[int, int]]:
        if step == 1:  # right wherever it was decided
            return [(len(indices), len(indices))] * 4 + [(0, 0)] * 4
        return [(0, len(indices))] * 2 + [(len(indices), len(indices))] * 6

    choice = choose([1, 2], count, samples=2)
    assert choice.steps[0].difference == 0.5
    assert choice.kept == 1

    nothing = choose([1, 2], lambda step, half, indices: [(0, 0)] * 4, samples=2)
    assert nothing.kept == 2
