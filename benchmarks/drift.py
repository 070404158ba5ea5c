"""How soon canaries see a judge that drifts slowly, and how often they raise a false alarm: simulated jobs.

    python -m benchmarks.drift [--jobs 1000]

No model is asked. A judge says yes to each canary with a base rate; from round 2 on the rate rises by one point a round
(drift to yes), or the rate at which it says yes to solutions that the first judge had accepted falls by one point
(drift to no: the same statistic with both answers exchanged). Three rules are compared, each in jobs of ten rounds:

- today's: Newcombe's interval of the newest round against the first lies above `health.drift` (0.1);
- pooled: at every round, all rounds since the first against the first, for every starting round, by the exact
  conditional test of two binomials (Fisher's); an alarm at a level that spends 1% over the job;
- paired: the canaries of the first round are asked again in every round, under the same seeds, and those that turned
  to yes are compared with those that turned to no (McNemar's exact test). A judge that stays answers the same, but for
  a share (`CHURN`) of answers that is drawn again because the weights have changed.

`caught` is the share of drifting jobs with an alarm within four rounds of drift, `false` that of the others with one in
ten rounds.
"""

from __future__ import annotations

import argparse

import numpy as np
from scipy.stats import binom, hypergeom

from svd_loop.support.statistics import difference_of_shares, wilson

ROUNDS, WITHIN, STEP = 10, 4, 0.01
BASES = (0.0, 0.01, 0.02, 0.05)
COUNTS = ((60, 60), (60, 240), (120, 480), (240, 960), (480, 1920))
CHURN = 0.1
LEVELS = (0.02, 0.01, 0.005, 0.003, 0.002, 0.001, 0.0005)


def newest_against_first(counts_R: np.ndarray, first: int, trials: int, first_trials: int, cache: dict) -> int | None:
    """Today's rule: the first round with an alarm, counted from 1; None if there is none."""
    for place, count in enumerate(counts_R):
        key = (int(count), first)
        if key not in cache:
            cache[key] = difference_of_shares(wilson(int(count), trials), wilson(first, first_trials)).low > 0.1
        if cache[key]:
            return place + 1
    return None


def pooled_p(counts_J_R: np.ndarray, first_J: np.ndarray, trials: int, first_trials: int) -> np.ndarray:
    """The smallest p-value at each round, over the rounds since any start, against the first round; shape (J, R)."""
    jobs, rounds = counts_J_R.shape
    smallest = np.ones((jobs, rounds))
    for end in range(rounds):
        for start in range(end + 1):
            accepted = counts_J_R[:, start : end + 1].sum(axis=1)
            asked = trials * (end - start + 1)
            p = hypergeom.sf(accepted - 1, asked + first_trials, accepted + first_J, asked)
            smallest[:, end] = np.minimum(smallest[:, end], p)
    return smallest


def paired_p(base: float, trials: int, jobs: int, drift: bool) -> np.ndarray:
    """The p-value of each round against the first, on the same canaries under the same seeds; shape (J, R)."""
    rng = np.random.default_rng([7, int(1000 * base), trials, drift])
    draws = rng.random((jobs, trials))
    first = draws < base
    found = np.ones((jobs, ROUNDS))
    for place in range(ROUNDS):
        again = np.where(rng.random(draws.shape) < CHURN, rng.random(draws.shape), draws)
        now = again < base + STEP * (place + 1) * drift
        to_yes, to_no = (now & ~first).sum(axis=1), (~now & first).sum(axis=1)
        found[:, place] = binom.sf(to_yes - 1, to_yes + to_no, 0.5)
    return found


def simulate(base: float, trials: int, first_trials: int, jobs: int, drift: bool) -> tuple[np.ndarray, np.ndarray]:
    """Accepted canaries by job and round, and in the first round."""
    rng = np.random.default_rng([int(1000 * base), trials, first_trials, drift])
    rates = np.clip(base + STEP * np.arange(1, ROUNDS + 1) * drift, 0.0, 1.0)
    return rng.binomial(trials, rates, size=(jobs, ROUNDS)), rng.binomial(first_trials, base, size=jobs)


def print_paired(jobs: int) -> None:
    """Print a line for each number of paired answers and base rate."""
    print("| answers a round | base rate, % | level | paired: caught, % | false, % |")
    print("|---|---|---|---|---|")
    for trials in (60, 180, 300, 480, 720):
        still = {base: paired_p(base, trials, jobs, False).min(axis=1) for base in BASES}
        level = next(level for level in (*LEVELS, 0.0) if all((p <= level).mean() < 0.01 for p in still.values()))
        for base in BASES:
            caught = (paired_p(base, trials, jobs, True)[:, :WITHIN].min(axis=1) <= level).mean()
            false = (still[base] <= level).mean()
            print(f"| {trials} | {100 * base:g} | {level:g} | {100 * caught:.1f} | {100 * false:.1f} |", flush=True)


def main() -> None:
    """Print a line for each number of canaries and base rate."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--jobs", type=int, default=1000)
    jobs = parser.parse_args().jobs
    print_paired(jobs)
    print(
        "| canaries a round | in the first | base rate, % | today: caught, % | false, % | pooled: caught | false, % |"
    )
    print("|---|---|---|---|---|---|---|")
    for trials, first_trials in COUNTS:
        still = {base: simulate(base, trials, first_trials, jobs, False) for base in BASES}
        p_still = {base: pooled_p(*still[base], trials, first_trials) for base in BASES}
        level = next(
            level for level in (*LEVELS, 0.0) if all((p.min(axis=1) <= level).mean() < 0.01 for p in p_still.values())
        )
        cache: dict[tuple[int, int], bool] = {}
        for base in BASES:
            drifting, first = simulate(base, trials, first_trials, jobs, True)
            old = [
                newest_against_first(c, f, trials, first_trials, cache) for c, f in zip(drifting, first, strict=True)
            ]
            old_false = [
                newest_against_first(c, f, trials, first_trials, cache) for c, f in zip(*still[base], strict=True)
            ]
            caught = (pooled_p(drifting, first, trials, first_trials)[:, :WITHIN].min(axis=1) <= level).mean()
            alarm = (p_still[base].min(axis=1) <= level).mean()
            figures = [
                np.mean([round is not None and round <= WITHIN for round in old]),
                np.mean([round is not None for round in old_false]),
                caught,
                alarm,
            ]
            shown = " | ".join(f"{100 * figure:.1f}" for figure in figures)
            print(f"| {trials} | {first_trials} | {100 * base:g} | {shown} |", flush=True)
        print(f"level {level} for {trials} canaries", flush=True)


if __name__ == "__main__":
    main()
