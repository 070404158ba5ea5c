from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envs.canaries import GROSS, Canary, CanaryKind, caught_by, plant, watch
from envs.cascade.cascade import Cascade
from envs.cascade.template_sets import TemplateSet
from svd_loop.contracts import BUILT_IN_STAGES, Candidate, Domain, Prompt, Role, RoleName, Stage, StageName, VoteValue
from tests.envs.judges import RulePolicy, always, by_seed, prompt, settings_of

CASCADE = Cascade(TemplateSet.load("chat"), settings_of(votes=2))
SOLVED = [(prompt(p), Candidate(f"p{p}", 3, f"<think>99</think>{p + 10}+{p}={2 * p + 10}")) for p in range(8)]


def of_kind(canaries: list[Canary], kind: CanaryKind) -> list[Canary]:
    return [canary for canary in canaries if canary.kind is kind]


def text_of(solved: tuple[Prompt, Candidate]) -> str:
    return solved[1].text.partition("</think>")[2]


def test_planting_follows_the_seed_and_round_and_has_every_kind() -> None:
    first = plant(SOLVED, per_kind=5, seed=1, round=2)
    assert first == plant(SOLVED, per_kind=5, seed=1, round=2)
    assert first != plant(SOLVED, per_kind=5, seed=2, round=2)
    assert first != plant(SOLVED, per_kind=5, seed=1, round=3)
    assert {kind: len(of_kind(first, kind)) for kind in GROSS} == dict.fromkeys(GROSS, 5)


def test_no_two_canaries_share_a_question_to_the_judge() -> None:
    canaries = plant(SOLVED, per_kind=20, seed=0, round=1)
    assert len({(c.candidate.prompt_id, c.candidate.index) for c in canaries}) == len(canaries)
    assert all(c.prompt.id == c.candidate.prompt_id for c in canaries)


def test_what_the_kinds_look_like() -> None:
    canaries = plant(SOLVED, per_kind=30, seed=0, round=1)
    answers = {pair[0].id: text_of(pair) for pair in SOLVED}
    for canary in of_kind(canaries, CanaryKind.FOREIGN):
        assert canary.candidate.text in set(answers.values()) - {answers[canary.prompt.id]}
    for canary in of_kind(canaries, CanaryKind.CUT):
        assert answers[canary.prompt.id].startswith(canary.candidate.text) and canary.candidate.text
        assert canary.candidate.text != answers[canary.prompt.id]
    for canary in of_kind(canaries, CanaryKind.CORRUPTED):
        assert canary.candidate.text not in answers.values()
    assert not any("99" in c.candidate.text for c in canaries if c.kind is CanaryKind.CUT)


@given(st.integers(0, 10_000))
def test_corruption_changes_exactly_one_number_or_operator(seed: int) -> None:
    solved = [(prompt(0), Candidate("p0", 0, "a 7*9=63, 63 + 12 = 75 b"))]
    [canary] = of_kind(plant(solved, per_kind=1, seed=seed, round=1), CanaryKind.CORRUPTED)
    text = canary.candidate.text
    parts = ["7", "*", "9", "63", "63", "+", "12", "75"]
    changed = text.replace("a ", "").replace(" b", "").replace(",", " ").replace("=", " ").replace("*", " * ")
    found = changed.replace("+", " + ").split()
    assert len(found) == len(parts) and sum(a != b for a, b in zip(found, parts, strict=True)) == 1


def test_what_cannot_be_made_is_left_out() -> None:
    assert plant([], per_kind=5, seed=0, round=1) == []
    lonely = plant([(prompt(0), Candidate("p0", 0, "x"))], per_kind=3, seed=0, round=1)
    assert {canary.kind for canary in lonely} == {CanaryKind.MASTER_KEY, CanaryKind.FORGED}
    others = [(prompt(0), Candidate("p0", 0, "5")), (prompt(1, Domain.CODING), Candidate("p1", 0, "6"))]
    assert of_kind(plant(others, per_kind=3, seed=0, round=1), CanaryKind.FOREIGN) == []


def test_a_judge_that_nods_is_caught() -> None:
    report = watch(CASCADE, always("[[Y]]"), plant(SOLVED, per_kind=10, seed=0, round=1), round=1)
    assert all(estimate.value == 1.0 and estimate.low > 0.7 for estimate in report.by_stage.values())
    assert all(estimate.value == 1.0 for estimate in report.by_kind.values())
    assert set(report.by_stage) == set(BUILT_IN_STAGES) and set(report.by_kind) == set(GROSS)


def test_a_strict_judge_raises_no_alarm() -> None:
    report = watch(CASCADE, always("[[N]]"), plant(SOLVED, per_kind=10, seed=0, round=1), round=1)
    assert all(estimate.value == 0.0 and estimate.high < 0.3 for estimate in report.by_stage.values())


@pytest.mark.parametrize(
    "role, stage",
    [
        (Role.QUESTION_COMPARER, Stage.CYCLE_CONSISTENCY),
        (Role.FACT_CHECKER, Stage.FACTUALITY),
        (Role.GRADER, Stage.CORRECTNESS),
    ],
)
def test_the_stage_that_nods_is_named(role: RoleName, stage: StageName) -> None:
    judge = RulePolicy(lambda call: "[[Y]]" if call.id.role == role else "[[N]]")
    report = watch(CASCADE, judge, plant(SOLVED, per_kind=10, seed=0, round=1), round=1)
    assert {s for s, estimate in report.by_stage.items() if estimate.value > 0} == {stage}
    assert all(estimate.value == 0.0 for estimate in report.by_kind.values())


def test_canaries_are_asked_apart_from_the_round() -> None:
    judge = always("[[N]]")
    watch(CASCADE, judge, plant(SOLVED, per_kind=2, seed=0, round=4), round=4)
    assert {(call.id.purpose, call.id.round) for call in judge.calls} == {("canary", 4)}
    shown = [call.messages[0].content.partition("===")[2].rpartition("===")[0] for call in judge.calls]
    assert not any("[[Y]]" in text for text in shown)


def test_a_judge_that_refuses_is_asked_once_a_stage_and_the_rates_are_the_exhaustive_ones() -> None:
    canaries = plant(SOLVED, per_kind=6, seed=3, round=1)
    refusing = always("[[N]]")
    watch(CASCADE, refusing, canaries, round=1)
    votes = [call for call in refusing.calls if call.id.role != Role.QUESTION_INFERRER]
    assert len(votes) == sum(len(caught_by(canary.kind, BUILT_IN_STAGES)) for canary in canaries)

    report = watch(CASCADE, by_seed(yes=0.85), canaries, round=1)
    exhaustive = Cascade(CASCADE.templates, CASCADE.settings.model_copy(update={"early_exit": False}))
    items = [(canary.prompt, canary.candidate) for canary in canaries]
    verdicts = exhaustive.judge(by_seed(yes=0.85), items, round=1, purpose="canary")
    assert 0 < report.overall.value == sum(verdict.accepted for verdict in verdicts) / len(verdicts) < 1
    for stage, share in report.by_stage.items():
        passed = [
            all(vote.value is VoteValue.YES for vote in verdict.votes if vote.stage == stage)
            for canary, verdict in zip(canaries, verdicts, strict=True)
            if stage in caught_by(canary.kind, BUILT_IN_STAGES)
        ]
        assert share.value == sum(passed) / len(passed)


def test_a_stage_is_measured_only_on_what_it_ought_to_catch() -> None:
    canaries = of_kind(plant(SOLVED, per_kind=10, seed=0, round=1), CanaryKind.CORRUPTED)
    report = watch(CASCADE, always("[[Y]]"), canaries, round=1)
    assert set(report.by_stage) == caught_by(CanaryKind.CORRUPTED, BUILT_IN_STAGES)
    assert set(report.by_kind) == {CanaryKind.CORRUPTED}
