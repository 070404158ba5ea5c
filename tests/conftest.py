"""What holds for all tests: property tests draw the same examples every time, and a slow machine fails none of them."""

from __future__ import annotations

import gc
import os
from collections.abc import Generator

import pytest
from hypothesis import settings

from svd_loop.support.allocator import let_threads_sleep

let_threads_sleep()
# Imports and collected tests stay to the end: no collection of garbage looks at them, neither meanwhile nor later. Some
# libraries ask for one at every training or page, and each would take 0.3 seconds.
gc.disable()
# The suite runs on the CPU everywhere, so that it means the same on a machine with GPUs; name some here to use them.
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

settings.register_profile("svd-loop", derandomize=True, deadline=None)
settings.load_profile("svd-loop")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int | None:
    """One process more than cores: where a test waits for a process, a server or a time limit, another one computes."""
    return None if "PYTEST_XDIST_AUTO_NUM_WORKERS" in os.environ else len(os.sched_getaffinity(0)) + 1


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Whatever has been imported and collected is exempt from garbage collection from now on."""
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that start vLLM first, then others with slow tests: what is left to the end is then short."""
    rank: dict[object, int] = {}
    for item in items:
        own = 0 if item.get_closest_marker("vllm") else 1 if item.get_closest_marker("slow") else 2
        rank[item.path] = min(own, rank.get(item.path, own))
    items.sort(key=lambda item: rank[item.path])
