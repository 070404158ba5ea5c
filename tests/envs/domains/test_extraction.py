from __future__ import annotations

import sys

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
        (r"the answer is 7. \boxed{8", "7"),
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


C2_MARKERS = [
    ("The answer is 42, since the rest is zero.", "42"),
    ("The answer is 42 because the rest is zero.", "42"),
    ("The answer is $\\frac{3}{4}$, which is less than one.", r"$\frac{3}{4}$"),
    ("Final Answer: The final answer is $34$. I hope it is correct.", "$34$"),
    ("Final Answer: The largest $n$ is 34. I hope it is correct.", "34"),
    ("### Final Answer\n\n18", "18"),
    ("**Final Answer**\n\\[ x = 5 \\]", r"\[ x = 5 \]"),
    ("## Answer:\n**18**\n", "18"),
    (r"\fbox{18}", "18"),
    (r"\boxed 2", "2"),
    (r"so $\boxed 18$.", "18"),
    (r"\\boxed{18}", "18"),
    ("Q: how many?\nA: 42 apples.", "42 apples"),
    ("Ans: 5", "5"),
    ("ANSWER = 12", "12"),
    ("Answer $9$", "$9$"),
    ("The answer should be $5\\frac{1}{2}$ cups.", r"$5\frac{1}{2}$ cups"),
    ("The answer to the second question is 12.", "12"),
    ("The correct option is **B**.", "B"),
    ("The answer is B. Since the others are wrong, it has to be.", "B"),
    ("the answer is 5. Is the answer right? The answer is correct.", "5"),
    (r"\boxed{255} is the interest. Final Answer: The final answer is $10,455$.", "$10,455$"),
    (r"$x=\boxed{1}$ or $x=\boxed{2}$", "1, 2"),
    (r"\boxed{(2, 2)} \quad \text{and} \quad \boxed{(6, 2)}", "(2, 2), (6, 2)"),
    ("Answer:", None),
    ("The answer is", None),
    ("The answer is:\n", None),
    ("#### ", None),
    ("The answer is not 5.", None),
    ("A: 12 W\nB: 14 W", None),
]


@pytest.mark.parametrize(("text", "answer"), C2_MARKERS)
def test_an_answer_ends_where_its_sentence_or_its_reason_does(text: str, answer: str | None) -> None:
    assert final_answer(text) == answer


@pytest.mark.parametrize(
    "unit",
    ["\\boxed{", "\\boxed{1} ", "the answer is ", "Answer:\n", "answer to this and ", "####", "{", "}", "$", "A: "],
)
def test_time_grows_with_the_text_and_no_faster(unit: str) -> None:
    """C6: counted as executed lines of our code, which no other process can change; matching itself is bounded."""

    def steps(repeats: int) -> int:
        count = 0

        def trace(frame: object, event: str, argument: object) -> object:
            nonlocal count
            count += 1
            return trace

        text = unit * repeats
        before = sys.gettrace()
        sys.settrace(trace)  # type: ignore[arg-type]
        try:
            final_answer(text)
        finally:
            sys.settrace(before)
        return count

    assert steps(4000) <= 10 * steps(500)


@given(st.recursive(st.text(alphabet="ab1 +"), lambda s: s.map(lambda t: "{" + t + "}") | st.tuples(s, s).map("".join)))
def test_a_balanced_box_is_taken_whole(content: str) -> None:
    assert final_answer(f"x \\boxed{{1}} y \\boxed{{{content}}} z") == (content.strip() or None)


@given(st.text(alphabet="\\boxed{}answer is:# \n", max_size=80))
def test_any_text_is_survived(text: str) -> None:
    found = final_answer(text)
    assert found is None or found.strip()
