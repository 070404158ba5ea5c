from __future__ import annotations

from dataclasses import replace
from xml.etree import ElementTree

import pytest
from matplotlib.figure import Figure

from svd_loop.contracts import RoundRecord, StepRates
from svd_loop.report import figures


def words_in(figure: Figure) -> str:
    texts = ElementTree.fromstring(figures.to_svg(figure)).iter("{http://www.w3.org/2000/svg}text")
    return " | ".join("".join(text.itertext()) for text in texts)


def test_pass_at_1_has_a_panel_per_group_with_its_change(history: list[RoundRecord]) -> None:
    figure = figures.pass_at_1_figure(history, "demo")
    titles = [axes.get_title() for axes in figure.axes]
    assert titles == [f"{group} (+17.0 points)" for group in ("overall", "math", "science", "coding")]
    words = words_in(figure)
    for expected in ("demo: held-out pass@1 by round", "held-out pass@1 (%)", "round (0 is the base model)", "57.0"):
        assert expected in words


def test_the_baseline_alone_can_be_drawn(history: list[RoundRecord]) -> None:
    assert "40.0" in words_in(figures.pass_at_1_figure(history[:1], "demo"))


def test_the_funnel_labels_every_step_with_count_and_share(history: list[RoundRecord]) -> None:
    words = words_in(figures.funnel_figure(history[1], "demo"))
    for expected in (
        "demo, round 1: 800 candidates by step",
        "cycle consistency",
        "500 (62.5%)",
        "300 (37.5%)",
    ):
        assert expected in words


def test_a_funnel_without_candidates_can_be_drawn(history: list[RoundRecord]) -> None:
    assert "0 (0.0%)" in words_in(figures.funnel_figure(replace(history[1], funnel={"generated": 0}), "demo"))


def test_stages_show_what_they_let_through(history: list[RoundRecord]) -> None:
    words = words_in(figures.stages_figure(history, "demo"))
    assert "demo: share of candidates that each stage passed" in words
    for expected in ("cycle consistency 64%", "factuality 76%", "correctness 79%"):
        assert expected in words


def test_stages_show_precision_where_an_audit_measured_it(history: list[RoundRecord]) -> None:
    audited = [replace(history[1], audit={"generated": StepRates(0.5), "correctness": StepRates(0.9)})]
    words = words_in(figures.stages_figure(audited, "demo"))
    assert "share of candidates that are right, after each step" in words
    assert "generated 50%" in words
    assert "correctness 90%" in words


@pytest.mark.parametrize("step, share", [("factuality", 0.76), ("generated", None), ("absent", None)])
def test_the_share_a_step_let_through(history: list[RoundRecord], step: str, share: float | None) -> None:
    assert figures.pass_share(history[1].funnel, step) == share


def test_the_same_figure_is_the_same_svg(history: list[RoundRecord]) -> None:
    first, second = (figures.to_svg(figures.funnel_figure(history[1], "demo")) for _ in range(2))
    assert first == second
