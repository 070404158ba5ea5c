"""Warnings of `svd-loop check`: the job may start, and should be looked at."""

from __future__ import annotations

from pathlib import Path

import pytest

from svd_loop.config import Config, load_config
from svd_loop.preflight.cautions import Caution, precision, preference_rate, slowdown, smallest_effect
from svd_loop.preflight.checks import preflight
from tests.svd_loop.jobs_support import small

NANO = Path(__file__).parents[3] / "configs" / "nano.yaml"


def nano(root: Path, *overrides: str) -> Config:
    return load_config(NANO, [f"job.root={root}", *overrides])


def test_a_slow_precision_is_a_caution_that_names_the_key(tmp_path: Path) -> None:
    half = nano(tmp_path, "model.dtype=bfloat16")
    slow = precision(half, on_gpu=False, measured=lambda dtype: 6.0)
    assert isinstance(slow, Caution) and "bfloat16 takes 6.0 times" in slow and "set model.dtype: float32" in slow
    fast = precision(half, on_gpu=False, measured=lambda dtype: 0.5)
    assert not isinstance(fast, Caution) and "2.0 times the speed" in fast


def test_where_this_processor_does_not_matter_nothing_is_measured(tmp_path: Path) -> None:
    def never(dtype: str) -> float:
        raise AssertionError(dtype)

    half = "model.dtype=bfloat16"
    served = nano(tmp_path, half, "engine={type: server, endpoints: ['http://localhost:1']}", "update.method=lora")
    for config, gpu in (
        (nano(tmp_path, half), True),
        (served, False),
        (nano(tmp_path), False),
        (small(tmp_path), False),
    ):
        assert not isinstance(precision(config, on_gpu=gpu, measured=never), Caution)


def test_auto_is_the_precision_of_the_checkpoint_on_this_device(tmp_path: Path) -> None:
    assert precision(nano(tmp_path), on_gpu=False) == "float32"


def test_the_measurement_gives_a_ratio() -> None:
    assert slowdown("bfloat16") > 0


@pytest.mark.parametrize(
    ("problems", "points", "caution"), [(4, "31.1", True), (300, "3.6", False), (0, "100.0", True)]
)
def test_a_split_of_a_few_problems_is_a_caution(tmp_path: Path, problems: int, points: str, caution: bool) -> None:
    config = nano(tmp_path, "evaluation.samples=8", "evaluation.pass_at=[1]")
    told = smallest_effect(config, {"development": problems})
    assert f"{problems} development problems of 8 samples find differences of about {points} points" in told
    assert isinstance(told, Caution) == caution == ("data.development" in told)


@pytest.mark.parametrize(
    ("algorithm", "method", "rate", "caution"),
    [
        ("dpo", "lora", 2e-4, True),
        ("kto", "lora", 6e-5, True),
        ("dpo", "lora", 5e-5, False),
        ("dpo", "full", 2e-4, False),  # the embedded model's, which no figure speaks against
        ("grpo", "lora", 2e-4, False),  # clipped
        ("sft", "lora", 2e-4, False),
    ],
)
def test_a_rate_of_sft_is_a_caution_with_preferences(
    tmp_path: Path, algorithm: str, method: str, rate: float, caution: bool
) -> None:
    overrides = (f"update.algorithm.type={algorithm}", f"update.method={method}", f"update.learning_rate={rate}")
    told = preference_rate(nano(tmp_path, *overrides))
    assert told.startswith(f"update.learning_rate {rate:g} with {algorithm}")
    assert isinstance(told, Caution) == caution == ("5e-6 to 5e-05" in told)


def test_a_caution_is_marked_and_refuses_nothing(tmp_path: Path) -> None:
    found = preflight(small(tmp_path, "data.development.count=4"))
    by_name = {check.name: check for check in found.checks}
    assert found.ok and by_name["smallest effect"].warning and not by_name["memory"].warning
    assert by_name["smallest effect"].as_dict()["warning"] is True
