"""Domains by name: built in, of another package, with settings, unknown."""

from __future__ import annotations

from typing import ClassVar, Literal

import pytest

from envs.cascade.template_sets import TemplateSet
from envs.domains import DomainSpec, domain_of
from svd_loop.config.domains import DOMAINS, DomainSection, section_of
from svd_loop.config.sections import EvaluationSection
from svd_loop.contracts import BUILT_IN_DOMAINS, Domain, Outcome, Problem, Role
from svd_loop.errors import ConfigError
from svd_loop.evaluation.evaluation import Solution, score_solutions
from svd_loop.support.plugins import Variant


class ParitySection(DomainSection):
    """Even or odd, with a word of the user's choice for even."""

    type: Literal["parity"] = "parity"
    even: str

    instruction: ClassVar[str | None] = "Is it even? Answer in one word.\n\n$question"


def make_parity(section: ParitySection) -> DomainSpec:
    def score_all(pairs: list[tuple[str, Problem]], *, seconds: float) -> list[Outcome]:
        return [Outcome.of(text.strip() == (section.even if p.answer == "0" else "odd")) for text, p in pairs]

    return DomainSpec(lambda text: text.strip() or None, score_all)  # type: ignore[arg-type]


@pytest.fixture
def parity(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DOMAINS, "_loaded", {"parity": Variant(ParitySection, f"{__name__}:make_parity")})


def test_the_order_of_tables_is_that_of_the_rows() -> None:
    assert tuple(DOMAINS.built_in) == BUILT_IN_DOMAINS
    assert [section_of(name).gold for name in BUILT_IN_DOMAINS] == ["answer", "answer", "tests"]


def test_an_unknown_domain_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="domain: no domain is called 'law'; known: coding, math, science"):
        domain_of("law")


@pytest.mark.usefixtures("parity")
def test_scores_are_grouped_by_whatever_domains_occur() -> None:
    problems = [
        Problem("a", "Is 4 even?", "parity", answer="0"),
        Problem("b", "What is 1 + 1?", Domain.MATH, answer="2"),
        Problem("c", "Is 3 even?", "parity", answer="1"),
    ]
    solutions = [Solution("a", "even"), Solution("b", "\\boxed{2}"), Solution("c", "even")]
    settings = EvaluationSection.model_validate({"samples": 1, "domains": [{"type": "parity", "even": "even"}]})
    scores = score_solutions(problems, solutions, settings, split="test")
    assert list(scores.estimates) == ["overall", "math", "parity"]
    assert scores.estimates["parity"]["pass@1"].value == 0.5
    assert scores.correct == (1, 1, 0)


@pytest.mark.usefixtures("parity")
def test_a_domain_that_needs_settings_says_which() -> None:
    with pytest.raises(ConfigError, match=r"evaluation\.domains: the domain parity needs settings: even"):
        domain_of("parity")


@pytest.mark.usefixtures("parity")
def test_a_domain_brings_its_instruction_where_a_set_has_none() -> None:
    (message,) = TemplateSet.load("chat").render(Role.SOLVER, "parity", question="Is 4 even?")
    assert message.content == "Is it even? Answer in one word.\n\nIs 4 even?"
    assert TemplateSet.load("chat").version(Role.SOLVER, "parity").startswith("parity/")
    grader = TemplateSet.load("chat").render(Role.GRADER, "parity", question="q", solution="s")
    assert grader == TemplateSet.load("chat").render(Role.GRADER, Domain.MATH, question="q", solution="s")
