"""The limit on open files is raised where it may be, and one error where it is too low."""

from __future__ import annotations

import resource
from collections.abc import Iterator

import pytest

from svd_loop.errors import SvdError
from svd_loop.support.open_files import allow_open_files


@pytest.fixture
def limits(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, tuple[int, int]]]:
    """The limits of a process that is not this one, since a lowered hard limit cannot be raised again."""
    kept = {"now": (0, 0)}
    monkeypatch.setattr(resource, "getrlimit", lambda kind: kept["now"])
    monkeypatch.setattr(resource, "setrlimit", lambda kind, new: kept.update(now=new))
    yield kept


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ((1024, 524288), (4096, 524288)),
        ((24, 1024), (1024, 1024)),
        ((256, 256), (256, 256)),
        ((24, resource.RLIM_INFINITY), (4096, resource.RLIM_INFINITY)),
        ((65536, 65536), (65536, 65536)),
        ((resource.RLIM_INFINITY, resource.RLIM_INFINITY), (resource.RLIM_INFINITY, resource.RLIM_INFINITY)),
    ],
)
def test_the_limit_is_raised_as_far_as_it_may_be(
    limits: dict[str, tuple[int, int]], before: tuple[int, int], after: tuple[int, int]
) -> None:
    limits["now"] = before
    allow_open_files()
    assert limits["now"] == after


@pytest.mark.parametrize("most", [12, 24, 255])
def test_too_low_a_limit_is_one_error_that_names_the_command(limits: dict[str, tuple[int, int]], most: int) -> None:
    limits["now"] = (most, most)
    with pytest.raises(SvdError, match=rf"may have {most} files open, and needs 256: .*ulimit -n 4096"):
        allow_open_files()
