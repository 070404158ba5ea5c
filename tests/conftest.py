"""What holds for all tests: property tests draw the same examples every time, and a slow machine fails none of them."""

from __future__ import annotations

import gc
import os
import shlex
import sys
from collections.abc import Generator
from typing import Any

import pytest
from hypothesis import settings

from svd_loop.support.allocator import let_threads_sleep

let_threads_sleep()
# Imports and collected tests stay to the end: no collection of garbage looks at them, neither meanwhile nor later. Some
# libraries ask for one at every training or page, and each would take 0.3 seconds.
gc.disable()
# The suite runs on the CPU everywhere, so that it means the same on a machine with GPUs; name some here to use them.
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

ENGINES = (
    "tests/policies/engines/test_vllm_engine.py",
    "tests/policies/engines/test_vllm_servers.py",
    "tests/policies/training/test_launching.py",
    "tests/policies/engines/test_engine_probe.py",
    "tests/svd_loop/test_nano_kills.py",
)
"""Files that fork processes from a server with vLLM behind it (`tests.processes`), which one test process needs."""
LONGEST = (
    *ENGINES,
    "tests/policies/cluster/test_on_a_cluster.py",
    "tests/svd_loop/test_nano_job.py",
    "tests/svd_loop/experiments/test_runner.py",
    "tests/svd_loop/test_job_interrupts.py",
)
"""Files in the order in which they are started, before those with other slow tests."""

settings.register_profile("svd-loop", derandomize=True, deadline=None)
settings.load_profile("svd-loop")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int | None:
    """One process more than cores: where a test waits for a process, a server or a time limit, another one computes."""
    return None if "PYTEST_XDIST_AUTO_NUM_WORKERS" in os.environ else len(os.sched_getaffinity(0)) + 1


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes(config: pytest.Config, specs: Any) -> None:
    """The whole suite's processes are forks, and share the servers of forks; lines of imports would not be covered."""
    whole = config.args_source is pytest.Config.ArgsSource.TESTPATHS and config.invocation_params.dir == config.rootpath
    if not whole or config.getoption("cov_source", None):
        return
    from tests.processes import FOR_COMMANDS, FOR_ENGINES, FOR_TESTS

    # Processes that tests kill leave semaphores to `multiprocessing`'s trackers, which remove them and warn of it.
    said = filter(None, (os.environ.get("PYTHONWARNINGS"), "ignore:resource_tracker:UserWarning"))
    os.environ["PYTHONWARNINGS"] = ",".join(said)
    for server in (FOR_TESTS, FOR_ENGINES, FOR_COMMANDS):
        server.share()
    for spec in specs:
        spec.python = shlex.join([sys.executable, "-m", "tests.forked_tests"])


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Whatever has been imported and collected is exempt from garbage collection from now on."""
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> object:
    """With `--dist loadfile`, files in the order of the list, and those of `ENGINES` in one process."""
    if config.option.dist != "loadfile":
        return None
    from xdist.scheduler import LoadScopeScheduling

    class Files(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            path = nodeid.partition("::")[0]
            return "engines" if path in ENGINES else path

    config.option.loadscopereorder = False
    return Files(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes long comes first, so that short files fill the processes' ends."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}

    def rank(item: pytest.Item) -> int:
        path = item.nodeid.partition("::")[0]
        return LONGEST.index(path) if path in LONGEST else len(LONGEST) + (item.path not in slow)

    items.sort(key=rank)
