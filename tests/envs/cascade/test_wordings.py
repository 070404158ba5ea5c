from __future__ import annotations

import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import envs.cascade.template_sets as template_sets
from envs.cascade.cascade import Cascade, CascadeSettings
from envs.cascade.template_sets import PLACEHOLDERS, TemplateSet
from svd_loop.contracts import Candidate, Domain, Role, Stage, Verdict
from svd_loop.errors import ConfigError
from tests.envs.judges import RulePolicy, always, by_seed, prompt

CHAT = TemplateSet.load("chat")
JUDGES = [role for role in Role if role not in (Role.SOLVER, Role.REVISER)]
ITEMS = [(prompt(p), Candidate(f"p{p}", 0, f"solution of {p}")) for p in range(6)]


def judged(policy: RulePolicy, **settings: Any) -> list[Verdict]:
    return Cascade(CHAT, replace(CascadeSettings(), **settings)).judge(policy, ITEMS, round=1)


def text_of(role: Role, wording: int) -> str:
    fields = {name: f"<{name}>" for name in PLACEHOLDERS[role]}
    return CHAT.render(role, Domain.MATH, wording=wording, **fields)[0].content


@pytest.mark.parametrize("role", JUDGES)
def test_chat_has_three_wordings_a_judge_that_share_what_is_shown(role: Role) -> None:
    assert CHAT.wordings(role) == 3
    texts = [text_of(role, wording) for wording in range(3)]
    assert len(set(texts)) == len({CHAT.version(role, Domain.MATH, wording=w) for w in range(3)}) == 3
    last = max(texts[0].index(f"<{name}>") for name in PLACEHOLDERS[role])
    shown = texts[0][: texts[0].index("===\n\n", last)]
    assert all(text.startswith(shown) for text in texts)  # so that a prefix cache reads it once
    marked = role is not Role.QUESTION_INFERRER
    assert all(("[[Y]]" in text and "[[N]]" in text) == marked for text in texts)
    assert [text.rstrip().splitlines()[-1].count("[[Y]]") for text in texts] == [int(marked)] * 3


def test_votes_take_the_wordings_in_turn() -> None:
    policy = always("[[Y]]")
    judged(policy, votes=5, wordings=3)
    for call in policy.calls:
        assert call.template_version == CHAT.version(call.id.role, Domain.MATH, wording=call.id.vote % 3)
    used = Counter(call.template_version for call in policy.calls if call.id.role is Role.GRADER)
    assert sorted(used.values()) == [6, 12, 12]
    assert len({policy.key(call) for call in policy.calls}) == len(policy.calls)


def test_a_repeated_vote_keeps_its_wording() -> None:
    policy = always("hm")
    judged(policy, stages=(Stage.CORRECTNESS,), votes=2, wordings=2, early_exit=False)
    versions = {(call.id.vote, call.template_version) for call in policy.calls}
    assert len(policy.calls) == 24 and len(versions) == 2


def test_one_wording_asks_what_was_always_asked() -> None:
    one, plain = by_seed(), by_seed()
    assert judged(one, wordings=1) == judged(plain)
    assert {call.template_version for call in one.calls} <= {CHAT.version(role, Domain.MATH) for role in JUDGES}


def test_wordings_are_as_exact_under_early_exit() -> None:
    short, full = judged(by_seed(0.9), wordings=3), judged(by_seed(0.9), wordings=3, early_exit=False)
    assert [replace(v, votes=()) for v in short] == [replace(v, votes=()) for v in full]


def test_more_wordings_than_a_set_has_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"cascade\.wordings: 2, but the template set nano has fewer.*grader 1"):
        Cascade(TemplateSet.load("nano"), CascadeSettings(wordings=2))
    Cascade(CHAT, CascadeSettings(wordings=3))
    with pytest.raises(ConfigError, match=r"cascade\.wordings: 4"):
        Cascade(CHAT, CascadeSettings(wordings=4))


def test_a_domain_counts_its_own_files(tmp_path: Path) -> None:
    mine = shutil.copytree(Path(template_sets.__file__).parents[1] / "templates" / "chat", tmp_path / "mine")
    (mine / "grader.coding.txt").write_text("run it: $question $solution")
    assert TemplateSet.load(str(mine)).wordings(Role.GRADER) == 1
    (mine / "grader.coding.2.txt").write_text("try it: $question $solution")
    templates = TemplateSet.load(str(mine))
    assert templates.wordings(Role.GRADER) == 2
    fields = {"question": "q", "solution": "s"}
    assert templates.render(Role.GRADER, Domain.CODING, wording=1, **fields)[0].content.startswith("try it")
    (mine / "grader.2.txt").write_text("no $question")
    with pytest.raises(ConfigError, match=r"grader\.2\.txt"):
        TemplateSet.load(str(mine))
