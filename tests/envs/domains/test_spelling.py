from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envs.domains.spelling import spelled


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("∞", r"\infty"),
        ("1½", r"1\frac{1}{2}"),
        ("√2 + √(x+1)", r"\sqrt{2} + \sqrt{x+1}"),
        ("x₁²³", "x_{1}^{23}"),
        (r"1\,234\,567", "1234567"),
        (r"\frac{12}{5,\!525}", r"\frac{12}{5525}"),
        ("(1,000)", "(1,000)"),
        (r"0.1\overline{6}", r"\frac{15}{90}"),
        (r"\left(3,\dfrac{\pi}{2}\right)", r"(3,\frac{\pi}{2})"),
        (r"{1 \over 2}", r"\frac{1 }{ 2}"),
        (r"\textbf{(A)}", r"\text{(A)}"),
        ("$5$ and $6$", "5 and 6"),
        (r"\$5", "$5"),
        (r"\\boxed{\\frac{1}{2}}", r"\boxed{\frac{1}{2}}"),
        (r"\[ \begin{bmatrix} 1 \\ 4 \end{bmatrix} \]", r"\begin{pmatrix} 1 \\ 4 \end{pmatrix}"),
        ("１２", "12"),
    ],
)
def test_one_spelling(text: str, plain: str) -> None:
    assert spelled(text) == plain


@given(st.text(max_size=60))
def test_any_text_is_survived_and_spelled_once(text: str) -> None:
    assert spelled(spelled(text)) is not None
