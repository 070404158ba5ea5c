"""Stages by name: in the configuration, with templates and roles of their own, and without any judge."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Literal

import pytest

from envs.canaries import CanaryKind, caught_by
from envs.cascade.cascade import Cascade, funnel
from envs.cascade.stage import CallBuilder, CascadeStage, Opinion, RoleTemplate, single_call, stage_of
from envs.cascade.template_sets import TemplateSet
from svd_loop.config import load_config, parse_config
from svd_loop.config.sections import CascadeSection
from svd_loop.config.stages import STAGES, CorrectnessSection, StageSection
from svd_loop.contracts import Candidate, Domain, Prompt, Stage, VoteValue
from svd_loop.errors import ConfigError
from svd_loop.support.plugins import Variant
from tests.envs.judges import RulePolicy

NANO = Path(__file__).parents[3] / "configs" / "nano.yaml"
ITEMS = [
    (Prompt("p", "Is the sum of 2 and 3 even?", Domain.MATH), Candidate("p", 0, "It is 5, so no.")),
    (Prompt("q", "Name a number.", Domain.MATH), Candidate("q", 0, "Five.")),
]


class LengthSection(StageSection):
    """Solutions of at least some words; asks nobody."""

    type: Literal["length"] = "length"
    least: int

    refuses: ClassVar[frozenset[str]] = frozenset({"master_key"})


class ToneSection(StageSection):
    """Whether a solution is polite; a role and a template of its own."""

    type: Literal["tone"] = "tone"

    roles: ClassVar[tuple[str, ...]] = ("tone_judge",)


def make_length(section: LengthSection) -> CascadeStage:
    def ask(calls: CallBuilder) -> Opinion:
        enough = len(calls.solution.split()) >= section.least
        return VoteValue.YES if enough else VoteValue.NO, "counted"
        yield  # makes it a generator

    return CascadeStage(ask)


def make_tone(section: ToneSection) -> CascadeStage:
    text = "Is this polite? $question $solution"
    return CascadeStage(
        lambda calls: single_call(calls, "tone_judge"),
        {"tone_judge": RoleTemplate(frozenset({"question", "solution"}), text)},
    )


@pytest.fixture
def further(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = {
        "length": Variant(LengthSection, f"{__name__}:make_length"),
        "tone": Variant(ToneSection, f"{__name__}:make_tone"),
    }
    monkeypatch.setattr(STAGES, "_loaded", rows)


def cascade(*stages: StageSection) -> Cascade:
    return Cascade(TemplateSet.load("chat", stages), CascadeSection(votes=2, stages=stages))


@pytest.mark.usefixtures("further")
def test_a_stage_without_a_judge_votes_by_itself() -> None:
    judge = RulePolicy(lambda call: "[[Y]]")
    verdicts = cascade(LengthSection(least=3), CorrectnessSection()).judge(judge, ITEMS, round=1)
    assert [(v.accepted, v.stage) for v in verdicts] == [(True, None), (False, "length")]
    assert {call.id.stage for call in judge.calls} == {Stage.CORRECTNESS}
    assert {call.id.prompt_id for call in judge.calls} == {"p"}
    assert funnel(verdicts, ("length", "correctness")) == {
        "generated": 2,
        "complete": 2,
        "length": 1,
        "correctness": 1,
        "accepted": 1,
    }


@pytest.mark.usefixtures("further")
def test_a_stage_brings_its_role_and_its_template() -> None:
    judge = RulePolicy(lambda call: "[[Y]]")
    verdicts = cascade(ToneSection()).judge(judge, ITEMS, round=1)
    assert [(v.accepted, {vote.stage for vote in v.votes}) for v in verdicts] == [(True, {"tone"})] * 2
    assert {(call.id.role, call.id.stage) for call in judge.calls} == {("tone_judge", "tone")}
    assert judge.calls[0].messages[0].content == "Is this polite? Is the sum of 2 and 3 even? It is 5, so no."
    assert judge.calls[0].template_version.startswith("tone_judge/")


@pytest.mark.usefixtures("further")
def test_a_set_may_have_its_own_words_for_a_further_stage(tmp_path: Path) -> None:
    for path in (Path(__file__).parents[3] / "envs" / "templates" / "chat").glob("*.txt"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "tone_judge.txt").write_text("Polite? $solution $question")
    words = TemplateSet.load(str(tmp_path), [ToneSection()])
    assert words.render("tone_judge", Domain.MATH, question="q", solution="s")[0].content == "Polite? s q"
    (tmp_path / "tone_judge.txt").write_text("Polite? $solution")
    with pytest.raises(ConfigError, match="a tone_judge template must use exactly"):
        TemplateSet.load(str(tmp_path), [ToneSection()])


@pytest.mark.usefixtures("further")
def test_the_configuration_takes_names_and_sections_and_writes_them_back_as_short() -> None:
    stages = "cascade.stages=[factuality, {type: correctness}, {type: length, least: 3}, tone]"
    config = load_config(NANO, [stages, "cascade.roles={tone_judge: {max_tokens: 9}}"])
    assert config.cascade.stage_names == ("factuality", "correctness", "length", "tone")
    written = config.model_dump(mode="json")
    assert written["cascade"]["stages"] == ["factuality", "correctness", {"type": "length", "least": 3}, "tone"]
    assert parse_config(written) == config


@pytest.mark.usefixtures("further")
@pytest.mark.parametrize(
    ("overrides", "complaint"),
    [
        (["cascade.stages=[tone, tone]"], "a stage is named twice in ['tone', 'tone']"),
        (["cascade.stages=[lenght]"], "no stage is called 'lenght'; known: agreement, correctness, cycle_consistency"),
        (["cascade.stages=[length]"], "cascade.stages.0.length.least: is required"),
        (["cascade.roles={tone_judge: {max_tokens: 9}}"], "cascade.roles.tone_judge: no stage calls this role"),
    ],
)
def test_a_mistake_names_the_stage(overrides: Sequence[str], complaint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(NANO, overrides)
    assert complaint in str(caught.value)


@pytest.mark.usefixtures("further")
def test_a_stage_says_which_canaries_it_ought_to_refuse() -> None:
    assert caught_by(CanaryKind.MASTER_KEY, ("length", "factuality")) == {"length"}
    assert caught_by(CanaryKind.CUT, ("length", "correctness")) == {"correctness"}


@pytest.mark.usefixtures("further")
def test_a_stage_that_needs_settings_says_which() -> None:
    with pytest.raises(ConfigError, match=r"cascade\.stages: the stage length needs settings: least"):
        stage_of("length")
