"""The memory estimate against the resident memory of real updates, in a process of their own.

It takes about ten seconds of processor time: most of them are the imports of a fresh process, whose peak no earlier
test has raised. `benchmarks.update_memory` measures larger sizes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SIZES = (
    *("64,151936,2,lora,128,4", "256,32000,2,full,128,4"),
    *("256,32000,2,full,128,4,dpo", "256,32000,2,full,128,4,grpo"),
)


@pytest.mark.slow
def test_the_estimate_is_within_a_quarter_of_what_an_update_takes() -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "benchmarks.update_memory", "--json", *SIZES],
        cwd=Path(__file__).parents[3],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout.splitlines()[-1])
    ratios = {one["size"]: one["estimated"] / one["seen"] for one in found}
    assert list(ratios) == list(SIZES)
    assert {size: ratio for size, ratio in ratios.items() if not 0.8 < ratio < 1.25} == {}
