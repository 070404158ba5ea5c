"""vLLM's server, whose engine and worker are forks: `python -m tests.policies.engines.forking_server OPTION...`.

For a CPU vLLM starts both as new interpreters, each of which imports everything again, twenty seconds of processor time
in all; as for a GPU before it is first used, they are forked here. Nothing else of the server is changed.
"""

from __future__ import annotations

import multiprocessing
import runpy
from multiprocessing.context import BaseContext
from typing import Any


def fork_everything() -> None:
    """Import what engine and worker will need, and have them forked."""
    import vllm.v1.worker.cpu_model_runner
    import vllm.v1.worker.cpu_worker  # noqa: F401, for the worker
    from vllm.v1.engine import coordinator, core, utils  # noqa: F401, the core for the engine
    from vllm.v1.executor import multiproc_executor

    def forking() -> BaseContext:
        return multiprocessing.get_context("fork")

    starting: tuple[Any, ...] = (coordinator, utils, multiproc_executor)
    for module in starting:
        module.get_mp_context = forking


if __name__ == "__main__":
    fork_everything()
    runpy.run_module("vllm.entrypoints.openai.api_server", run_name="__main__", alter_sys=True)
