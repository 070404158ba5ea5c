"""``svd-loop nano build``: train, measure and document a nano checkpoint in one call."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from svd_loop.nano.card import write_card
from svd_loop.nano.measure import measure
from svd_loop.nano.train import PHASES, SIZES, Recipe, train

_QUICK_STEPS = 40


def build(
    output_dir: Path | str,
    *,
    size: str = "nano",
    seed: int = 0,
    steps: int | None = None,
    quick: bool = False,
) -> dict[str, Any]:
    """Build a checkpoint with its measurements and card.

    Args:
        output_dir: folder to write to; files of an earlier build are replaced.
        size: small, nano or large.
        seed: seed of weights, data and measurement.
        steps: optimizer steps of about 2,400 tokens, over all phases; None is the recipe's number.
        quick: run a few steps and problems only, as a test of the code; the model is useless.

    Returns:
        The measurements, as written to ``measurements.json``.

    Raises:
        ValueError: ``size`` is unknown or ``steps`` is not positive.
    """
    if size not in SIZES:
        raise ValueError(f"size must be one of {', '.join(SIZES)}, got {size!r}")
    if steps is not None and steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}")
    checkpoint = Path(output_dir)
    usual = sum(phase.steps for phase in PHASES)
    wanted = usual if steps is None else steps
    share = (min(wanted, _QUICK_STEPS) if quick else wanted) / usual
    phases = tuple(replace(phase, steps=max(1, round(phase.steps * share))) for phase in PHASES)
    train(Recipe(size=size, seed=seed, phases=phases), checkpoint)
    measured = measure(checkpoint, problems=2, samples=2, judged=1) if quick else measure(checkpoint, seed=seed)
    (checkpoint / "measurements.json").write_text(json.dumps(measured, indent=2) + "\n", encoding="utf-8")
    write_card(checkpoint)
    return measured
