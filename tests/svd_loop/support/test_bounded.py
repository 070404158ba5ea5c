from __future__ import annotations

import threading

import pytest

from svd_loop.support.bounded import OverrunError, run_bounded


def forever() -> None:
    while True:
        pass


def test_what_ends_gives_its_result_or_its_error() -> None:
    assert run_bounded(lambda: 7, 60.0) == 7
    with pytest.raises(ZeroDivisionError):
        run_bounded(lambda: 1 // 0, 60.0)


def test_what_does_not_end_is_ended_in_any_thread() -> None:
    with pytest.raises(OverrunError):
        run_bounded(forever, 0.05)
    seen: list[BaseException] = []

    def elsewhere() -> None:
        try:
            run_bounded(forever, 0.05)
        except OverrunError as error:
            seen.append(error)

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join(60.0)
    assert len(seen) == 1
