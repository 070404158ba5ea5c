"""`import svd_loop` and its names."""

from __future__ import annotations

import subprocess
import sys

import pytest

import svd_loop
from svd_loop.jobs import run_job


def test_every_public_name_is_there() -> None:
    assert {name: getattr(svd_loop, name) is not None for name in svd_loop.__all__} == dict.fromkeys(
        svd_loop.__all__, True
    )
    assert svd_loop.run_job is run_job and set(svd_loop.__all__) <= set(dir(svd_loop))
    with pytest.raises(AttributeError, match="no attribute 'run_jobs'"):
        _ = svd_loop.run_jobs


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = "import sys, svd_loop; sys.exit(bool({'torch', 'pydantic', 'yaml'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
