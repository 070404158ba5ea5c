"""The forecast of the gain against the truth, on rounds of the embedded model with judges weakened on purpose.

    python -m benchmarks.forecast build --tiny CHECKPOINT
    python -m benchmarks.forecast play --small CHECKPOINT --tiny CHECKPOINT [--only fit|test] [--part 0/2]
    python -m benchmarks.forecast show

A cell is a short job of one round: a base (the shipped checkpoint; `small`, built by `svd-loop nano build --size small
--steps 5000`; or `tiny`, built here), a judge whose verdicts are changed with a given chance and in a given way,
domains, and a temperature. Round 0 forecasts by the verifier test, round 1 tells the truth: the paired difference of
held-out pass@1.
Cells for fitting the transfer and cells for testing the forecast are apart. `show` fits the one, compares on the other,
and prints the constants of `svd_loop.judge_health.gain`. Cells are stored one by one in
`benchmarks/results/forecast.json`, and those that are there are not played again.

The forecast's interval is rebuilt here from the interval of the lift, as normal: the constants are not known while the
cells are played.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import math
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from benchmarks.controls import REPOSITORY
from svd_loop.assembly.job import build_job
from svd_loop.config import Config, load_config
from svd_loop.contracts import AgentCall, Policy, Reply, Role
from svd_loop.judge_health import gain
from svd_loop.judge_health.verifier_check import BudgetedTest, SampleSize
from svd_loop.ledger import Interrupt
from svd_loop.nano.train import PHASES, SIZES, Recipe, Size, train
from svd_loop.support.statistics import paired_difference
from svd_loop.support.usage import MeteredPolicy
from svd_loop.support.wrapping import PolicyWrapper

STORED = REPOSITORY / "benchmarks" / "results" / "forecast.json"
TINY, TINY_STEPS = Size(hidden=64, layers=3, heads=2, kv_heads=1, intermediate=192), 4_000
"""A checkpoint of 213,632 parameters, half of the smallest that `svd-loop nano build` makes; by the same recipe. The
stored cells were played with its checkpoint of step 1,500."""
SIZE = SampleSize(labelled=90, unlabelled=8, canaries=1)
SETTINGS = (
    "data.test=null",
    "data.train.count=60",
    "data.prompts_per_round=90",
    "job.rounds=1",
    "sampling.n=4",
    "sampling.block=4",
    "cascade.votes=1",
    "cascade.order=stage_major",
    "evaluation.audit=0",
    "health.canaries=0",
    "health.action=warn",
    "health.useful_j=null",
    "update.replay.anchor=none",
    "update.epochs=3",
    "tracking.enabled=false",
)
Z = 1.645


@dataclass(frozen=True)
class Cell:
    """What is played: `degree` is the chance that a verdict is changed, `kind` how (to the other, to yes, to no)."""

    base: str = "nano"
    kind: str = "flip"
    degree: float = 0.0
    domains: str = "math,science,coding"
    temperature: float = 1.0
    seed: int = 0

    @property
    def name(self) -> str:
        """Identifies the cell among the stored ones."""
        return json.dumps(asdict(self), sort_keys=True)


FIT = (
    *(Cell(degree=degree) for degree in (0.0, 0.2, 0.5, 0.8)),
    *(Cell(kind="yes", degree=1.0, seed=1), Cell(kind="no", degree=0.6, seed=1)),
    *(Cell("small", degree=degree) for degree in (0.0, 0.5)),
    *(Cell(domains="science", degree=0.1, seed=1), Cell(domains="coding", degree=0.6, seed=1)),
)
TEST = (
    *(Cell(degree=degree, seed=2) for degree in (0.1, 0.3, 0.4, 0.7)),
    *(Cell(kind="yes", degree=degree, seed=2) for degree in (0.3, 0.6)),
    *(Cell(kind="no", degree=degree, seed=2) for degree in (0.3, 0.5)),
    *(Cell(domains="math", degree=degree, seed=3) for degree in (0.0, 0.5)),
    *(Cell(domains="science", degree=degree, seed=3) for degree in (0.0, 0.3, 0.7)),
    *(Cell(domains="coding", degree=degree, seed=3) for degree in (0.0, 0.3, 0.5)),
    *(Cell(temperature=0.7, degree=degree, seed=4) for degree in (0.0, 0.4)),
    *(Cell(temperature=1.3, degree=degree, seed=4) for degree in (0.0, 0.3)),
    *(Cell("small", degree=degree, seed=5) for degree in (0.0, 0.2, 0.4, 0.8)),
    *(Cell("tiny", degree=degree, seed=6) for degree in (0.0, 0.2, 0.8)),
    *(Cell("tiny", kind=kind, degree=0.5, seed=6) for kind in ("yes", "no")),
    *(Cell("tiny", domains="math", degree=0.0, seed=6),),
)


class Weakened(PolicyWrapper):
    """A policy whose verdicts are changed with a chance, by a hash of the call: the same call, the same verdict."""

    def __init__(self, policy: Policy, cell: Cell) -> None:
        super().__init__(policy)
        self._cell = cell

    def generate(self, calls: Sequence[AgentCall]) -> list[Reply]:
        """Answer, and change verdicts."""
        return [self._changed(reply) for reply in super().generate(calls)]

    def _changed(self, reply: Reply) -> Reply:
        if reply.call.role in (Role.SOLVER, Role.QUESTION_INFERRER):
            return reply
        if reply.call.seed(77 + self._cell.seed) / 2**63 >= self._cell.degree:
            return reply
        if self._cell.kind == "yes":
            return replace(reply, text=reply.text.replace("[[N]]", "[[Y]]"))
        if self._cell.kind == "no":
            return replace(reply, text=reply.text.replace("[[Y]]", "[[N]]"))
        text = reply.text.replace("[[Y]]", "[[y]]").replace("[[N]]", "[[Y]]").replace("[[y]]", "[[N]]")
        return replace(reply, text=text)


def build(folder: Path) -> None:
    """Train the `tiny` checkpoint by the shipped one's recipe, in fewer steps."""
    SIZES["tiny"] = TINY
    share = TINY_STEPS / sum(phase.steps for phase in PHASES)
    train(Recipe("tiny", seed=0, phases=tuple(replace(one, steps=round(one.steps * share)) for one in PHASES)), folder)


def configured(cell: Cell, root: Path, bases: Mapping[str, Path]) -> Config:
    """The cell's job."""
    count = 150 // len(cell.domains.split(","))
    train = 180 // len(cell.domains.split(","))
    return load_config(
        REPOSITORY / "configs" / "nano.yaml",
        [
            *SETTINGS,
            f"model.path={bases.get(cell.base, cell.base)}",
            f"job.root={root}",
            f"job.seed={cell.seed}",
            f"sampling.temperature={cell.temperature}",
            f"data.train.domains=[{cell.domains}]",
            f"data.development.domains=[{cell.domains}]",
            f"data.development.count={count}",
            f"data.train.count={train}",
        ],
    )


def play(cell: Cell, bases: Mapping[str, Path]) -> dict[str, Any]:
    """Forecast and truth of a cell, in fractions."""
    gain.INTERCEPT, gain.TRANSFER, gain.TRANSFER_SE, gain.RESIDUAL = 0.0, 1.0, 0.0, 0.0  # the lift alone
    with tempfile.TemporaryDirectory(prefix="svd-forecast-") as root:
        config = configured(cell, Path(root), bases)
        with build_job(config, interrupt=Interrupt(lambda: None)) as job:
            parts = job.controller.parts
            budgeted = parts.verify
            assert isinstance(budgeted, BudgetedTest)
            job.controller.parts = replace(
                parts,
                open_policy=lambda round: MeteredPolicy(Weakened(parts.open_policy(round), cell)),
                verify=lambda policy, usage: budgeted.test(policy, SIZE),
            )
            result = job.controller.run()
    base, last = result.history[0], result.history[-1]
    tested = base.verifiers
    assert tested is not None
    pass_0, pass_1 = (np.array(record.scores.correct) / record.scores.samples for record in (base, last))
    truth = paired_difference(pass_1, pass_0, confidence=0.9)
    found = tested.forecasts[0] if tested.forecasts else None
    return {
        "cell": asdict(cell),
        "truth": asdict(truth),
        "base": float(pass_0.mean()),
        "rows": last.rows,
        "accepted": last.accepted_prompts / max(last.prompts, 1),
        "forecast_accepted": found.accepted if found else None,
        "forecast_precision": found.precision if found else None,
        "lift": asdict(found.gain) if found else None,
        "j": {one.name: asdict(one.j) for one in tested.rates if one.labelled},
    }


def store(name: str, key: str, found: dict[str, Any]) -> None:
    """Add a cell to the stored ones."""
    with STORED.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        data = stored()
        data[name][key] = found
        STORED.write_text(json.dumps(data, indent=1) + "\n")


def stored() -> dict[str, dict[str, Any]]:
    """The cells played so far, by `fit` and `test`."""
    return json.loads(STORED.read_text()) if STORED.exists() else {"fit": {}, "test": {}}


def lifts(cells: Sequence[dict[str, Any]]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Lift, its standard deviation, the true gain, and its standard deviation."""
    lift = np.array([cell["lift"]["value"] for cell in cells])
    spread = np.array([(cell["lift"]["high"] - cell["lift"]["low"]) / (2 * Z) for cell in cells])
    truth = np.array([cell["truth"]["value"] for cell in cells])
    noise = np.array([(cell["truth"]["high"] - cell["truth"]["low"]) / (2 * Z) for cell in cells])
    return lift, spread, truth, noise


def show() -> None:
    """Fit on the cells for fitting, compare on the others."""
    data = stored()
    usable = {name: [one for one in cells.values() if one["lift"]] for name, cells in data.items()}
    lift, _, truth, _ = lifts(usable["fit"])
    line = stats.linregress(lift, truth)
    residual = float(np.std(truth - line.intercept - line.slope * lift, ddof=2))
    print(f"{len(lift)} cells fitted: INTERCEPT {line.intercept:.3f} TRANSFER {line.slope:.3f}")
    print(f"TRANSFER_SE {line.stderr:.3f} RESIDUAL {residual:.3f}")
    lift, spread, truth, _ = lifts(usable["test"])
    expected = line.intercept + line.slope * lift
    deviation = np.sqrt((line.slope * spread) ** 2 + (lift * line.stderr) ** 2 + residual**2)
    covered = np.abs(truth - expected) <= Z * deviation
    sign = np.sign(expected) == np.sign(truth)
    clear = np.array([not one["truth"]["low"] <= 0 <= one["truth"]["high"] for one in usable["test"]])
    rank = stats.spearmanr(expected, truth)
    print(f"{len(lift)} of {len(data['test'])} cells tested: sign right in {sign.sum()}, {sign[clear].sum()} of the")
    print(f"{clear.sum()} whose true gain's 90% interval excludes 0; Spearman {rank.statistic:.2f}")
    print(f"90% intervals cover {covered.sum()}; mean error {100 * np.abs(truth - expected).mean():.1f} points")
    for one, value, wide in zip(usable["test"], expected, Z * deviation, strict=True):
        cell, real = one["cell"], one["truth"]
        print(
            f"| {cell['base']} | {cell['domains'].replace(',', ', ')} | {cell['temperature']} | {cell['kind']} "
            f"{cell['degree']} | {one['j']['cascade']['value']:.2f} | {100 * value:+.1f} "
            f"({100 * (value - wide):+.1f} to {100 * (value + wide):+.1f}) | {100 * real['value']:+.1f} "
            f"({100 * real['low']:+.1f} to {100 * real['high']:+.1f}) |"
        )


def main() -> None:
    """Play the cells that are not stored yet, or show what is."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("command", choices=["build", "play", "show"])
    for base in ("small", "tiny"):
        parser.add_argument(f"--{base}", type=Path, help=f"checkpoint of the cells with base `{base}`")
    parser.add_argument("--only", choices=["fit", "test"])
    parser.add_argument("--part", default="0/1", help="i/n: every n-th cell from the i-th")
    args = parser.parse_args()
    if args.command == "show":
        show()
        return
    if args.command == "build":
        build(args.tiny)
        return
    bases = {base: path for base, path in (("small", args.small), ("tiny", args.tiny)) if path}
    part, parts = map(int, args.part.split("/"))
    wanted = [(name, cell) for name, cells in (("fit", FIT), ("test", TEST)) for cell in cells]
    for name, cell in wanted[part::parts]:
        if args.only not in (None, name) or cell.name in stored()[name] or cell.base not in (*bases, "nano"):
            continue
        found = play(cell, bases)
        store(name, cell.name, found)
        value = found["lift"]["value"] if found["lift"] else math.nan
        print(f"{name} {cell.name}: lift {value:+.3f}, gain {found['truth']['value']:+.3f}", flush=True)


if __name__ == "__main__":
    main()
