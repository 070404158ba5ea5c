"""`mlflow server` in one process: `python -m tests.svd_loop.forked_mlflow ARGUMENT...`.

MLflow starts its web server as another new interpreter, which imports MLflow again. Here this process becomes the web
server, with the variables that MLflow gives it. Nothing else of the command is changed.
"""

from __future__ import annotations

import os
import runpy
import sys
from collections.abc import Mapping, Sequence

import mlflow.server
from mlflow.cli import cli


def _become(command: Sequence[str], *, extra_env: Mapping[str, str], **_: object) -> None:
    _, kind, module, *arguments = command
    assert kind == "-m", command
    os.environ.update(extra_env)
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
    sys.exit()


if __name__ == "__main__":
    mlflow.server._exec_cmd = _become
    cli(["server", *sys.argv[1:]])
