"""What holds for all tests: property tests draw the same examples every time, and a slow machine fails none of them."""

from __future__ import annotations

import os

import pytest
from hypothesis import settings

from svd_loop.support.allocator import let_threads_sleep

let_threads_sleep()
# The suite runs on the CPU everywhere, so that it means the same on a machine with GPUs; name some here to use them.
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

settings.register_profile("svd-loop", derandomize=True, deadline=None)
settings.load_profile("svd-loop")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that start vLLM first, then others with slow tests: what is left to the end is then short."""
    rank: dict[object, int] = {}
    for item in items:
        own = 0 if item.get_closest_marker("vllm") else 1 if item.get_closest_marker("slow") else 2
        rank[item.path] = min(own, rank.get(item.path, own))
    items.sort(key=lambda item: rank[item.path])
