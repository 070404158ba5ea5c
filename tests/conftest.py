"""What holds for all tests: property tests draw the same examples every time, and a slow machine fails none of them."""

from __future__ import annotations

from hypothesis import settings

from svd_loop.allocator import let_threads_sleep

let_threads_sleep()

settings.register_profile("svd-loop", derandomize=True, deadline=None)
settings.load_profile("svd-loop")
