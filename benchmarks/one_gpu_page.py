"""The page of `benchmarks.one_gpu`: what was forecast, what came out, and what it cost."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from svd_loop.contracts import Estimate, JobState, RoundRecord, Usage, UsagePurpose
from svd_loop.errors import SvdError
from svd_loop.experiments.figures import Figures
from svd_loop.experiments.plan import Plan
from svd_loop.experiments.play import RESULTS
from svd_loop.experiments.results import stored
from svd_loop.ledger import LedgerReader

PHASES = (
    ("sample", UsagePurpose.ROUND, True),
    ("judge", UsagePurpose.ROUND, False),
    ("evaluate", UsagePurpose.EVALUATION, True),
)
"""Phases of a round that call the model, with the calls that belong to each: the solver's, or the judges'."""


def write_page(out: Path, checkpoint: str, size: Mapping[str, Any], *, finished: bool) -> Path:
    """Write `one-gpu.md` from what the run has stored.

    Args:
        out: folder of the run.
        checkpoint: the model's name.
        size: prompts, problems and expected seconds.
        finished: whether the sweep ended by itself.
    """
    plan = Plan.load(out / "sweep.yaml", root=out / "mlruns")
    results = [found for item in plan.plays if (found := stored(item.folder / RESULTS, item.name)) is not None]
    figures = Figures.of(plan.section, results)
    states = {item.arm: _state(item.config.job.paths.folder) for item in plan.plays}
    check = json.loads((out / "check.json").read_text())
    lines = [f"# {Path(checkpoint).name}: {_device()}", ""]
    if not finished:
        lines += [
            "**The time was over before the last arm ended: rows without an interval are of unfinished arms.**",
            "",
        ]
    lines += [*_setting(plan, size, check), "", *_arms(figures, states), "", *_cost(states), "", *_memory(out)]
    path = out / "one-gpu.md"
    path.write_text("\n".join(lines) + "\n")
    return path


def _state(folder: Path) -> JobState | None:
    try:
        with LedgerReader.open_for_reading(folder) as reader:
            return reader.state()
    except SvdError:  # the arm has not begun
        return None


def _device() -> str:
    import torch

    if torch.cuda.is_available():
        return f"{torch.cuda.get_device_name()}, {torch.cuda.get_device_properties(0).total_memory / 2**30:.0f} GiB"
    return f"CPU ({platform.machine()}, {torch.get_num_threads()} threads)"


def _setting(plan: Plan, size: Mapping[str, Any], check: Mapping[str, Any]) -> list[str]:
    config = plan.plays[0].config
    stages = " then ".join(_stage_words(stage) for stage in plan.section.arms["method"].set["cascade.stages"])
    forecast = check.get("forecast") or {}
    gain = "nothing could be forecast" if forecast.get("gain") is None else _points(forecast)
    return [
        f"- Rounds of {size['prompts']} prompts, n = {config.sampling.n}; verifier: {stages}. "
        f"{size['problems']} held-out problems; expected to take {size['seconds'] / 60:.1f} min.",
        f"- Forecast for the configured judges: {gain}. {forecast.get('recommended', '')}".rstrip(),
    ]


def _stage_words(stage: Any) -> str:
    return stage if isinstance(stage, str) else " ".join(str(value) for value in stage.values())


def _points(found: Mapping[str, Any]) -> str:
    return f"{100 * found['gain']:+.1f} points ({100 * found['low']:+.1f} to {100 * found['high']:+.1f}) in a round"


def _arms(figures: Figures, states: Mapping[str, JobState | None]) -> list[str]:
    lines = [
        "| arm | held-out pass@1, points (95%) | over the base | over random | rows by round | development by round |",
        "|---|---|---|---|---|---|",
    ]
    for arm, state in states.items():
        history = state.history if state else ()
        cells = [_interval(figures.level(arm)), _interval(figures.gain(arm)), _interval(figures.lift(arm))]
        rows = ", ".join(str(record.rows) for record in history[1:]) or "-"
        curve = ", ".join(f"{100 * record.scores.pass_at_1.value:.1f}" for record in history) or "-"
        lines.append(f"| {figures.section.arms[arm].says} | {' | '.join(cells)} | {rows} | {curve} |")
    first = next(iter(states))
    return [f"Base: {_interval(figures.level(first, base=True))}.", "", *lines]


def _interval(estimate: Estimate | None) -> str:
    return "-" if estimate is None else f"{estimate.value:.1f} ({estimate.low:.1f} to {estimate.high:.1f})"


def _cost(states: Mapping[str, JobState | None]) -> list[str]:
    """Tokens and seconds by phase of the method's arm; the others take answers over from it."""
    state = states["method"]
    if state is None:
        return ["The method's arm has not played its first round."]
    lines = [
        "| phase | prompt tokens | of them read | tokens written | s | tokens written a second |",
        "|---|---|---|---|---|---|",
    ]
    for name, purpose, solver in PHASES:
        asked, read, wrote = _tokens(state.history, purpose, solver=solver)
        seconds = sum(record.seconds.get(name, 0.0) for record in state.history)
        rate = f"{wrote / seconds:,.0f}" if seconds and wrote else "-"
        lines.append(f"| {name} | {asked:,} | {read:,} | {wrote:,} | {seconds:,.0f} | {rate} |")
    training = sum(record.seconds.get("update", 0.0) for record in state.history)
    lines.append(f"| update ({sum(record.rows for record in state.history)} rows) | | | | {training:,.0f} | |")
    return lines


def _tokens(history: Sequence[RoundRecord], purpose: UsagePurpose, *, solver: bool) -> tuple[int, int, int]:
    used = [
        usage
        for record in history
        for role, usage in record.usage.get(purpose, {}).items()
        if (role == "solver") is solver
    ]
    total = sum(used, Usage())
    return total.prompt_tokens, total.read_tokens, total.output_tokens


def _memory(out: Path) -> list[str]:
    found = json.loads((out / "memory.json").read_text())
    words = [
        f"{name} {peak['host'] / 2**30:.1f} GiB of the machine's"
        + (f", {peak['gpu'] / 2**30:.1f} of the GPU's" if peak["gpu"] else "")
        for name, peak in found.items()
    ]
    return ["Peak memory: " + "; ".join(words) + "."]
