"""What a token budget gains: prompts with a verified solution for the same output tokens, on nano.

    python -m benchmarks.budget

- `fixed n, all at once`: the paper's n candidates of every prompt, judged in waves.
- `fixed n, in blocks`: one candidate of a prompt after the other, up to n, until one is accepted.
- `budget`: up to `--n` candidates where they are missing, for the output tokens (solver and judge) that either of the
  two spent in the same seed (`sampling.budget_tokens`, `envs.spending`).

All ways share answers (`benchmarks.cascade.Memory`), so they differ in what they ask and in nothing else.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

from benchmarks.cascade import ROUND, Setting, settings
from benchmarks.controls import REPOSITORY
from envs.round_env import SelfVerificationEnv
from svd_loop.contracts import Episode

FIXED = (1, 2, 4, 8)


def play(setting: Setting, n: int, block: int | None, budget: int | None = None) -> tuple[int, int]:
    """Prompts accepted in a round, and the output tokens it took."""
    setting.policy.take_usage()
    environment = SelfVerificationEnv(
        prompts=setting.prompts, judge=setting.policy, cascade=setting.cascade, n=n, block=block, budget_tokens=budget
    )
    _, info = environment.reset(options={"round": ROUND})
    while info["open"]:
        wanted = [setting.prompts[place] for place in info["open"]]
        candidates = setting.solver.sample(setting.policy, wanted, info["indices"], round=ROUND)
        _, _, _, _, info = environment.step(environment.action(candidates))
    episode: Episode = info["outcome"]
    # The policy sampled and, through the environment, judged: it has counted both.
    return len(episode.selected), sum(counts["output_tokens"] for counts in setting.policy.take_usage().values())


def rows_of(setting: Setting, most: int) -> dict[str, list[tuple[int, int]]]:
    """For each n: the two fixed ways, and the budget for the tokens of either."""
    found: dict[str, list[tuple[int, int]]] = {}
    for n in FIXED:
        whole, blocks = play(setting, n, None), play(setting, n, 1)
        found[f"{n}"] = [whole, play(setting, most, 1, whole[1]), blocks, play(setting, most, 1, blocks[1])]
    return found


def table(seeds: Sequence[dict[str, list[tuple[int, int]]]], prompts: int) -> str:
    """Mean accepted prompts and thousand tokens a seed, with the range of the budget's gain over seeds."""
    ways = ("all at once", "budget for these", "in blocks", "budget for these")
    lines = ["| n | " + " | ".join(f"{way}: accepted, k tokens" for way in ways) + " | gains |", "|---" * 6 + "|"]
    for n in seeds[0]:
        by_way: defaultdict[int, list[tuple[int, int]]] = defaultdict(list)
        for seed in seeds:
            for place, pair in enumerate(seed[n]):
                by_way[place].append(pair)
        cells = [f"{fmean(a for a, _ in p):.1f}, {fmean(t for _, t in p) / 1000:.1f}" for p in by_way.values()]
        gains = [[b[0] - a[0] for a, b in zip(by_way[f], by_way[f + 1], strict=True)] for f in (0, 2)]
        shown = "; ".join(f"{fmean(g):+.1f} ({min(g):+d} to {max(g):+d})" for g in gains)
        lines.append(f"| {n} | {' | '.join(cells)} | {shown} |")
    return f"{prompts} prompts a seed, {len(seeds)} seeds\n" + "\n".join(lines)


def main() -> None:
    """Play and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, default=REPOSITORY / "configs" / "nano.yaml")
    parser.add_argument("--prompts", type=int, default=60, help="a seed, over the three domains")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--n", type=int, default=32, help="most candidates of a prompt under the budget")
    parser.add_argument("--votes", type=int, default=3)
    options = parser.parse_args(namespace=argparse.Namespace(counts_only=True))
    with tempfile.TemporaryDirectory() as folder:
        rounds = (setting for seed, setting in settings(options, Path(folder)) if seed)
        seeds = [rows_of(setting, options.n) for setting in rounds]
    sys.stdout.write(table(seeds, options.prompts) + "\n")


if __name__ == "__main__":
    main()
