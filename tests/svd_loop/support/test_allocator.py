"""The one call into the C library."""

from __future__ import annotations

import platform

from svd_loop.support.allocator import keep_freed_memory


def test_glibc_takes_the_setting_and_others_are_left_alone() -> None:
    assert keep_freed_memory() is (platform.libc_ver()[0] == "glibc")
    assert keep_freed_memory() is keep_freed_memory()
