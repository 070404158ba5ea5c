"""Agreement as a stage of the cascade: what passes, before, after and instead of judges, and that it costs no call."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envs.canaries import CanaryKind, agreeing, plant, watch
from envs.cascade.agreement import AnswerComparison, Solutions
from envs.cascade.audit_slice import in_slice
from envs.cascade.cascade import Cascade, funnel
from envs.cascade.ordering import paper_order
from envs.cascade.stage import CascadeStage, stage_of
from envs.cascade.template_sets import TemplateSet
from envs.round_env import SelfVerificationEnv
from svd_loop.config import parse_config
from svd_loop.config.sections import CascadeSection
from svd_loop.config.stages import AgreementSection, CorrectnessSection
from svd_loop.contracts import Candidate, Domain, FinishReason, Outcome, Prompt, Rejection, Stage, Verdict, VoteValue
from svd_loop.errors import ConfigError
from tests.envs.cascade.test_exactness import Table, tables
from tests.envs.judges import RulePolicy, always, prompt

CHAT = TemplateSet.load("chat")


def same(pairs: Sequence[Solutions]) -> list[Outcome]:
    return [Outcome.of(one.casefold() == other.casefold()) for _, one, other in pairs]


LETTERS = AnswerComparison(lambda _, text: None if text == "?" else text, same)
"""A solution is its answer; the case of letters does not matter, and `?` is no answer."""


def cascade(*stages: object, votes: int = 2, **others: object) -> Cascade:
    section = CascadeSection.model_validate({"stages": stages, "votes": votes, **others})
    return Cascade(CHAT, section, comparison=LETTERS)


def items(*texts: str, number: int = 0) -> list[tuple[Prompt, Candidate]]:
    return [(prompt(number), Candidate(f"p{number}", index, text)) for index, text in enumerate(texts)]


def decided(verdict: Verdict) -> list[tuple[str, str]]:
    return [(vote.value.value, vote.text) for vote in verdict.votes if vote.stage == Stage.AGREEMENT]


def test_candidates_whose_answer_enough_candidates_reach_pass_without_a_call() -> None:
    judge = always("[[Y]]")
    verdicts = cascade({"type": "agreement", "share": 0.5}).judge(judge, items("a", "A", "b", "?"), round=1)
    assert [verdict.accepted for verdict in verdicts] == [True, True, False, False]
    assert judge.calls == []
    assert decided(verdicts[0]) == [("yes", "2 of 4 candidates reach this final answer, 2 are needed")]
    assert decided(verdicts[2]) == [("no", "1 of 4 candidates reach this final answer, 2 are needed")]
    assert decided(verdicts[3]) == [("no", "there is no final answer")]
    assert [(v.rejection, v.stage, v.vote) for v in verdicts[2:]] == [(Rejection.VOTE, Stage.AGREEMENT, 0)] * 2
    assert funnel(verdicts, [Stage.AGREEMENT]) == {"generated": 4, "complete": 4, "agreement": 2, "accepted": 2}


def test_truncated_and_empty_candidates_count_among_the_candidates_and_never_pass() -> None:
    group = items("a", "a", "a", "")
    group[2] = (group[2][0], replace(group[2][1], finish_reason=FinishReason.LENGTH))
    for share, accepted in ((0.5, [True, True, False, False]), (0.6, [False] * 4)):  # 2 of 4 agree, not 2 of 2
        verdicts = cascade({"type": "agreement", "share": share}).judge(always(""), group, round=1)
        assert [verdict.accepted for verdict in verdicts] == accepted
        assert [verdict.rejection for verdict in verdicts[2:]] == [Rejection.TRUNCATED, Rejection.EMPTY]


@pytest.mark.parametrize(
    ("section", "candidates", "needed"),
    [
        (AgreementSection(), 8, 3),
        (AgreementSection(), 4, 2),
        (AgreementSection(), 1, 2),
        (AgreementSection(share=0.3), 10, 3),
        (AgreementSection(share=0.01), 8, 2),
        (AgreementSection(share=1.0), 8, 8),
        (AgreementSection(count=5), 8, 5),
    ],
)
def test_the_threshold(section: AgreementSection, candidates: int, needed: int) -> None:
    assert section.needed(candidates) == needed


@settings(max_examples=60, deadline=None)
@given(
    table=tables(),
    place=st.integers(0, 3),
    count=st.integers(2, 3),
    early_exit=st.booleans(),
    order=st.sampled_from(["stage_major", "measured"]),
    fill_rows=st.sampled_from([None, 1, 3, 500]),
    audit_share=st.sampled_from([0.0, 0.3, 1.0]),
    data=st.data(),
)
def test_any_place_and_setting_gives_what_the_votes_and_the_answers_give(
    table: Table,
    place: int,
    count: int,
    early_exit: bool,
    order: str,
    fill_rows: int | None,
    audit_share: float,
    data: st.DataObject,
) -> None:
    place = min(place, len(table.stages))
    stages = (*table.stages[:place], {"type": "agreement", "count": count}, *table.stages[place:])
    answers = {
        number: data.draw(st.lists(st.sampled_from("aAb?"), min_size=table.n, max_size=table.n))
        for number in range(table.prompts)
    }
    section = CascadeSection.model_validate(
        {
            "stages": stages,
            "votes": table.votes,
            "rule": {"at_least": table.needed},
            "early_exit": early_exit,
            "order": order,
            "fill_rows": fill_rows,
            "audit_share": audit_share,
            "invalid_retries": table.retries,
        }
    )
    judged = tuple(reversed(paper_order(table.stages, table.votes)))
    judge = table.judge()
    whole = Cascade(CHAT, section, order_of=lambda round: judged, comparison=LETTERS)
    env = SelfVerificationEnv(
        prompts=[prompt(number) for number in range(table.prompts)],
        judge=judge,
        cascade=whole,
        n=table.n,
        fill_rows=fill_rows,
    )
    env.reset()
    _, _, over, _, info = env.step(env.action([text for number in answers for text in answers[number]]))
    assert over

    def agrees(number: int, index: int) -> bool:
        answer = answers[number][index]
        return answer != "?" and sum(other.lower() == answer.lower() for other in answers[number]) >= count

    def refused_by(number: int, index: int) -> tuple[str, int] | None:
        units = whole.units(1)
        decision = units.index((Stage.AGREEMENT, 0))
        vote = table.refusal(number, index, tuple(unit for unit in units if unit[0] != Stage.AGREEMENT))
        if agrees(number, index) or (vote is not None and units.index(vote) < decision):
            return vote
        return Stage.AGREEMENT, 0

    accepts = {
        (number, index): agrees(number, index) and table.accepts(number, index)
        for number, index in product(range(table.prompts), range(table.n))
    }
    first = {number: next((i for i in range(table.n) if accepts[number, i]), None) for number in range(table.prompts)}
    episode = info["outcome"]
    assert {c.prompt_id: c.index for c in episode.selected} == {
        f"p{number}": index for number, index in first.items() if index is not None
    }
    for verdict in episode.verdicts:
        where = int(verdict.prompt_id[1:]), verdict.candidate
        assert verdict.accepted == accepts[where]
        assert (None if verdict.stage is None else (verdict.stage, verdict.vote)) == refused_by(*where)
        if not early_exit or in_slice(audit_share, 0, 1, verdict.prompt_id, verdict.candidate):
            assert len(verdict.votes) == table.votes * len(table.stages) + 1
    assert {call.id.stage for call in judge.calls} <= set(table.stages)


def test_a_stage_before_the_judge_saves_its_calls_and_one_behind_it_does_not() -> None:
    group = items("a", "a", "b", "c")
    for stages, asked in (((Stage.AGREEMENT, Stage.CORRECTNESS), 4), ((Stage.CORRECTNESS, Stage.AGREEMENT), 8)):
        judge = always("[[Y]]")
        verdicts = cascade(*stages).judge(judge, group, round=1)
        assert [verdict.accepted for verdict in verdicts] == [True, True, False, False]
        assert len(judge.calls) == asked


def test_prompts_are_compared_together_and_only_where_a_candidate_gets_that_far() -> None:
    batches: list[set[str]] = []

    def counted(pairs: Sequence[Solutions]) -> list[Outcome]:
        batches.append({prompt.id for prompt, _, _ in pairs})
        return same(pairs)

    judge = RulePolicy(lambda call: "[[N]]" if call.id.prompt_id == "p0" else "[[Y]]")
    group = [*items("a", "A", number=0), *items("a", "A", number=1), *items("a", "A", number=2)]
    whole = replace(cascade(Stage.CORRECTNESS, Stage.AGREEMENT), comparison=AnswerComparison(LETTERS.extract, counted))
    verdicts = whole.judge(judge, group, round=1)
    assert [verdict.accepted for verdict in verdicts] == [False, False, True, True, True, True]
    assert batches == [{"p1", "p2"}] * 2  # both directions


def test_the_group_may_be_larger_than_what_is_judged() -> None:
    group = items("a", "b", "a", "a")
    found = cascade({"type": "agreement", "count": 3}).judge(
        always(""), group[:2], round=1, groups={"p0": [candidate for _, candidate in group]}
    )
    assert [verdict.accepted for verdict in found] == [True, False]


def test_canaries_are_measured_on_the_stages_that_ask() -> None:
    solved = [(prompt(number), Candidate(f"p{number}", 0, f"It is {number} + 1 here.")) for number in range(3)]
    canaries = plant(solved, per_kind=2, seed=1, round=1)
    alone = watch(cascade(Stage.CORRECTNESS), always("[[Y]]"), canaries, round=1)
    assert watch(cascade(Stage.AGREEMENT, Stage.CORRECTNESS), always("[[Y]]"), canaries, round=1) == alone


def last_number(_: Prompt, text: str) -> str | None:
    found = re.findall(r"\d+", text)
    return found[-1] if found else None


def test_a_canary_has_to_agree_with_the_candidates_of_its_prompt() -> None:
    texts = ["1 + 2 = 3, so 3.", "It is 3.", "It is 3.", "It is 9."]
    groups = {f"p{n}": [Candidate(f"p{n}", place, text) for place, text in enumerate(texts)] for n in range(3)}
    solved = [(prompt(number), groups[f"p{number}"][0]) for number in range(3)]
    canaries = plant(solved, per_kind=20, seed=1, round=1)
    both = replace(
        cascade({"type": "agreement", "count": 3}, Stage.FACTUALITY), comparison=AnswerComparison(last_number, same)
    )
    report = watch(both, always("[[Y]]"), canaries, round=1, groups=groups)
    assert report.by_stage[Stage.FACTUALITY].value == 1.0  # this judge nods, and agreement refuses
    assert {kind for kind, share in report.by_kind.items() if share.value == 0.0} == {
        CanaryKind.MASTER_KEY,
        CanaryKind.CUT,
        CanaryKind.FORGED,
    }
    kept = [
        one for one in agreeing(both, both.settings.stages[0], canaries, groups) if one.kind is CanaryKind.CORRUPTED
    ]
    changed = [
        one
        for one in canaries
        if one.kind is CanaryKind.CORRUPTED and last_number(one.prompt, one.candidate.text) != "3"
    ]
    assert changed and kept and not set(map(id, kept)) & set(map(id, changed))
    assert report.by_kind[CanaryKind.CORRUPTED].value == len(kept) / 20


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sampling": {"n": 8, "block": 2}}, "sampling.block: 2 hides candidates from cascade.stages: agreement"),
        ({"sampling": {"n": 1}}, "needs 2 candidates with the same answer, and sampling.n is 1"),
        (
            {"cascade": {"stages": [{"type": "agreement", "count": 9}]}},
            "needs 9 candidates with the same answer, and sampling.n is 8",
        ),
        ({"cascade": {"stages": [{"type": "agreement", "count": 1}]}}, "cascade.stages.0.agreement.count"),
        ({"cascade": {"stages": [{"type": "agreement", "share": 0}]}}, "cascade.stages.0.agreement.share"),
    ],
)
def test_settings_under_which_it_cannot_work_are_refused(changes: dict[str, object], message: str) -> None:
    source = {"type": "nano", "count": 1}
    data = {"model": {"path": "nano"}, "data": {"train": source, "development": source}}
    whole = {"cascade": {"stages": ["agreement", "factuality"]}, **data}
    assert parse_config(whole).cascade.stage_names == ("agreement", "factuality")
    with pytest.raises(ConfigError, match=message):
        parse_config({**whole, **changes})


def test_a_block_that_hides_candidates_is_refused_by_the_environment() -> None:
    with pytest.raises(ConfigError, match="block: 2 hides candidates"):
        SelfVerificationEnv(cascade=cascade(Stage.AGREEMENT), n=4, block=2)
    SelfVerificationEnv(cascade=cascade(Stage.AGREEMENT), n=4, block=4)


def test_programs_are_refused_by_name() -> None:
    program = Prompt("p0", "write it", Domain.CODING)
    with pytest.raises(ConfigError, match="the domain coding has programs, which are never run"):
        cascade(Stage.AGREEMENT).judge(always(""), [(program, Candidate("p0", 0, "x"))], round=1)


def test_it_needs_a_comparison_and_votes_once_whatever_the_number_of_votes() -> None:
    whole = cascade(Stage.AGREEMENT, Stage.CORRECTNESS, votes=3)
    assert whole.units(1)[0] == (Stage.AGREEMENT, 0) and len(whole.units(1)) == 4
    with pytest.raises(ConfigError, match="agreement needs a comparison"):
        replace(whole, comparison=None).judge(always(""), items("a", "b"), round=1)
    assert stage_of(Stage.AGREEMENT).ask is None and isinstance(stage_of(CorrectnessSection().type), CascadeStage)
    assert {vote.value for v in whole.judge(always("[[Y]]"), items("a", "a"), round=1) for vote in v.votes} == {
        VoteValue.YES
    }
