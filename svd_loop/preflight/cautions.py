"""Warnings before a job starts: a slow precision, a development split that is too small, a rate too high for pairs."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping

from svd_loop.config import Config
from svd_loop.config.engines import ServerEngineSection
from svd_loop.config.update import ContrastSection
from svd_loop.preflight.resources import dtype_of
from svd_loop.support.statistics import detectable_difference

SLOWER = 1.5
"""Processor time of a precision, relative to float32, from which a warning is given."""
COARSE = 0.1
"""Smallest difference in pass@1 that a split must be able to detect; a coarser split gets a warning."""
HIGH_RATE = 5.0e-5
"""Rate of an adapter above which `dpo` and `kto` get a warning; at 2e-4 `dpo` made a 0.5B model worse
(docs/results/real-model.md)."""
_POWER = 0.8
_PRODUCT = (64, 1024, 1024)
_TRIES, _REPEATS = 3, 3


class Caution(str):
    """Result of a check that lets the job start and should be looked at first."""

    __slots__ = ()


def slowdown(dtype: str) -> float:
    """Return the processor time of a matrix product in a precision, divided by that in float32, on this machine."""
    return _product_seconds(dtype) / max(_product_seconds("float32"), 1e-9)


def precision(config: Config, *, on_gpu: bool, measured: Callable[[str], float] = slowdown) -> str:
    """Check the precision of generating against the processor; return a `Caution` if float32 would be faster.

    Args:
        config: the job.
        on_gpu: whether the model generates on a GPU, which is not measured.
        measured: returns how much slower a precision is than float32.
    """
    if not config.engine.has_weights:
        return "not needed: a scripted policy computes nothing"
    dtype = dtype_of(config, on_gpu=on_gpu)
    if on_gpu or isinstance(config.engine, ServerEngineSection):
        return f"{dtype}, not on this machine's processor"
    if dtype == "float32":
        return dtype
    factor = measured(dtype)
    if factor < SLOWER:
        return f"{dtype}, at {1 / factor:.1f} times the speed of float32 here"
    return Caution(
        f"model.dtype: {dtype} takes {factor:.1f} times as long as float32 on this processor, which has no "
        "instructions for it; set model.dtype: float32 (weights then take twice the memory)"
    )


def smallest_effect(config: Config, problems: Mapping[str, int]) -> str:
    """Return the smallest difference between two rounds that the development split detects; a `Caution` if large.

    Both rounds are assumed to solve half of all samples, each sample by chance. That is the largest part that sampling
    adds to the spread of a problem's difference; problems that one round has learned and the other has not would add to
    it.
    """
    count, samples = problems.get("development", 0), config.evaluation.samples
    spread = math.sqrt(2 * 0.25 / samples)
    confidence = config.plateau.confidence
    found = min(1.0, detectable_difference(spread, count, confidence=confidence, power=_POWER))
    summary = f"{count} development problems of {samples} samples find differences of about {100 * found:.1f} points"
    if found <= COARSE:
        return summary
    needed = math.ceil(count * (found / COARSE) ** 2) if found < 1.0 else 0
    wanted = f"{needed:,} problems find {100 * COARSE:.0f}" if needed else "a few hundred problems do better"
    return Caution(f"{summary}; smaller ones cannot be told from chance. {wanted} (data.development)")


def preference_rate(config: Config) -> str:
    """Return the rate of the update; a `Caution` if it suits the supervised loss of an adapter and not preferences."""
    update = config.update
    told = f"update.learning_rate {update.learning_rate:g} with {update.algorithm.type}"
    pairs = isinstance(update.algorithm, ContrastSection) and update.method == "lora"
    if not pairs or update.learning_rate <= HIGH_RATE:
        return told
    return Caution(
        f"{told}: adapters mostly learn preferences at 5e-6 to {HIGH_RATE:g}, and a 0.5B model lost 12 points at 2e-4. "
        "Lower it, and watch update/gradient_norm, update/kl and update/reward_accuracy in the first round"
    )


def _product_seconds(dtype: str) -> float:
    """Processor seconds of one product, the best of a few."""
    import torch

    rows, inner, columns = _PRODUCT
    left = torch.ones(rows, inner, dtype=getattr(torch, dtype))
    right = torch.ones(inner, columns, dtype=getattr(torch, dtype))
    found = []
    for _ in range(_TRIES + 1):  # the first one warms up
        began = time.process_time()
        for _ in range(_REPEATS):
            left @ right
        found.append((time.process_time() - began) / _REPEATS)
    return min(found[1:])
