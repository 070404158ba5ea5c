"""Checks of form before any vote."""

from __future__ import annotations

import pytest

from envs.cascade.cascade import Cascade, funnel
from envs.cascade.static_check import malformed
from envs.cascade.template_sets import TemplateSet
from envs.demo import DemoJudge
from svd_loop.config.sections import CascadeSection, StaticSection
from svd_loop.contracts import Candidate, FinishReason, Prompt, Rejection

BOTH = StaticSection(thought=True, boxed=("math",))


@pytest.mark.parametrize(
    ("text", "domain", "fits"),
    [
        (r"<think>so</think>It is \boxed{4}.", "math", True),
        (r"<think>so</think>\boxed{\frac{1}{2}}", "math", True),
        (r"It is \boxed{4}.", "math", False),
        (r"<think>\boxed{4}</think>It is 4.", "math", False),
        (r"<think>so</think>\boxed{ }", "math", False),
        (r"<think>so</think>\boxed{} and \boxed{4}", "math", True),
        (r"<think>so</think>boxed{4}", "math", False),
        ("<think>so</think>It is 4.", "science", True),
        ("It is 4.", "science", False),
    ],
)
def test_form(text: str, domain: str, fits: bool) -> None:
    assert malformed(BOTH, domain, text) is (None if fits else Rejection.STATIC)


def test_nothing_is_checked_unless_asked_for() -> None:
    assert malformed(StaticSection(), "math", "It is 4.") is None and not StaticSection().is_on


def test_a_malformed_candidate_costs_no_vote_and_is_counted_apart() -> None:
    settings = CascadeSection(votes=1, static=StaticSection(boxed=("math",)))
    prompt = Prompt("p", "What is 2 + 2?", "math")
    texts = ["It is 4.", r"It is \boxed{4}.", ""]
    items = [(prompt, Candidate("p", place, text, FinishReason.STOP)) for place, text in enumerate(texts)]
    verdicts = Cascade(TemplateSet.load("chat"), settings).judge(DemoJudge(), items, round=1)
    assert [verdict.rejection for verdict in verdicts][::2] == [Rejection.STATIC, Rejection.EMPTY]
    assert [bool(verdict.votes) for verdict in verdicts] == [False, True, False]
    counts = funnel(verdicts, settings.stage_names, static=True)
    assert list(counts)[:3] == ["generated", "complete", "static"]
    assert (counts["generated"], counts["complete"], counts["static"]) == (3, 2, 1)
    assert "static" not in funnel(verdicts, settings.stage_names)
