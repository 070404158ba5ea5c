"""The wheel holds what the program needs: installed alone, it plays the embedded job in an empty folder.

Dependencies come from this environment, and the project from the wheel: the environment's link to the sources is a
`.pth` file, which Python does not read in a folder that another `.pth` file names.
"""

from __future__ import annotations

import json
import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SMALL = ["job.rounds=1", "data.prompts_per_round=4", "sampling.n=2", "data.test=null", "tracking.enabled=false"]
SMALL += ["data.development.count=4", "evaluation.samples=1", "cascade.votes=1", "health.canaries=0", "health.verify=0"]


@pytest.mark.slow
def test_the_embedded_job_runs_from_the_wheel_alone(tmp_path: Path) -> None:
    def run(*command: str | Path, folder: Path) -> str:
        done = subprocess.run([*map(str, command)], cwd=folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path / "dist", folder=ROOT)
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    environment, empty = tmp_path / "environment", tmp_path / "empty"
    venv.create(environment, with_pip=False)
    (site,) = environment.glob("lib/*/site-packages")
    (site / "dependencies.pth").write_text(str(Path(pytest.__file__).parents[1]))
    python = environment / "bin" / "python"
    run(sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", wheel, folder=ROOT)
    empty.mkdir()
    overrides = [word for setting in SMALL for word in ("-o", setting)]
    result = json.loads(run(environment / "bin" / "svd-loop", "run", "nano", "--json", *overrides, folder=empty))
    assert result["job"] == "nano"
    where = run(python, "-c", "import svd_loop, envs, policies; print(svd_loop.__file__)", folder=empty)
    assert Path(where.strip()).is_relative_to(site)
    assert (empty / "mlruns" / "jobs" / "nano" / "ledger.sqlite").exists()
