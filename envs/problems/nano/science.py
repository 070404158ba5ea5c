"""Science families: two formulas in a row, answers with units; some are asked as multiple choice."""

from __future__ import annotations

from random import Random

from envs.problems.nano.base import Family, PlanStep, addend, factor


def _motion(rng: Random, level: int) -> dict[str, int]:
    mass, acceleration = factor(rng, level), factor(rng, level)
    return {"F": mass * acceleration, "m": mass, "t": factor(rng, level)}


def _power(rng: Random, level: int) -> dict[str, int]:
    power, time = factor(rng, level), factor(rng, level)
    work = power * time
    distance = rng.choice([d for d in range(2, 13 + level) if work % d == 0 and work // d <= 12 + level] or [time])
    return {"F": work // distance, "d": distance, "t": time}


def _charge(rng: Random, level: int) -> dict[str, int]:
    resistance, current = factor(rng, level), factor(rng, level)
    return {"V": resistance * current, "R": resistance, "t": factor(rng, level)}


def _mass(rng: Random, level: int) -> dict[str, int]:
    return {"r": factor(rng, level), "v": factor(rng, level), "c": addend(rng, level)}


def _wave(rng: Random, level: int) -> dict[str, int]:
    frequency, length = factor(rng, level), factor(rng, level)
    return {"v": frequency * length, "f": frequency, "n": factor(rng, level)}


FAMILIES: tuple[Family, ...] = (
    Family(
        name="motion",
        domain="science",
        topic="speed",
        phrasings=(
            "A force of {F} N pushes a {m} kg cart from rest for {t} s. What speed?",
            "A {m} kg cart at rest feels {F} N for {t} s. Find its speed.",
        ),
        derive=(PlanStep("Acceleration: ", "F", "/", "m"), PlanStep(". Speed: ", "#0", "*", "t")),
        leap=(PlanStep("speed. Acceleration: ", "ans", "/", "t"), PlanStep(", force ", "#0", "*", "m")),
        target="F",
        draw=_motion,
        words={},
        unit="m/s",
    ),
    Family(
        name="power",
        domain="science",
        topic="power",
        phrasings=(
            "A force of {F} N acts along {d} m in {t} s. What power?",
            "In {t} s a force of {F} N moves a box {d} m. Find the power.",
        ),
        derive=(PlanStep("Work: ", "F", "*", "d"), PlanStep(". Power: ", "#0", "/", "t")),
        leap=(PlanStep("power. Work: ", "ans", "*", "t"), PlanStep(", force ", "#0", "/", "d")),
        target="F",
        draw=_power,
        words={},
        unit="W",
    ),
    Family(
        name="charge",
        domain="science",
        topic="charge",
        phrasings=(
            "A {V} V battery feeds a {R} ohm resistor for {t} s. What charge flows?",
            "{V} V lie across {R} ohm for {t} s. Find the charge.",
        ),
        derive=(PlanStep("Current: ", "V", "/", "R"), PlanStep(". Charge: ", "#0", "*", "t")),
        leap=(PlanStep("charge. Current: ", "ans", "/", "t"), PlanStep(", voltage ", "#0", "*", "R")),
        target="V",
        draw=_charge,
        words={},
        unit="C",
    ),
    Family(
        name="mass",
        domain="science",
        topic="mass",
        phrasings=(
            "A {c} g cup holds {v} mL of a liquid of density {r} g/mL. What total mass?",
            "{v} mL of a liquid of {r} g/mL are in a {c} g cup. Find the total mass.",
        ),
        derive=(PlanStep("Liquid: ", "v", "*", "r"), PlanStep(". Total mass: ", "#0", "+", "c")),
        leap=(PlanStep("total mass. Liquid: ", "ans", "-", "c"), PlanStep(", density ", "#0", "/", "v")),
        target="r",
        draw=_mass,
        words={},
        unit="g",
    ),
    Family(
        name="wave",
        domain="science",
        topic="distance",
        phrasings=(
            "A {f} Hz wave moves at {v} m/s. How long are {n} wavelengths?",
            "How long are {n} wavelengths of a wave of {v} m/s and {f} Hz?",
        ),
        derive=(PlanStep("Wavelength: ", "v", "/", "f"), PlanStep(". Length: ", "#0", "*", "n")),
        leap=(PlanStep("length. Wavelength: ", "ans", "/", "n"), PlanStep(", wave speed ", "#0", "*", "f")),
        target="v",
        draw=_wave,
        words={},
        unit="m",
    ),
)
