"""Error rates of the stop rule on simulated jobs; the table in `svd_loop/loop/plateau.py` comes from here.

    python benchmarks/plateau.py --jobs 400

Problems differ in difficulty (normal in the logit, sd 1.5) and every round samples each of them again, which is harder
for the rule than real rounds, whose shared seeds make them agree.
"""

from __future__ import annotations

import argparse
import sys

import numpy as np

from svd_loop.config.sections import PlateauSection
from svd_loop.contracts import PolicyVersion, RoundRecord, Scores, StopReason
from svd_loop.loop.plateau import PlateauRule

SPREAD, SAMPLES, ROUNDS = 1.5, 4, 12
CURVES = {
    "flat at 40%": np.full(ROUNDS + 1, 0.40),
    **{f"+{points} a round": 0.30 + 0.01 * points * np.arange(ROUNDS + 1) for points in (1, 2, 3)},
    "+4 for 3 rounds, then -4": np.minimum(0.4 + 0.04 * np.arange(ROUNDS + 1), 0.64 - 0.04 * np.arange(ROUNDS + 1)),
}


def main() -> None:
    """Print one line for each number of problems, patience and curve."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=400)
    parser.add_argument("--problems", type=int, nargs="+", default=[100, 300, 1000])
    arguments = parser.parse_args()
    rng = np.random.default_rng(0)
    for problems in arguments.problems:
        for name, curve in CURVES.items():
            jobs = [simulate(curve, problems, rng) for _ in range(arguments.jobs)]
            for patience in (1, 2, 3):
                rule = PlateauRule(PlateauSection(patience=patience))
                ends = [play(rule, job) for job in jobs]
                early = np.mean([reason is not None for _, reason in ends])
                regressions = np.mean([reason is StopReason.REGRESSION for _, reason in ends])
                sys.stdout.write(
                    f"{problems:5d} problems, {name:25s} patience {patience}: mean last round "
                    f"{np.mean([end for end, _ in ends]):4.1f}, stopped {early:.2f}, regression {regressions:.2f}\n"
                )


def simulate(curve: np.ndarray, problems: int, rng: np.random.Generator) -> list[RoundRecord]:
    """One job's rounds, were it never stopped."""
    grid = np.linspace(-6, 6, 241)
    noise = rng.normal(0.0, SPREAD, 2000)
    means = (1 / (1 + np.exp(-(grid[:, None] + noise)))).mean(axis=1)
    difficulty = rng.normal(0.0, SPREAD, problems)
    chances = 1 / (1 + np.exp(-(np.interp(curve, means, grid)[:, None] + difficulty)))
    names = tuple(map(str, range(problems)))
    return [
        RoundRecord(
            round,
            PolicyVersion(round, ""),
            Scores("development", SAMPLES, names, ("math",) * problems, tuple(row.tolist())),
        )
        for round, row in enumerate(rng.binomial(SAMPLES, chances))
    ]


def play(rule: PlateauRule, job: list[RoundRecord]) -> tuple[int, StopReason | None]:
    """The round at which the rule ends the job, and why; None if it never does."""
    for newest in range(1, len(job)):
        if reason := rule.decide(job[: newest + 1]):
            return newest, reason
    return len(job) - 1, None


if __name__ == "__main__":
    main()
