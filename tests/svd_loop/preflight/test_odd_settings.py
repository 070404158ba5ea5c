"""Whatever valid settings a job has, `check` ends in checks and a forecast, never in a traceback."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from svd_loop.errors import ConfigError
from svd_loop.preflight.checks import preflight
from tests.svd_loop.jobs_support import small

ODD = {
    "job.rounds": ["0", "1", "3"],
    "data.prompts_per_round": ["null", "1", "1000"],
    "data.development.count": ["1", "4"],
    "sampling.n": ["1", "3"],
    "sampling.block": ["1", "7"],
    "cascade.votes": ["1", "2", "5"],
    "cascade.stages": ["[factuality]", "[correctness]", "[cycle_consistency, correctness]"],
    "cascade.early_exit": ["true", "false"],
    "cascade.order": ["stage_major", "measured"],
    "cascade.audit_share": ["0.0", "1.0"],
    "cascade.selection": ["first_valid"],
    "cascade.fill_rows": ["null", "8"],
    "cascade.frozen_judge": ["true", "false"],
    "cascade.rule": ["unanimous", "majority", "{at_least: 1}"],
    "health.canaries": ["0", "1", "50"],
    "evaluation.audit": ["0", "100"],
    "evaluation.samples": ["2", "3"],
    "evaluation.pass_at": ["[1]"],
    "update.steps": ["1", "null"],
    "update.epochs": ["0.1", "3"],
    "update.replay": ["{rounds: null}", "{rounds: 0, anchor: none}"],
    "update.gradient_checkpointing": ["true"],
    "update.keep_versions": ["null", "1"],
}
CHOSEN = st.fixed_dictionaries({}, optional={key: st.sampled_from(values) for key, values in ODD.items()})


@settings(max_examples=30, deadline=None)
@given(chosen=CHOSEN, candidates=st.sampled_from([1, 3]))
def test_check_ends_in_checks(chosen: dict[str, str], candidates: int) -> None:
    with tempfile.TemporaryDirectory() as root:
        try:
            config = small(Path(root), *(f"{key}={value}" for key, value in chosen.items()))
        except ConfigError as error:
            assert str(error)  # settings that contradict each other are refused at the door
            return
        found = preflight(config, probe=candidates)
    if found.forecast is None:
        assert any(not check.ok and check.detail for check in found.checks)
        return
    for name, figure in (*found.forecast.round.items(), *found.forecast.job.items()):
        assert 0 <= figure.low <= figure.value <= figure.high and math.isfinite(figure.high), name
