"""How soon a judge that drifts slowly is seen, and how often a steady one raises a false alarm.

    python -m benchmarks.drift [--jobs 1000] [panel|canaries|refusals|scripted ...]

- `panel`: the panel's rule (`svd_loop.loop.health_rule`) on simulated votes. A judge says yes to a vote with a base
  rate; from the second round on one more vote of a hundred a round turns the wrong way. A judge that stays answers the
  same, but for a share (churn) of votes that is drawn again because the weights have changed. `false` is computed
  exactly: cells of about 1% are not told from it by some hundred jobs.
- `canaries`: new canaries every round, newest round against the first (`health.drift`), and all rounds pooled.
- `refusals`: false alarms of `health.accepted_drop` in steady jobs whose prompts differ in difficulty.
- `scripted`: whole jobs of the scripted policy, drifting to yes, to no, and steady with a tenth of the votes drawn
  again.

`caught` is the share of drifting jobs with an alarm within four rounds of drift, `false` that of the others with one in
ten rounds.
"""

from __future__ import annotations

import argparse
import functools
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from scipy.stats import binom, hypergeom

from benchmarks.controls import REPOSITORY
from policies.scripted import encode
from svd_loop.assembly.job import build_job
from svd_loop.config import load_config
from svd_loop.contracts import AgentCall, Estimate, JobResult, Policy, Reply, Role
from svd_loop.ledger import Interrupt
from svd_loop.loop.health_rule import PANEL_LEVEL, alarms_of
from svd_loop.support.statistics import difference_of_shares, net_change, share_of_clusters, wilson
from svd_loop.support.usage import MeteredPolicy
from svd_loop.support.wrapping import PolicyWrapper

SEED = 22
"""Of the simulated panels; another one than while the rule was chosen."""
ROUNDS, WITHIN, STEP = 10, 4, 0.01
BASES, CHURNS = (0.0, 0.05, 0.15, 0.3, 0.5), (0.0, 0.05, 0.1, 0.2)
SIZES = (200, 300, 400, 600)
COUNTS = ((60, 60), (60, 240), (240, 960))
LEVELS = (0.02, 0.01, 0.005, 0.003, 0.002, 0.001, 0.0005)


# ---------------------------------------------------------------------------------------------------------- the panel


@functools.cache
def rings(gained: int, lost: int, votes: int) -> bool:
    """Whether so many votes of a half of the panel turned the wrong way, and the right way, that it is an alarm."""
    return net_change(gained, lost, votes, level=PANEL_LEVEL).low > 0.0


def share_caught(votes: int, base: float, churn: float, jobs: int) -> float:
    """Share of simulated jobs whose drifting half of the panel raises an alarm within `WITHIN` rounds."""
    rng = np.random.default_rng([SEED, votes, int(1000 * base), int(1000 * churn)])
    draws = rng.random((jobs, votes))
    first = draws < base
    found = np.zeros(jobs, dtype=bool)
    for place in range(WITHIN):
        again = np.where(rng.random(draws.shape) < churn, rng.random(draws.shape), draws)
        now = again < base + STEP * (place + 1)
        gained, lost = (now & ~first).sum(axis=1), (~now & first).sum(axis=1)
        found |= [rings(int(g), int(n), votes) for g, n in zip(gained, lost, strict=True)]
    return float(found.mean())


@functools.cache
def least_gained(votes: int) -> np.ndarray:
    """The fewest votes turned the wrong way that are an alarm, by how many turned the right way; shape (votes + 1,)."""
    least = np.full(votes + 1, votes + 1)
    gained = 1
    for lost in range(votes + 1):
        while gained + lost <= votes and not rings(gained, lost, votes):
            gained += 1
        if gained + lost > votes:
            break
        least[lost] = gained
    return least


def false_alarms(votes: int, base: float, churn: float) -> float:
    """The chance that a judge that does not drift raises an alarm of either half in `ROUNDS` rounds, exactly.

    Given the wrong votes of the first round, the later rounds are independent, and in each of them binomial numbers of
    votes are drawn again and turn. The first round is not compared.
    """
    wrong, lost = np.arange(votes + 1)[:, None], np.arange(votes + 1)
    turned_right = binom.pmf(lost, wrong, churn * (1 - base))
    turned_wrong = binom.sf(least_gained(votes) - 1, votes - wrong, churn * base)
    quiet = 1 - (turned_right * turned_wrong).sum(axis=1)
    of_a_half = float((binom.pmf(wrong[:, 0], votes, base) * quiet ** (ROUNDS - 1)).sum())
    return max(1 - of_a_half**2, 0.0)


def panel(jobs: int) -> None:
    """Print a line for each size of a half and base rate, with a pair of columns for each churn."""
    heads = " | ".join(f"churn {100 * churn:g}%: caught | false" for churn in CHURNS)
    print(f"| votes of a half | base rate, % | {heads} |\n{'|---' * (2 + 2 * len(CHURNS))}|")
    for votes in SIZES:
        for base in BASES:
            pairs = [(share_caught(votes, base, churn, jobs), false_alarms(votes, base, churn)) for churn in CHURNS]
            cells = [f"{100 * caught:.0f} | {100 * false:.2f}" for caught, false in pairs]
            print(f"| {votes} | {100 * base:g} | {' | '.join(cells)} |", flush=True)


# ------------------------------------------------------------------------------------------------------- new canaries


def newest_against_first(
    counts_R: np.ndarray, first: int, trials: int, first_trials: int, cache: dict[tuple[int, int], bool]
) -> int | None:
    """The rule of `health.drift`: the first round with an alarm, counted from 1; None if there is none."""
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


def simulate(base: float, trials: int, first_trials: int, jobs: int, drift: bool) -> tuple[np.ndarray, np.ndarray]:
    """Accepted canaries by job and round, and in the first round."""
    rng = np.random.default_rng([int(1000 * base), trials, first_trials, drift])
    rates = np.clip(base + STEP * np.arange(1, ROUNDS + 1) * drift, 0.0, 1.0)
    return rng.binomial(trials, rates, size=(jobs, ROUNDS)), rng.binomial(first_trials, base, size=jobs)


def canaries(jobs: int) -> None:
    """Print a line for each number of canaries and base rate; pooled at a level that spends 1% over the job."""
    print("| canaries a round | in the first | base, % | newest: caught, % | false, % | pooled: caught | false, % |")
    print("|---|---|---|---|---|---|---|")
    bases = (0.0, 0.02, 0.05)
    for trials, first_trials in COUNTS:
        still = {base: simulate(base, trials, first_trials, jobs, False) for base in bases}
        lowest = {base: pooled_p(*still[base], trials, first_trials).min(axis=1) for base in bases}
        level = next(level for level in (*LEVELS, 0.0) if all((p <= level).mean() < 0.01 for p in lowest.values()))
        cache: dict[tuple[int, int], bool] = {}
        for base in bases:
            moving = simulate(base, trials, first_trials, jobs, True)
            rounds = [
                [newest_against_first(c, f, trials, first_trials, cache) for c, f in zip(*found, strict=True)]
                for found in (moving, still[base])
            ]
            figures = [
                np.mean([round is not None and round <= WITHIN for round in rounds[0]]),
                np.mean([round is not None for round in rounds[1]]),
                (pooled_p(*moving, trials, first_trials)[:, :WITHIN].min(axis=1) <= level).mean(),
                (lowest[base] <= level).mean(),
            ]
            shown = " | ".join(f"{100 * figure:.1f}" for figure in figures)
            print(f"| {trials} | {first_trials} | {100 * base:g} | {shown} |", flush=True)


# -------------------------------------------------------------------------------------------------- too many refusals


def accepted_shares(prompts: int, mean: float, spread: float, block: int, jobs: int) -> list[list[Estimate]]:
    """The share of accepted candidates of every round of simulated jobs.

    A prompt's candidates are accepted with a chance of its own, beta distributed; up to 8 are sampled in blocks, until
    a block has an accepted one. `spread` is 1 / (a + b + 1), the correlation of candidates of a prompt.
    """
    rng = np.random.default_rng([prompts, int(1000 * mean), int(1000 * spread), block])
    total = 1 / spread - 1

    def round() -> Estimate:
        chance = rng.beta(mean * total, (1 - mean) * total, size=(prompts, 1))
        accepted = rng.random((prompts, 8)) < chance
        first = np.where(accepted.any(axis=1), accepted.argmax(axis=1), 7)
        generated = np.arange(8) < np.minimum((first // block + 1) * block, 8)[:, None]
        of_prompt = np.repeat(np.arange(prompts)[:, None], 8, axis=1)
        return share_of_clusters(accepted[generated], of_prompt[generated])

    return [[round() for _ in range(ROUNDS)] for _ in range(jobs)]


def drops(found: list[list[Estimate]], part: float) -> float:
    """Share of the jobs with an alarm of `health.accepted_drop` in a round after the first."""
    return float(np.mean([any(now.high < part * first.low for now in later) for first, *later in found]))


def refusals(jobs: int) -> None:
    """Print false alarms for several limits, and the alarms where later rounds accept a quarter as often."""
    parts = (0.5, 0.7, 0.8)
    heads = " | ".join(f"false at {part:g}, %" for part in parts)
    print(f"| prompts | accepted, % | correlation | block | {heads} | caught at {parts[0]:g}, % |")
    print("|---" * (5 + len(parts)) + "|")
    for prompts in (20, 30, 50, 150):
        for mean, spread, block in ((0.1, 0.5, 8), (0.4, 0.5, 8), (0.1, 0.8, 8), (0.1, 0.5, 1)):
            found = accepted_shares(prompts, mean, spread, block, jobs)
            worse = accepted_shares(prompts, mean / 4, spread, block, jobs)
            changed = [[one[0], *other[1:]] for one, other in zip(found, worse, strict=True)]
            cells = [*(drops(found, part) for part in parts), drops(changed, parts[0])]
            shown = " | ".join(f"{100 * cell:.1f}" for cell in cells)
            print(f"| {prompts} | {100 * mean:g} | {spread} | {block} | {shown} |", flush=True)


# ------------------------------------------------------------------------------------------------------- scripted jobs

SETTINGS = (
    "data.train.count=60",
    "data.test=null",
    "data.development.count=2",
    "data.prompts_per_round=60",
    "sampling.n=3",
    "evaluation.samples=1",
    "evaluation.pass_at=[1]",
    "evaluation.resamples=100",
    "plateau.patience=99",
    "plateau.regression=1.0",
    "health.verify=0",
    "health.panel=1.0",
    "tracking.enabled=false",
)
VERDICTS = {"yes": "[[Y]]", "no": "[[N]]"}


class Changing(PolicyWrapper):
    """A judge some of whose verdicts are others than the scripted policy's, more of them with every version.

    `yes` and `no`: one more of a hundred votes with every version, to that verdict. `steady`: a tenth of the votes,
    other ones with every version, are those of another seed.
    """

    def __init__(self, policy: Policy, kind: str) -> None:
        super().__init__(policy)
        self._kind = kind

    def generate(self, calls: Sequence[AgentCall]) -> list[Reply]:
        """Answer, with the verdicts changed."""
        found = [call.id.role in (Role.FACT_CHECKER, Role.GRADER, Role.QUESTION_COMPARER) for call in calls]
        version = self.version.round
        if self._kind == "steady":
            drawn = [
                judging and hash((call.id.seed(3), version)) % 10 == 0
                for call, judging in zip(calls, found, strict=True)
            ]
            others = [replace(call, id=replace(call.id, attempt=50 + version)) for call in calls]
            asked = [other if new else call for call, other, new in zip(calls, others, drawn, strict=True)]
            replies = super().generate(asked)
            return [replace(reply, call=call.id) for call, reply in zip(calls, replies, strict=True)]
        text = VERDICTS[self._kind]
        return [
            replace(reply, text=text, token_ids=encode(text)) if judging and call.id.seed(3) % 100 < version else reply
            for call, reply, judging in zip(calls, super().generate(calls), found, strict=True)
        ]


def played(kind: str, seed: int, rounds: int, **more: Any) -> JobResult:
    """A scripted job whose judge changes in a way."""
    with tempfile.TemporaryDirectory(prefix="svd-drift-") as root:
        changed = [f"{key}={value}" for key, value in more.items()]
        overrides = [*SETTINGS, f"job.root={root}", f"job.seed={seed}", f"job.rounds={rounds}", *changed]
        config = load_config(REPOSITORY / "configs" / "scripted.yaml", overrides)
        with build_job(config, interrupt=Interrupt(lambda: None)) as job:
            parts = job.controller.parts
            job.controller.parts = replace(
                parts, open_policy=lambda round: MeteredPolicy(Changing(parts.open_policy(round), kind))
            )
            return job.controller.run()


def scripted(jobs: int) -> None:
    """Print the rounds in which whole jobs raised an alarm, and which."""
    print(
        "| judge | jobs | caught by the panel in round | other alarms | caught without a panel |\n|---|---|---|---|---|"
    )
    for kind in (*VERDICTS, "steady"):
        rounds = ROUNDS if kind == "steady" else 1 + WITHIN
        seen, others, without = [], 0, 0
        for seed in range(jobs):
            alarms = [(r.round, a.figure.name) for r in played(kind, seed, rounds).history for a in alarms_of(r)]
            seen += [round for round, name in alarms if name.startswith("drift_to")]
            others += sum(not name.startswith("drift_to") for _, name in alarms)
            if kind != "steady":
                blind = played(kind, seed, rounds, **{"health.panel": 0})
                without += any(alarms_of(record) for record in blind.history)
        counts = ", ".join(f"{round}: {seen.count(round)}" for round in sorted(set(seen))) or "none"
        print(f"| {kind} | {jobs} | {counts} | {others} | {without} |", flush=True)


PARTS = {"panel": panel, "canaries": canaries, "refusals": refusals, "scripted": scripted}


def main() -> None:
    """Print the tables asked for; all of them if none is named."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help="tables to print")
    parser.add_argument("--jobs", type=int, default=1000, help="simulated jobs of a line")
    parser.add_argument("--scripted-jobs", type=int, default=10)
    options = parser.parse_args()
    for name in options.parts or PARTS:
        print(f"\n{name}", flush=True)
        PARTS[name](options.scripted_jobs if name == "scripted" else options.jobs)


if __name__ == "__main__":
    main()
