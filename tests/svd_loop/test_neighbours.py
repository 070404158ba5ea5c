"""Another package called `envs` or `policies` in front of ours is one clear error at the first import."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", ["envs", "policies"])
def test_a_foreign_package_in_front_of_ours_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / name / "__init__.py").touch()
    program = f"import sys; sys.path[:0] = [{str(tmp_path)!r}, {str(ROOT)!r}]; import svd_loop"
    done = subprocess.run([sys.executable, "-P", "-c", program], capture_output=True, text=True, cwd="/")
    assert done.returncode == 1
    assert f"its own package '{name}'" in done.stderr and str(tmp_path / name) in done.stderr
