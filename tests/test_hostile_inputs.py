"""A sample of the benchmark that spoils what comes from outside; `benchmarks.hostile_inputs` runs thousands."""

from __future__ import annotations

import random

from benchmarks.hostile_inputs import play


def test_every_hostile_input_is_one_clear_error_or_good() -> None:
    results = list(play(60, random.Random(11)))
    assert [result for result in results if result.outcome not in ("good", "error", "quarantined")] == []
    assert {result.kind for result in results} == {"reply", "inbox file", "configuration", "checkpoint"}
    assert {result.outcome for result in results} == {"good", "error", "quarantined"}
