"""The judge's panel in the estimate: its size, its tokens and the drift it can show, by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from scipy import stats

from svd_loop.preflight.panel_estimate import describe_panel, slowest_drift
from svd_loop.preflight.work import Forecast, forecast
from tests.svd_loop.jobs_support import small
from tests.svd_loop.preflight.test_work import NEVER, SURE, measured

VOTE = (5 + 5 + 7 + 9) / 3
"""Tokens of a vote: a call of each judge in `test_work`, over three stages."""
WRITTEN = 36 * (100 + 2 * 3 * VOTE)
"""Tokens of a round in which every vote is a yes: 18 prompts, blocks of two, two votes of three stages."""


def estimated(root: Path, *overrides: str, prompts: int = 18) -> Forecast:
    config = small(root, f"data.prompts_per_round={prompts}", *overrides)
    return forecast(config, measured(SURE), prompts=prompts, held_out={})


def test_a_panel_has_the_votes_that_its_share_pays_for(tmp_path: Path) -> None:
    found = estimated(tmp_path, "health.panel=0.1", prompts=180)
    assert found.panel.affordable == found.panel.votes == int(0.1 * 10 * WRITTEN / (2 * VOTE)) == 315
    assert found.panel.tokens == pytest.approx(2 * 315 * VOTE)
    assert "315 votes of each half for 5,460 tokens a round; a drift by 1.2 points" in describe_panel(found.panel)


def test_its_tokens_and_hours_are_part_of_the_job(tmp_path: Path) -> None:
    found, without = (estimated(tmp_path, f"health.panel={share}", prompts=180) for share in (0.1, 0.0))
    assert found.round["panel_tokens"].value == pytest.approx(found.panel.tokens)
    assert found.job["panel_tokens"].value == pytest.approx(2 * found.panel.tokens)
    more = {name: found.job[name].value - without.job[name].value for name in ("output_tokens", "prompt_tokens")}
    assert more["output_tokens"] == pytest.approx(2 * found.panel.tokens)
    assert more["prompt_tokens"] == pytest.approx(2 * 2 * 315 * (20 + 20 + 30 + 30) / 3)
    hours = more["output_tokens"] / 100 + more["prompt_tokens"] / 1000
    assert found.job["hours"].value - without.job["hours"].value == pytest.approx(hours / 3600)
    assert found.round["output_tokens"] == without.round["output_tokens"]


def test_a_panel_has_no_more_votes_than_there_are_on_the_accepted_solutions(tmp_path: Path) -> None:
    found = estimated(tmp_path, "health.panel=1.0")
    assert found.panel.affordable == 315 and found.panel.votes == pytest.approx(18 * 2 * 3, rel=1e-6)
    never = forecast(small(tmp_path, "health.panel=1.0"), measured(NEVER), prompts=18, held_out={})
    assert never.panel.votes < 1 and "too few solutions" in describe_panel(never.panel)


def test_a_share_that_is_too_small_names_the_one_that_pays(tmp_path: Path) -> None:
    found = estimated(tmp_path).panel
    assert found.votes == found.tokens == 0 and found.drift is None
    assert found.share_needed == pytest.approx(2 * 200 * VOTE / WRITTEN)
    said = describe_panel(found)
    assert said.startswith("none: health.panel: 0.05 pays for 15 votes of each half of the 200")
    assert said.endswith("is not seen; health.panel: 0.64 pays for 200")
    assert "no share pays for it" in describe_panel(replace(found, share_needed=1.1))
    assert describe_panel(replace(found, share_needed=0.401)).endswith("0.41 pays for 200, 0.81 pays for 400")
    assert "off" in describe_panel(estimated(tmp_path, "health.panel=0").panel)
    alone = estimated(tmp_path, "cascade.stages=[agreement]", "sampling.block=null").panel
    assert alone.votes == 0 and "no stage asks a judge" in describe_panel(alone)


@pytest.mark.parametrize(("votes", "points"), [(200, 1.93), (400, 0.97)])
def test_the_slowest_drift_is_caught_in_nineteen_jobs_of_twenty(votes: int, points: float) -> None:
    drift = slowest_drift(votes)
    assert drift is not None and 100 * drift == pytest.approx(points, abs=0.005)
    assert stats.binom.sf(9, votes, 4 * drift) == pytest.approx(0.95)  # ten votes that turned are an alarm
    assert slowest_drift(9) is None
