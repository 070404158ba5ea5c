from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envs.domains.extraction import final_answer


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"so \boxed{18}.", "18"),
        (r"\boxed{1} then \boxed{2}", "2"),
        (r"\boxed{\frac{1}{2}} and more words", r"\frac{1}{2}"),
        (r"\boxed {x_{1} = \{1, 2\}}", r"x_{1} = \{1, 2\}"),
        (r"\boxed{1} but \boxed{2", "1"),
        (r"\boxed{a \} b}", r"a \} b"),
        (r"\boxed{ }", None),
        (r"the answer is 7. \boxed{8}", "8"),
        (r"the answer is 7. \boxed{8", "7. \\boxed{8"),
        ("The final answer is 18.", "18"),
        ("**Answer:** $18$", "$18$"),
        ("Answer: (B)", "(B)"),
        ("steps\n#### 70,000", "70,000"),
        ("the answer is 5\nno: the answer is **6**.", "6"),
        ("The answer: 3.5", "3.5"),
        ("it is 18", None),
        ("answering is hard", None),
        ("", None),
    ],
)
def test_the_last_committed_answer_is_found(text: str, answer: str | None) -> None:
    assert final_answer(text) == answer


@given(st.recursive(st.text(alphabet="ab1 +"), lambda s: s.map(lambda t: "{" + t + "}") | st.tuples(s, s).map("".join)))
def test_a_balanced_box_is_taken_whole(content: str) -> None:
    assert final_answer(f"x \\boxed{{1}} y \\boxed{{{content}}} z") == (content.strip() or None)


@given(st.text(alphabet="\\boxed{}answer is:# \n", max_size=80))
def test_any_text_is_survived(text: str) -> None:
    found = final_answer(text)
    assert found is None or found.strip()
