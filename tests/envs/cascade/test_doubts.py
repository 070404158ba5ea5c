"""Words around a marker that make it no verdict, and words that do not."""

from __future__ import annotations

import time

import pytest

from envs.cascade.votes import read_verdict
from svd_loop.contracts import VoteValue

DENIED = (
    *("It is not [[Y]]", "I would never say [[Y]]", "I can't give [[Y]].", "This doesn't deserve [[Y]]", "no [[Y]]"),
    *(
        "[[Y]]?",
        "[[Y]]? No.",
        "[[Y]], not!",
        "[[Y]] is wrong",
        "[[Y]] would be wrong",
        "[[Y]]\nActually no, it is wrong.",
    ),
    *("[[Y]]... wait, the sum is wrong.", "[[Y]]\n\nWait, step 3 is false, so N", "[[Y]] just kidding"),
)
OF_OTHERS = (
    *("The solution says: [[Y]]", "The candidate wrote [[Y]]", "According to the solution, [[Y]]"),
    *("[[Y]] says the solution", "[[Y]], claims the author", "assistant: [[Y]]", "Proposed answer: [[Y]]"),
    *("The prompt asks me to write [[Y]]", "e.g. [[Y]]", "for example: [[Y]]", "such as [[Y]]", "if correct: [[Y]]"),
)
ENCLOSED = (
    *('"""\n[[Y]]\n"""', "'''\n[[Y]]\n'''", "“\n[[Y]]\n”", "«\n[[Y]]\n»", "/* [[Y]] */", "<tt>[[Y]]</tt>"),
    *("\\begin{verbatim}\n[[Y]]\n\\end{verbatim}", "\\texttt{[[Y]]}", "\\verb|[[Y]]|", "\\sout{[[Y]]}"),
)
CONTRADICTED = (
    *("[[錯]]\n[[Y]]", "[[❌]]\n[[Y]]", "[[✗]]\n[[Y]]", "[[?]]\n[[Y]]", "[[-]]\n[[Y]]", "[[0]]\n[[Y]]", "[[]]\n[[Y]]"),
    *(
        "[[\\text{N}]]\n[[Y]]",
        "[[$N$]]\n[[Y]]",
        "[[\U0001f15d]]\n[[Y]]",
        "[ [N] ]\n[[Y]]",
        "【N】\n[[Y]]",
        "「N」\n[[Y]]",
    ),
    *(
        "((N))\n[[Y]]",
        "{{N}}\n[[Y]]",
        "<<N>>\n[[Y]]",
        "Verdict: N\n[[Y]]",
        "My verdict: no\n[[Y]]",
        "Verdict: yes\n[[N]]",
    ),
)


@pytest.mark.parametrize("reply", [*DENIED, *OF_OTHERS, *ENCLOSED, *CONTRADICTED])
def test_a_marker_in_doubt_is_no_verdict(reply: str) -> None:
    assert read_verdict(reply) is VoteValue.INVALID


@pytest.mark.parametrize(
    "reply, expected",
    [
        ("There is no error in the proof: [[Y]]", VoteValue.YES),
        ("This is not right. [[N]]", VoteValue.NO),
        ("The author says 4, which is right. [[Y]]", VoteValue.YES),
        ("If x = 2, then both sides are 4. [[Y]]", VoteValue.YES),
        ('It is called "odd". [[Y]]', VoteValue.YES),
        ("So I say: [[Y]].", VoteValue.YES),
        ("[[Y]] because no step is wrong", VoteValue.YES),
        ("[[1, 2]]\n\nis the matrix.\n[[Y]]", VoteValue.YES),
        ("The answer to the question is: no\n\n[[Y]]", VoteValue.YES),
        ("Final verdict: no, the sum is wrong.\n\n[[N]]", VoteValue.NO),
        ("Verdict: N\n[[N]]", VoteValue.NO),
        ("“Odd” and «even» are defined.\n[[Y]]", VoteValue.YES),
    ],
)
def test_other_words_do_not_cost_the_verdict(reply: str, expected: VoteValue) -> None:
    assert read_verdict(reply) is expected


@pytest.mark.parametrize("shape", ["not ", "says ", "Verdict: ", "“", '"""', "if ", "((N", "[[ ]", "/*", "[["])
def test_time_is_linear_in_the_text(shape: str) -> None:
    text = shape * (50_000 // len(shape)) + "\n[[Y]]"
    started = time.process_time()
    read_verdict(text)
    assert time.process_time() - started < 5.0
