"""A few of the places at which `benchmarks/kills.py --job operations` kills: repeated, each operation ends the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.svd_loop.killed_operations import EXPORT, FORGET_WAITING, FORK, INTAKE, PARQUET, Operation, Victim


@pytest.mark.parametrize(
    ("operation", "places"),
    [
        (FORK, (0.3, 0.6, 0.9)),
        (EXPORT, (0.4, 0.7, 1.0)),
        (PARQUET, (0.2, 0.5, 1.0)),
        (INTAKE, (0.3, 0.6, 0.9)),
        (FORGET_WAITING, (0.5, 1.0)),
    ],
)
def test_a_killed_operation_ends_as_if_nothing_had_happened(
    operation: Operation, places: tuple[float, ...], tmp_path: Path
) -> None:
    """`places` say how far through its changes on disk it is killed."""
    victim = Victim(operation, tmp_path)
    for place in places:
        assert victim.kill(max(1, round(place * victim.places))) == []
