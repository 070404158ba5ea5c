"""The panel: which questions it asks, and that a later round asks the same ones."""

from __future__ import annotations

from dataclasses import replace

from envs.canaries import CanaryKind
from envs.cascade.cascade import Cascade
from envs.cascade.template_sets import TemplateSet
from envs.panel import ask_panel, draw_panel
from svd_loop.contracts import BUILT_IN_STAGES, Candidate, Stage
from tests.envs.judges import RulePolicy, by_seed, prompt, settings_of

CASCADE = Cascade(TemplateSet.load("chat"), settings_of(votes=2))
SOLVED = [
    (prompt(p), Candidate(f"p{p}", 3, f"{p + 10} + {p} = {2 * p + 10}. So it is {2 * p + 10}.")) for p in range(8)
]


def test_a_panel_follows_its_arguments_and_its_digest_its_questions() -> None:
    panel = draw_panel(CASCADE, SOLVED, size=30, seed=1, round=2)
    assert panel == draw_panel(CASCADE, SOLVED, size=30, seed=1, round=2)
    assert (len(panel.right), len(panel.wrong)) == (30, 30)
    others = [
        draw_panel(CASCADE, SOLVED, size=30, seed=2, round=2),
        draw_panel(CASCADE, SOLVED, size=29, seed=1, round=2),
        draw_panel(CASCADE, SOLVED[1:], size=30, seed=1, round=2),
    ]
    assert len({panel.digest, *(other.digest for other in others)}) == 4
    changed = replace(panel.right[0], candidate=replace(panel.right[0].candidate, text="other"))
    assert replace(panel, right=(changed, *panel.right[1:])).digest != panel.digest


def test_every_solution_is_asked_in_every_stage_before_any_is_asked_twice() -> None:
    panel = draw_panel(CASCADE, SOLVED, size=1000, seed=1, round=2)
    assert len(panel.right) == len(SOLVED) * len(BUILT_IN_STAGES) * 2
    assert [ballot.vote for ballot in panel.right] == [0] * 24 + [1] * 24


def test_no_two_questions_share_a_seed_and_wrong_ones_are_asked_where_they_should_be_refused() -> None:
    panel = draw_panel(CASCADE, SOLVED, size=200, seed=1, round=2)
    asked = [(b.prompt.id, b.candidate.index, b.stage, b.vote) for b in panel.right + panel.wrong]
    assert len(set(asked)) == len(asked)
    right = {candidate.text for _, candidate in SOLVED}
    assert {b.candidate.text for b in panel.right} == right
    cycle = {b.candidate.text for b in panel.wrong if b.stage == Stage.CYCLE_CONSISTENCY}
    facts = {b.candidate.text for b in panel.wrong if b.stage == Stage.FACTUALITY}
    assert cycle and facts and not cycle & facts  # a phrase states nothing false, a wrong number asks the same question
    assert not facts & right and len(CanaryKind) == 6


def test_the_votes_are_letters_by_half_and_the_same_under_the_same_seeds() -> None:
    panel = draw_panel(CASCADE, SOLVED, size=40, seed=1, round=2)
    right, wrong = ask_panel(CASCADE, by_seed(yes=0.6, invalid=0.2), panel)
    assert (len(right), len(wrong)) == (40, 40) and set(right + wrong) == {"y", "n", "i"}
    assert (right, wrong) == ask_panel(CASCADE, by_seed(yes=0.6, invalid=0.2), panel)
    judge = RulePolicy(lambda call: "[[Y]]" if call.id.candidate < len(SOLVED) else "[[N]]")
    assert ask_panel(CASCADE, judge, panel) == ("y" * 40, "n" * 40)
    assert {(call.id.purpose, call.id.round) for call in judge.calls} == {("panel", 2)}


def test_without_solutions_or_judges_there_is_no_panel() -> None:
    empty = draw_panel(CASCADE, [], size=40, seed=1, round=2)
    assert empty.right == empty.wrong == ()
