"""`python -m svd_loop.cli` without drawing figures, for tests that start jobs in processes of their own.

In the tests' own process `tests.svd_loop.conftest` does the same.
"""

from __future__ import annotations

from unittest import mock

from svd_loop.cli import main
from tests.svd_loop.drawing import SAVEFIG, draw_nothing

if __name__ == "__main__":
    with mock.patch(SAVEFIG, draw_nothing):
        main()
