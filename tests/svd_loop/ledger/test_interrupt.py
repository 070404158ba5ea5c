from __future__ import annotations

import logging
import os
import signal
from collections.abc import Iterator

import pytest

from svd_loop.errors import JobInterrupted
from svd_loop.ledger import Interrupt


@pytest.fixture
def database_errors() -> Iterator[logging.Logger]:
    """The logger that would print the trace of a statement that was interrupted."""
    level = logging.getLogger("sqlalchemy").level
    yield logging.getLogger("sqlalchemy.pool.impl.QueuePool")
    logging.getLogger("sqlalchemy").setLevel(level)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_asks_and_the_second_stops(number: signal.Signals, database_errors: logging.Logger) -> None:
    notes = []
    before = signal.getsignal(number)
    with Interrupt(lambda: notes.append("stopping")) as interrupt:
        interrupt.check()
        os.kill(os.getpid(), number)
        assert interrupt.requested and notes == ["stopping"]
        with pytest.raises(JobInterrupted, match="same command"):
            interrupt.check()
        assert database_errors.isEnabledFor(logging.ERROR)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)
        assert not database_errors.isEnabledFor(logging.ERROR)
    assert signal.getsignal(number) is before
    assert notes == ["stopping"]
