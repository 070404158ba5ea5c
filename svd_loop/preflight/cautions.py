"""What lets a job start and may still spoil it: a precision that is slow here, a split that shows little."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping

from svd_loop.config import Config
from svd_loop.config.engines import ServerEngineSection
from svd_loop.support.statistics import detectable_difference

SLOWER = 1.5
"""A precision that takes this many times the processor time of float32 is worth a word."""
COARSE = 0.1
"""A split that finds no smaller difference in pass@1 than this is too small to judge rounds by."""
_POWER = 0.8
_PRODUCT = (64, 1024, 1024)
_TRIES, _REPEATS = 3, 3


class Caution(str):
    """What a check found where the job can start, but something should be looked at."""

    __slots__ = ()


def slowdown(dtype: str) -> float:
    """Processor time of a matrix product in a precision, over that in float32, on this machine's processor."""
    return _product_seconds(dtype) / max(_product_seconds("float32"), 1e-9)


def precision(config: Config, *, on_gpu: bool, measured: Callable[[str], float] = slowdown) -> str:
    """Whether the precision of generating suits the processor; a `Caution` where float32 would be faster.

    Args:
        config: the job.
        on_gpu: generating is a GPU's business, which is not measured.
        measured: gives how much slower a precision is than float32.
    """
    dtype = config.model.dtype
    if not config.engine.has_weights:
        return "a script computes nothing"
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
    """The smallest difference between two rounds that the development split finds; a `Caution` where it is coarse.

    Both rounds are taken to solve half of all samples, each by chance alone: the most that sampling adds to the
    spread of a problem's difference, and nothing for problems that one round has learned and the other has not.
    """
    count, samples = problems.get("development", 0), config.evaluation.samples
    spread = math.sqrt(2 * 0.25 / samples)
    confidence = config.plateau.confidence
    found = min(1.0, detectable_difference(spread, count, confidence=confidence, power=_POWER))
    told = f"{count} development problems of {samples} samples find differences of about {100 * found:.1f} points"
    if found <= COARSE:
        return told
    needed = math.ceil(count * (found / COARSE) ** 2) if found < 1.0 else 0
    wanted = f"{needed:,} problems find {100 * COARSE:.0f}" if needed else "a few hundred problems do better"
    return Caution(f"{told} and no smaller ones: rounds will be told apart by chance. {wanted} (data.development)")


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
