r"""Parse the unit behind a number, and recognise words that are not a unit.

A unit is read from plain words (`meters per second`), symbols (`m/s^2`, `J mol^-1 K^-1`) and LaTeX (`\frac{m}{s^2}`,
`\text{ kg}\,\text{m}`) into factors with integer exponents in one form: `m*s^-2`. Only this form reaches `pint`, and
only in the child process (`envs.domains.library`), so that nested powers or brackets cannot keep it busy.

Words that change the meaning ("or", "more", "not") are not units, so that `3 or 4` and `5 or more` are neither 3 nor 5.
"""

from __future__ import annotations

import functools
import re
from fractions import Fraction
from typing import Final

_LONGEST: Final = 80
"""Characters of a unit."""
_MOST_FACTORS: Final = 8
_LARGEST_EXPONENT: Final = 12
_WORDS_OF_A_THING: Final = 4
"""Words that may name what is counted ("square feet of carpet")."""

_NOT_UNITS_TEXT: Final = (
    "or and to more less fewer most least than not no non none about around over under up down between either "
    "neither both plus minus times divided by if when but except without unless approximately nearly almost "
    "roughly mod modulo remainder sin cos tan cot csc log ln exp lim max det gcd lcm sqrt pi infinity undefined"
)
NOT_UNITS: Final = frozenset(_NOT_UNITS_TEXT.split())
_SAYS_MORE_TEXT: Final = (
    "below above beyond negative wrong incorrect false true never cannot maybe perhaps is are was were be isn aren "
    "wasn weren will would should could can may might must does did has have had which that this because since "
    "unlike instead rather ten twenty hundred thousand ninth tenth hundredth thousandth"
)
_SAYS_MORE: Final = NOT_UNITS | frozenset(_SAYS_MORE_TEXT.split())
"""Words behind a number that say more than what is counted ("3 is wrong", "3 below zero", "3 ten thousandths")."""
_PARTS_OF_NUMBERS_TEXT: Final = (
    "squared cubed factorial dozen dozens halves thirds fourths fifths sixths sevenths eighths ninths tenths "
    "hundredths thousandths percentile gross score"
)
_PARTS_OF_NUMBERS: Final = frozenset(_PARTS_OF_NUMBERS_TEXT.split())
"""First words behind a number that make another number of it ("3 dozen")."""
_CURRENCY: Final = {
    **{"$": "dollar", "usd": "dollar", "€": "euro", "eur": "euro", "£": "pound_sterling", "gbp": "pound_sterling"},
    **{"¥": "yen", "₹": "rupee", "rs": "rupee", "¢": "cent", "₽": "ruble", "₩": "won", "bucks": "dollar"},
    **{"dollars": "dollar", "euros": "euro", "cents": "cent", "rupees": "rupee"},
}
_WORDS: Final = {
    "per": "/",
    "squared": "^2",
    "cubed": "^3",
    **dict.fromkeys(("square", "sq"), "2"),
    "cubic": "3",
    "cu": "3",
}
_NO_FACTORS: Final = frozenset(
    ("of", "the", "a", "an", "in", "is", "are", "was", "were", "i", "it", "we", "you", *NOT_UNITS, *_PARTS_OF_NUMBERS)
)
_ALIASES: Final = {
    **{
        "celsius": "degC",
        "fahrenheit": "degF",
        "°C": "degC",
        "°F": "degF",
        "°": "degree",
        "Ω": "ohm",
        "µΩ": "microohm",
    },
    **{"deg": "degree", "mph": "mile*hour^-1", "kph": "kilometer*hour^-1", "kmh": "kilometer*hour^-1", "hr": "hour"},
    **{
        "hrs": "hour",
        "sec": "second",
        "secs": "second",
        "mins": "minute",
        "lbs": "lb",
        "cc": "cm^3",
        "kelvins": "kelvin",
    },
    **{"metre": "meter", "metres": "meter", "litre": "liter", "litres": "liter"},
    **{
        "°R": "degR",
        "Å": "angstrom",
        "percent": "%",
        "percentage": "%",
        "pct": "%",
        "yrs": "year",
        "yr": "year",
        "mol/L": "mol*L^-1",
        **{"amp": "ampere", "amps": "ampere", "gm": "gram", "gms": "gram", "kgs": "kg", "kms": "km", "cms": "cm"},
        "M": "molar",
    },
}
_SYMBOLS_TEXT: Final = (
    "m g s h d L l N J W V A K C F T H Hz Pa Ω % $ € £ ¥ ° km cm mm nm um kg mg ml mL cl dl ft in lb oz yd mi hr "
    "min sec mph kph kmh eV keV MeV GeV kJ MJ kW MW GW kWh kN kPa MPa GPa kHz MHz GHz mol mmol dB rad sr atm bar "
    "ms ns us mA mV kV kΩ MΩ cal kcal ha rpm cd lm lx Wb Bq Gy Sv kat °C °F degC degF lbs hrs mins yr yrs USD EUR "
    "GBP pm fm dm hPa mW µm µs µg µF µC µA µV nC nF pF mF mH mT psi hp Torr mmHg gal qt pt tsp tbsp"
)
_SYMBOLS: Final = frozenset(_SYMBOLS_TEXT.split())
_MICRO: Final = re.compile(r"\\mu\s*(?:\\text\s*\{([^{}]*)\})?")
_FRACTION: Final = re.compile(r"\\frac\s*\{((?:[^{}]|\{[^{}]*\})*)\}\s*\{((?:[^{}]|\{[^{}]*\})*)\}")
_TEXT: Final = re.compile(r"\\text\s*\{((?:[^{}]|\{[^{}]*\})*)\}")
_DEGREES: Final = re.compile(
    r"\^\s*\{?\s*(?:\\circ|°)\s*\}?\s*(?:\\text\s*\{\s*([CFKR])\s*\}|([CFKR])(?![a-zA-Z]))?"
    r"|\bdeg(?:rees?)?\.?\s+(celsius|fahrenheit|[CF]\b)",
    re.IGNORECASE,
)
TEMPERATURES: Final = {
    **{"K": (Fraction(1), Fraction(0)), "kelvin": (Fraction(1), Fraction(0))},
    **{"degC": (Fraction(1), Fraction("273.15")), "degF": (Fraction(5, 9), Fraction("459.67") * Fraction(5, 9))},
    "degR": (Fraction(5, 9), Fraction(0)),
}
"""Scales of temperature: size of a degree in kelvin, and the kelvin of their zero."""
_LETTERS: Final = "a-zA-ZµΩ°Å%$€£¥₹¢₽₩"
_TOKEN: Final = re.compile(
    rf"\s*(?:(?P<name>[{_LETTERS}]+)|(?P<power>\^\s*\{{?\s*(?P<n>[+-]?\d{{1,3}})\s*\}}?)|(?P<sign>[*/()·]))"
)


@functools.lru_cache(maxsize=8192)
def unit(text: str) -> str | None:
    """A normalised text as a unit in one form (`m*s^-2`); empty for empty text, None if it is not a unit."""
    if len(text) > _LONGEST:
        return None
    plain = _plain(text)
    if not plain:
        return ""
    factors = _factors(plain)
    if factors is None or len(factors) > _MOST_FACTORS or max(map(abs, factors.values())) > _LARGEST_EXPONENT:
        return None
    kept = sorted((name, power) for name, power in factors.items() if power)
    return "*".join(name if power == 1 else f"{name}^{power}" for name, power in kept)


def temperature(given: str, wanted: str) -> tuple[Fraction, Fraction]:
    """Factor and offset that turn a temperature of one of the `TEMPERATURES` into another."""
    (size, zero), (wanted_size, wanted_zero) = TEMPERATURES[given], TEMPERATURES[wanted]
    return size / wanted_size, (zero - wanted_zero) / wanted_size


def is_symbol(text: str) -> bool:
    """Whether a plain text is a unit symbol that can follow a number without a space."""
    found = unit(text)
    plain = _plain(text)
    names = re.findall(rf"[{_LETTERS}]+", plain)
    return (
        found is not None
        and bool(names)
        and all(name in _SYMBOLS or name.lower() in _CURRENCY or name.lower() in _WORDS for name in names)
    )


def is_set_as_text(text: str) -> bool:
    r"""Whether the whole unit is formatted as text (`\text{ cm}^2`), so that no letter of it can be a variable."""
    return bool(_TEXT.search(text)) and not re.search(
        r"[a-zA-Z]", re.sub(r"\\(?:cdot|circ|mu|Omega|frac)", "", _TEXT.sub("", text))
    )


def counts_things(text: str) -> bool:
    """Whether a text behind a number only names what is counted: a few plain words, or units."""
    if len(text) > _LONGEST:
        return False
    plain = re.sub(r"\([a-zA-Z\s.]*\)$", "", _plain(text)).strip(" .,")
    words = re.findall(r"[^\W\d_]+", plain)
    if len(words) > 2 * _WORDS_OF_A_THING or any(word.lower() in _SAYS_MORE for word in words if plain != "times"):
        return False
    if words and words[0].lower() in _PARTS_OF_NUMBERS:
        return False
    if plain == "times" or unit(text) is not None:
        return True
    return bool(words) and not re.search(r"[\d\\=<>+*^_{}\[\](),;:|!?]", plain)


def same_thing(one: str, other: str) -> bool:
    """Whether two units are the same word, ignoring number and case ("Apples", "apple")."""
    return _stem(one) == _stem(other)


def _stem(text: str) -> str:
    words = re.findall(r"[a-z]+|[^\sa-z]", _plain(text).lower())
    return " ".join(
        word.removesuffix("es") if word.endswith(("shes", "ches", "xes")) else word.rstrip("s") for word in words
    )


def _plain(text: str) -> str:
    """A unit without LaTeX."""
    text = _MICRO.sub(lambda found: "µ" + (found[1] or "").strip(), text)
    text = _DEGREES.sub(lambda found: f" °{(found[1] or found[2] or found[3] or '')[:1].upper()} ", text)
    for _ in range(2):
        text = _FRACTION.sub(r"(\1)/(\2)", text)
        text = _TEXT.sub(r" \1", text)
    text = (
        text.replace("\\Omega", "Ω")
        .replace("\\cdot", "*")
        .replace("\\times", "*")
        .replace("\\circ", "°")
        .replace("\\mu", "µ")
    )
    text = re.sub(r"^\s*1\s*/", "/", text)
    text = re.sub(r"\b((?:sq|cu|square|cubic)\.?)\s+in\b", r"\1 inch", re.sub(r"(?<=[a-z])-(?=[a-z])", " ", text))
    text = re.sub(r"\bper\s+cent\b", "percent", text)
    text = re.sub(r"\belectron\s+volts?\b", "eV", text)
    text = re.sub(r"µ\s+(?=[a-zA-Z]\b)", "µ", text)
    text = re.sub(r"([a-zA-Z]) Ω", r"\1Ω", text)
    text = re.sub(r"(?<=[a-zA-Z])\.(?=[\s)]|$)", "", text)
    return " ".join(text.replace("\\", " \\").split()).strip(" .,~")


def _tokens(text: str) -> list[str] | None:
    """Names, `^n`, `*`, `/`, brackets, and `2` or `3` for "square" and "cubic"; None for anything else."""
    found, place = [], 0
    while place < len(text):
        token = _TOKEN.match(text, place)
        if token is None:
            return None
        word = token["name"] or ""
        found.append(f"^{token['n']}" if token["power"] else _WORDS.get(word.lower()) or word or token["sign"])
        place = token.end()
    return found


def _factors(text: str) -> dict[str, int] | None:
    """Exponents by name; None if the text is not a product of units."""
    factors: dict[str, int] = {}
    outer: list[int] = []  # exponents of the brackets around the current position
    around, sign, raised = 1, 1, 1
    last: tuple[str, int] | None = None
    for token in _tokens(text) or ["?"]:
        if token.startswith("^"):
            power = int(token[1:])
            if last is None or abs(power) > _LARGEST_EXPONENT:
                return None
            factors[last[0]] += last[1] * (power - 1)
            last = None
        elif token in ("*", "·", "/"):
            sign, last = (-1 if token == "/" else sign), None
        elif token == "(":
            outer.append(around)
            around, sign, last = around * sign, 1, None
        elif token == ")":
            if not outer:
                return None
            around, sign, last = outer.pop(), 1, None
        elif token.isdigit():
            raised = int(token)
        elif token == "?" or token.lower() in _NO_FACTORS:
            return None
        else:
            token = token.lower() if token.istitle() and len(token) > 3 and token not in _SYMBOLS else token  # "Joule"
            for part in _ALIASES.get(token, _CURRENCY.get(token.lower(), token)).split("*"):
                name, _, power_of_part = part.partition("^")
                last = (name, around * sign * raised)
                factors[name] = factors.get(name, 0) + last[1] * int(power_of_part or 1)
            raised = 1  # and the sign stays: what follows a bare slash is in the denominator, as in J/mol K
    return factors if factors and not outer else None
