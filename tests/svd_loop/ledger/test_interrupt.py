from __future__ import annotations

import os
import signal

import pytest

from svd_loop.errors import JobInterrupted
from svd_loop.ledger import Interrupt


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_asks_and_the_second_stops(number: signal.Signals) -> None:
    notes = []
    before = signal.getsignal(number)
    with Interrupt(lambda: notes.append("stopping")) as interrupt:
        interrupt.check()
        os.kill(os.getpid(), number)
        assert interrupt.requested and notes == ["stopping"]
        with pytest.raises(JobInterrupted, match="same command"):
            interrupt.check()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)
    assert signal.getsignal(number) is before
    assert notes == ["stopping"]
