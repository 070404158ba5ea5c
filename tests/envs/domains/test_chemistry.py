"""Formulas, isotopes and configurations; most cases are rows of `benchmarks/data/spellings.jsonl`."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envs.domains.chemistry import same_species
from envs.domains.spelling import spelled

ATOMS = st.lists(
    st.tuples(st.sampled_from(["H", "C", "N", "O", "Na", "Cl", "Fe"]), st.integers(2, 12)), min_size=2, max_size=4
)


@given(ATOMS, ATOMS)
def test_formulas_are_the_same_only_with_the_same_parts_in_every_spelling(
    one: list[tuple[str, int]], other: list[tuple[str, int]]
) -> None:
    plain = "".join(f"{symbol}{count}" for symbol, count in one)
    for style in ("{0}_{1}", "{0}_{{{1}}}", r"\mathrm{{{0}}}_{1}", r"\text{{{0}}}_{{{1}}}"):
        set_out = "".join(
            style.format(symbol, count) if count < 10 else f"{symbol}_{{{count}}}" for symbol, count in other
        )
        assert same_species(plain, spelled(set_out)) is (one == other)


@given(ATOMS, st.integers(1, 4), st.sampled_from("+-"), st.integers(1, 4), st.sampled_from("+-"))
def test_charges_are_told_apart(atoms: list[tuple[str, int]], one: int, sign: str, other: int, another: str) -> None:
    ion = "".join(f"{symbol}_{{{count}}}" for symbol, count in atoms)
    first, second = f"{ion}^{{{one}{sign}}}", f"{ion}^{{{another}{other}}}"
    assert same_species(spelled(first), spelled(second)) is ((one, sign) == (other, another))


@pytest.mark.parametrize(
    "gold", ["x^2", "2PV", "P1V1", "V^2/R", "e^-", "DNA", "3d", "2p^2", "NaCl", "the gas helium", "F = ma", "", "K + x"]
)
def test_other_texts_are_left_to_mathematics_and_words(gold: str) -> None:
    assert same_species(spelled(gold), "x + 1") is None


@given(st.text(max_size=60), st.text(alphabet="HCO235()[]{}^_+-.*'$\\ sapd", max_size=120))
def test_any_text_is_survived_in_time(one: str, other: str) -> None:
    assert same_species(spelled(one), spelled(other)) in (True, False, None)
    assert same_species(other, one) in (True, False, None)


def test_time_does_not_grow_with_repeated_parts() -> None:
    assert same_species("(CH)" * 30, "[" + "(CH2)2" * 19) is not True
