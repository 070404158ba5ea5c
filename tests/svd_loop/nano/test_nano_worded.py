"""The further pass: prompts are those that the loop asks, and what is taught of revising is right."""

from __future__ import annotations

from collections import Counter

import pytest

from envs.cascade.template_sets import PLACEHOLDERS, TemplateSet
from svd_loop.contracts import Domain, Role
from svd_loop.nano.corpus import JUDGE_ROLES, Row, revisions
from svd_loop.nano.worded import TEMPLATES, rows


@pytest.fixture(scope="module")
def sample() -> list[Row]:
    return list(rows(1_500, seed=1))


def test_every_wording_is_taught_about_equally_often_and_as_the_loop_asks_it(sample: list[Row]) -> None:
    templates = TemplateSet.load(TEMPLATES)
    for name in JUDGE_ROLES:
        role, asked = Role(name), Counter[int]()
        for row in (row for row in sample if row.role == name):
            worded = [
                templates.render(role, Domain(row.domain), wording=wording, **row.fields)[0].content
                for wording in range(3)
            ]
            asked[worded.index(row.user_text)] += 1
        assert min(asked[wording] for wording in range(3)) > 0.2 * asked.total()


def test_a_seed_decides_the_rows(sample: list[Row]) -> None:
    assert list(rows(100, seed=2)) == list(rows(100, seed=2)) != list(rows(100, seed=3))
    assert {row.role for row in sample} == {"solver", "reviser", *JUDGE_ROLES}


def test_a_revision_answers_what_was_asked_and_is_not_what_was_refused() -> None:
    for row in revisions(300, seed=4):
        assert row.completion_text != row.fields["solution"]
        assert row.user_text.endswith("Solve:")
        assert row.fields["critique"].endswith("[ [N] ]")  # as a judge's words reach the reviser
        assert row.fields["critique"] in row.user_text


def test_the_first_wording_is_the_shipped_one() -> None:
    worded, shipped = TemplateSet.load(TEMPLATES), TemplateSet.load("nano")
    for role in Role:
        fields = {name: name for name in PLACEHOLDERS[role]}
        assert worded.render(role, Domain.MATH, **fields) == shipped.render(role, Domain.MATH, **fields)
