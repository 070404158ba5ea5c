"""The call into the C library, and the variables that oneDNN reads."""

from __future__ import annotations

import os
import platform

import pytest

from svd_loop.support.allocator import bound_kernel_caches, keep_freed_memory


def test_glibc_takes_the_setting_and_others_are_left_alone() -> None:
    assert keep_freed_memory() is (platform.libc_ver()[0] == "glibc")
    assert keep_freed_memory() is keep_freed_memory()


def test_caches_of_kernels_are_small_unless_the_user_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LRU_CACHE_CAPACITY", "1024")
    monkeypatch.delenv("ONEDNN_PRIMITIVE_CACHE_CAPACITY", raising=False)
    bound_kernel_caches()
    assert (os.environ["LRU_CACHE_CAPACITY"], os.environ["ONEDNN_PRIMITIVE_CACHE_CAPACITY"]) == ("1024", "64")
