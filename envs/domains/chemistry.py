r"""Compare what chemistry writes with letters and digits: formulas, elements, isotopes, electron configurations.

As mathematics `CH_4` would be a product, equal to `C_4H` read without its marks, and `1s^2 2s^2` an expression. Here a
formula is its parts in the order written, so that `\mathrm{H_2O}`, `H2O` and `H₂O(l)` are one formula and `HO2` is
another; the order of charge and sign (`Ca^{+2}`) and of orbitals does not matter.
"""

from __future__ import annotations

import re
from typing import Final

_ELEMENTS_TEXT: Final = (
    "H hydrogen He helium Li lithium Be beryllium B boron C carbon N nitrogen O oxygen F fluorine Ne neon Na sodium "
    "Mg magnesium Al aluminum Si silicon P phosphorus S sulfur Cl chlorine Ar argon K potassium Ca calcium Sc scandium "
    "Ti titanium V vanadium Cr chromium Mn manganese Fe iron Co cobalt Ni nickel Cu copper Zn zinc Ga gallium "
    "Ge germanium As arsenic Se selenium Br bromine Kr krypton Rb rubidium Sr strontium Y yttrium Zr zirconium "
    "Nb niobium Mo molybdenum Tc technetium Ru ruthenium Rh rhodium Pd palladium Ag silver Cd cadmium In indium Sn tin "
    "Sb antimony Te tellurium I iodine Xe xenon Cs cesium Ba barium La lanthanum Ce cerium Pr praseodymium "
    "Nd neodymium "
    "Pm promethium Sm samarium Eu europium Gd gadolinium Tb terbium Dy dysprosium Ho holmium Er erbium Tm thulium "
    "Yb ytterbium Lu lutetium Hf hafnium Ta tantalum W tungsten Re rhenium Os osmium Ir iridium Pt platinum Au gold "
    "Hg mercury Tl thallium Pb lead Bi bismuth Po polonium At astatine Rn radon Fr francium Ra radium Ac actinium "
    "Th thorium Pa protactinium U uranium Np neptunium Pu plutonium Am americium Cm curium Bk berkelium Cf californium "
    "Es einsteinium Fm fermium Md mendelevium No nobelium Lr lawrencium Rf rutherfordium Db dubnium Sg seaborgium "
    "Bh bohrium Hs hassium Mt meitnerium Ds darmstadtium Rg roentgenium Cn copernicium Nh nihonium Fl flerovium "
    "Mc moscovium Lv livermorium Ts tennessine Og oganesson"
)
_WORDS: Final = _ELEMENTS_TEXT.split()
_SYMBOL_OF: Final = {
    **dict(zip(_WORDS[1::2], _WORDS[::2], strict=True)),
    **{"aluminium": "Al", "sulphur": "S", "caesium": "Cs"},
}
_SYMBOL: Final = "(?:" + "|".join(sorted(_WORDS[::2], key=len, reverse=True)) + ")"
_COUNT: Final = r"(?:[2-9]|[1-9]\d{1,2})"
_GROUP: Final = rf"[(\[](?:{_SYMBOL}{_COUNT}?|\({_SYMBOL}(?:{_SYMBOL}|{_COUNT})*\){_COUNT}?)+[)\]]{_COUNT}?"
_PARTS: Final = rf"(?:{_SYMBOL}{_COUNT}?|{_GROUP})+"
_FORMULA: Final = re.compile(rf"\d{{0,2}}{_PARTS}(?:[.*]\d{{0,2}}{_PARTS})?(?:\d?[+-])?")
_SURE: Final = re.compile(rf"(?:{_SYMBOL}|[)\]]){_COUNT}|[+-]$")  # a count or a charge: more than a product of symbols
_ARROW: Final = re.compile(r"\s*(?:\\(?:to|rightarrow|longrightarrow)(?![a-z])|-+>|\u21cc|=)\s*")
_PLUS: Final = re.compile(r"\s+\+\s+|(?<=[A-Za-z\d)])\+(?=\d*[A-Z])")
_STATE: Final = re.compile(r"\((?:aq|s|l|g)\)$")
_REMARK: Final = re.compile(r"\s\([a-z ]{3,60}\)$")
_CHARGE_FIRST: Final = re.compile(r"(?<=[A-Za-z\d)\]])\^?([+-])(\d)$")
TEXT: Final = re.compile(r"\\(?:text|ce)\s*\{((?:[^{}]|\{[^{}]*\})*)\}")
"""A command that only sets its content as text or as a formula; the content is the group."""
_MASS_FIRST: Final = re.compile(rf"\^(\d{{1,3}})(?:_\d{{1,3}})?({_SYMBOL})")
_MASS_LAST: Final = re.compile(r"([A-Za-z]{1,13})-(\d{1,3})")
_CORE: Final = rf"(?P<core>\[{_SYMBOL}\])?"
_ORBITAL: Final = r"[1-8][spdf]\d{1,2}"
_CONFIGURATION: Final = re.compile(rf"{_CORE}(?P<orbitals>(?:{_ORBITAL})+)")
_ORBITALS: Final = re.compile(r"([1-8][spdf])(\d{1,2}?)(?=[1-8][spdf]|$)")
_BASES: Final = re.compile(r"(?:([53])'-?)?([ACGTUN]{3,})(?:-?([53])')?")
_HYBRID: Final = re.compile(r"sp[23]?(?:d[2-4]?)?")
_LONGEST: Final = 120
"""Characters; longer texts are none of these."""


def same_species(gold: str, given: str) -> bool | None:
    """Whether two normalised texts name the same formula, isotope or the like; None if gold names none."""
    if max(len(gold), len(given)) > _LONGEST:
        return None
    for read in (_isotope, _configuration, _sequence):
        if (wanted := read(gold)) is not None:
            return read(given) == wanted
    if (element := _element(gold)) is not None and (found := _element(given)) is not None:
        return element == found
    return _same_equation(gold, given) if _ARROW.search(gold) or _PLUS.search(gold) else _same_formula(gold, given)


def _same_equation(gold: str, given: str) -> bool | None:
    """Whether two reactions, or two sides of one, have the same terms in any order; None if gold has others."""
    wanted, found = ([_PLUS.split(side) for side in _ARROW.split(text)] for text in (gold, given))
    if not all(_term(term) for side in wanted for term in side):
        return None
    return [sorted(map(_term, side)) for side in wanted] == [sorted(map(_term, side)) for side in found]


def _term(text: str) -> str:
    """A formula or an element, perhaps with its number, in one line; empty for other text."""
    flat = re.sub(r"[_^]", "", _STATE.sub("", _flat(text)))
    return flat if _FORMULA.fullmatch(flat) else ""


def _flat(text: str) -> str:
    r"""The text in one line, without what sets it: `\text{SO}_{4}^{2-}` is `SO_4^2-`."""
    text = _REMARK.sub("", TEXT.sub(r"\1", text)).replace(r"\cdot", "*").replace("{", "").replace("}", "")
    return re.sub(r"\s|\\", "", text).strip('."')


def _same_formula(gold: str, given: str) -> bool | None:
    wanted, found = _formula(gold), _formula(given)
    if wanted is None or found is None or wanted[0] != found[0]:
        return False if wanted is not None and _SURE.search(wanted[0]) else None
    # where only one marks its charge, `O2-` may be the oxide or the superoxide
    return not (wanted[1] and found[1]) or wanted[1] == found[1]


def _formula(text: str) -> tuple[str, str] | None:
    """A formula without its marks, and its charge where it is marked as one."""
    flat = _CHARGE_FIRST.sub(r"^\2\1", _STATE.sub("", _flat(text))).replace("^1", "^")
    charge = re.search(r"\^\d?[+-]$", flat)
    flat = re.sub(r"_(?=\d)|\^(?=\d?[+-]$)", "", flat)
    return (flat, charge[0] if charge else "") if _FORMULA.fullmatch(flat) else None


def _element(text: str) -> str | None:
    """The symbol of an element that is named in full, or a symbol by itself."""
    flat = _STATE.sub("", _flat(text))
    return flat if re.fullmatch(_SYMBOL, flat) else _SYMBOL_OF.get(flat.lower())


def _isotope(text: str) -> tuple[str, str] | None:
    flat = _flat(text)
    if found := _MASS_FIRST.fullmatch(flat):
        return found[2], found[1]
    if found := _MASS_LAST.fullmatch(flat):
        symbol = _element(found[1])
        return (symbol, found[2]) if symbol is not None else None
    return None


def _sequence(text: str) -> str | None:
    """The bases of a strand that has its ends marked, from 5' to 3'."""
    found = _BASES.fullmatch(_flat(text).replace("^\\prime", "'"))
    if found is None or not (found[1] or found[3]) or found[1] == found[3]:
        return None
    return found[2] if found[1] == "5" or found[3] == "3" else found[2][::-1]


def _configuration(text: str) -> tuple[str, tuple[str, ...]] | None:
    flat = _flat(text).replace("^", "")
    if _HYBRID.fullmatch(flat):
        return "", (flat,)
    found = _CONFIGURATION.fullmatch(flat)
    if found is None:
        return None
    orbitals = tuple(sorted(shell + count for shell, count in _ORBITALS.findall(found["orbitals"])))
    return (found["core"] or "", orbitals) if found["core"] or len(orbitals) > 1 else None
