from __future__ import annotations

import re

from svd_loop.contracts import Estimate
from svd_loop.report.charts import curve, stacked, whisker

POINTS = {0: Estimate(0.4, 0.35, 0.45), 1: Estimate(0.55, 0.5, 0.6), 2: Estimate(0.5, 0.4, 0.6)}


def heights(drawn: str) -> list[float]:
    return [float(y) for y in re.findall(r'<circle class="point[^"]*" cx="[0-9.]+" cy="([0-9.]+)"', drawn)]


def test_a_higher_score_is_drawn_higher_and_named() -> None:
    drawn = str(curve(POINTS, best=1))
    first, second, third = heights(drawn)
    assert second < third < first
    assert "<title>round 1: 55.0% (50.0 to 60.0)</title>" in drawn and 'class="point best"' in drawn
    assert "style" not in drawn


def test_one_round_and_equal_scores_can_be_drawn() -> None:
    for points in ({0: Estimate(0.0, 0.0, 0.0)}, {0: Estimate(1.0, 1.0, 1.0), 1: Estimate(1.0, 1.0, 1.0)}):
        assert all(0 <= height <= 180 for height in heights(str(curve(points))))


def test_shares_stay_on_their_scale() -> None:
    drawn = str(whisker(Estimate(0.1, -0.2, 1.3), limit=0.5))
    assert 'x1="0.0%" x2="100.0%"' in drawn and 'x1="50.0%"' in drawn


def test_parts_of_a_bar_add_up() -> None:
    drawn = str(stacked([("accept", 3), ("refuse", 1)], 4))
    assert 'class="accept" x="0.00%" width="75.00%"' in drawn and 'x="75.00%" width="25.00%"' in drawn
    assert "nan" not in str(stacked([("accept", 0)], 0))
