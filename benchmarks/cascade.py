"""What a verified round costs: the same accepted candidates, judged in several ways, on nano.

Every arm solves and judges the same prompts with the same seeds; nothing is shared between arms but the weights
(with `--counts-only` they share answers too: calls and tokens are the same, seconds say nothing and are left out).

- `exhaustive`: all n candidates, every vote of every stage, in one wave.
- `stage-gated`: all n candidates, all votes of a stage at once, survivors go on to the next stage (what the validators
  of UQ, arXiv 2508.17580, do). The others are compared with it.
- `waves`: all n candidates, one vote at a time; the first vote that is not yes is the last one paid for.
- `waves, blocks`: one candidate of a prompt at a time until one is accepted, judged in waves in the paper's order.
- `waves, blocks, measured`: in the order measured on the votes of `waves, blocks` of the seed before, which has other
  prompts and other samples (a seed 0, not counted, is played for the first), as a job measures on the round before.

Beside the seconds stands the process's CPU time (one thread), which other programs on the machine disturb less.

Asserted: all arms select the same candidate of every prompt, and two arms agree on every candidate and every vote that
both asked about. `python -m benchmarks.cascade` prints the table, `--write` stores the figures too.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.controls import REPOSITORY
from envs.cascade.cascade import Cascade
from envs.cascade.ordering import Measurements, Unit, measured_order
from envs.round_env import SelfVerificationEnv
from envs.solving import SolverAgent
from svd_loop.assembly.backends import make_backend
from svd_loop.assembly.data import problems_of
from svd_loop.assembly.job import template_set
from svd_loop.config import Config, load_config
from svd_loop.contracts import (
    AgentCall,
    Candidate,
    Prompt,
    Reply,
    Role,
    Stage,
    StageName,
    Verdict,
    VoteValue,
)
from svd_loop.ledger import DurablePolicy
from svd_loop.support.usage import MeteredPolicy

STORED = REPOSITORY / "benchmarks" / "results" / "cascade.json"
REFERENCE, MEASURED_ON, GOAL, ROUND = "stage-gated", "waves, blocks", 3.0, 1
STAGE_OF = {
    Role.QUESTION_INFERRER: Stage.CYCLE_CONSISTENCY,
    Role.QUESTION_COMPARER: Stage.CYCLE_CONSISTENCY,
    Role.FACT_CHECKER: Stage.FACTUALITY,
    Role.GRADER: Stage.CORRECTNESS,
}


class Memory:
    """Answers kept for later arms under `--counts-only`: a `DurablePolicy` without a disk."""

    def __init__(self) -> None:
        self._replies: dict[str, Reply] = {}

    def lookup(self, keys: Iterable[str]) -> dict[str, Reply]:
        """The known ones among `keys`."""
        return {key: self._replies[key] for key in keys if key in self._replies}

    def record(self, items: Sequence[tuple[str, AgentCall, Reply]]) -> None:
        """Keep answers."""
        self._replies |= {key: reply for key, _, reply in items}


@dataclass(frozen=True, slots=True)
class Setting:
    """One seed's round: what is asked of whom."""

    config: Config
    policy: MeteredPolicy
    prompts: Sequence[Prompt]
    cascade: Cascade
    solver: SolverAgent

    def ordered(self, **settings: Any) -> Setting:
        """The same round with other settings of the cascade."""
        return replace(self, cascade=replace(self.cascade, settings=self.cascade.settings.model_copy(update=settings)))

    def solve(self) -> list[tuple[Prompt, Candidate]]:
        """All n candidates of every prompt."""
        candidates = self.solver.sample(self.policy, self.prompts, range(self.config.sampling.n), round=ROUND)
        by_id = {prompt.id: prompt for prompt in self.prompts}
        return [(by_id[candidate.prompt_id], candidate) for candidate in candidates]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an arm found and paid in one seed. Tokens and calls of the judge are those of its four roles together."""

    verdicts: Sequence[Verdict]
    cost: Mapping[str, float]
    stage_tokens: Mapping[StageName, int]

    def accepted(self) -> dict[tuple[str, int], bool]:
        """Acceptance by prompt and candidate."""
        return {(verdict.prompt_id, verdict.candidate): verdict.accepted for verdict in self.verdicts}

    def votes(self) -> dict[tuple[str, int, StageName, int], VoteValue]:
        """Every vote that was cast."""
        cast = (vote for verdict in self.verdicts for vote in verdict.votes)
        return {(vote.prompt_id, vote.candidate, vote.stage, vote.vote): vote.value for vote in cast}

    def measured(self) -> Measurements:
        """What a later round's order is derived from."""
        tallies: defaultdict[tuple[str, int], dict[StageName, tuple[int, int]]] = defaultdict(dict)
        number: Counter[StageName] = Counter()
        for (prompt, candidate, stage, _), value in self.votes().items():
            yes, other = tallies[prompt, candidate].get(stage, (0, 0))
            is_yes = value is VoteValue.YES
            tallies[prompt, candidate][stage] = (yes + is_yes, other + (not is_yes))
            number[stage] += 1
        return Measurements(
            list(tallies.values()), {stage: self.stage_tokens[stage] / count for stage, count in number.items()}
        )

    def first_valid(self) -> dict[str, int]:
        """The lowest accepted candidate of every prompt that has one."""
        return dict(sorted((key for key, yes in self.accepted().items() if yes), reverse=True))


# ------------------------------------------------------------------------------------------------ arms


def exhaustive(setting: Setting) -> list[Verdict]:
    """Everything is asked."""
    setting = setting.ordered(early_exit=False)
    return setting.cascade.judge(setting.policy, setting.solve(), round=ROUND)


def stage_gated(setting: Setting) -> list[Verdict]:
    """All votes of a stage about everybody whom the stages before let through."""
    alive = setting.solve()
    last: dict[tuple[str, int], Verdict] = {}
    for stage in setting.cascade.settings.stages:
        cascade = setting.ordered(stages=(stage,), early_exit=False).cascade
        for verdict in cascade.judge(setting.policy, alive, round=ROUND):
            key = (verdict.prompt_id, verdict.candidate)
            earlier = last[key].votes if key in last else ()
            last[key] = replace(verdict, votes=(*earlier, *verdict.votes))
        alive = [(prompt, candidate) for prompt, candidate in alive if last[prompt.id, candidate.index].accepted]
    return list(last.values())


def waves(setting: Setting) -> list[Verdict]:
    """One vote at a time about all candidates."""
    return setting.cascade.judge(setting.policy, setting.solve(), round=ROUND)


def blocks(setting: Setting) -> list[Verdict]:
    """One candidate at a time, as the loop plays it with `sampling.block: 1`."""
    environment = SelfVerificationEnv(
        prompts=setting.prompts,
        judge=setting.policy,
        cascade=setting.cascade,
        n=setting.config.sampling.n,
        block=1,
        fill_rows=setting.cascade.settings.fill_rows,
    )
    _, info = environment.reset(options={"round": ROUND})
    while info["open"]:
        wanted = [setting.prompts[place] for place in info["open"]]
        candidates = setting.solver.sample(setting.policy, wanted, info["indices"], round=ROUND)
        _, _, _, _, info = environment.step(environment.action(candidates))
    return list(info["outcome"].verdicts)


@dataclass(frozen=True, slots=True)
class Arm:
    """A way to play a round, with settings of the cascade."""

    plays: Callable[[Setting], list[Verdict]]
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self, setting: Setting) -> list[Verdict]:
        """The verdicts."""
        return self.plays(setting.ordered(**self.settings))


def arms_of(fills: Sequence[int]) -> dict[str, Arm]:
    """All arms by name."""
    arms = {
        "exhaustive": Arm(exhaustive),
        REFERENCE: Arm(stage_gated),
        "waves": Arm(waves),
        MEASURED_ON: Arm(blocks),
        "waves, blocks, measured": Arm(blocks, {"order": "measured"}),
    }
    for fill in fills:
        for name in (MEASURED_ON, "waves, blocks, measured"):
            arms[f"{name}, fill {fill}"] = Arm(blocks, {**arms[name].settings, "fill_rows": fill})
    return arms


# --------------------------------------------------------------------------------------------- playing


def play(arm: Arm, setting: Setting) -> Outcome:
    """Run one arm and count."""
    setting.policy.take_usage()
    started, worked = time.monotonic(), time.process_time()
    verdicts = arm(setting)
    spent = {"seconds": time.monotonic() - started, "cpu_seconds": time.process_time() - worked}
    cost: Counter[str] = Counter()
    stage_tokens: Counter[StageName] = Counter()
    for role, counts in setting.policy.take_usage().items():
        side = "solver" if role == "solver" else "judge"
        cost.update({f"{side}_{name}": count for name, count in asdict(counts).items()})
        if stage := STAGE_OF.get(role):
            stage_tokens[stage] += counts.output_tokens
    return Outcome(verdicts, {**cost, **spent}, stage_tokens)


def settings(options: argparse.Namespace, folder: Path) -> Iterator[tuple[int, Setting]]:
    """A round for every seed and for seed 0: prompts and samples of its own."""
    for seed in range(options.seeds + 1):
        config = load_config(
            options.config,
            [
                f"job.root={folder}",
                f"job.seed={seed}",
                f"sampling.n={options.n}",
                f"cascade.votes={options.votes}",
                f"data.train={{type: nano, count: {-(-options.prompts // 3)}, seed: {seed}}}",
                "engine.threads=1",
                "cascade.order=stage_major",
                "cascade.fill_rows=null",  # an arm changes what it is about, and nothing else
            ],
        )
        prompts = [problem.as_prompt() for problem in problems_of(config.data.train, "train")]
        templates = template_set(config)
        answering = make_backend(config, folder / str(seed)).open(0)
        if options.counts_only:
            answering = DurablePolicy(answering, Memory(), chunk_size=config.engine.chunk_size)
        with closing(MeteredPolicy(answering)) as policy:
            cascade = Cascade(templates, config.cascade, config.job.seed)
            yield seed, Setting(config, policy, prompts[: options.prompts], cascade, SolverAgent(templates))


def play_seeds(rounds: Iterable[tuple[int, Setting]], arms: Mapping[str, Arm]) -> Iterator[dict[str, Any]]:
    """All arms of every seed but seed 0, which is only measured on."""
    before: Outcome | None = None
    for seed, setting in rounds:
        if before is None:
            before = play(arms[MEASURED_ON], setting)
            continue
        sizes = setting.cascade.settings
        order = measured_order(sizes.stage_names, sizes.votes, before.measured())
        setting = replace(setting, cascade=replace(setting.cascade, order_of=partial(_fixed, order)))
        outcomes = {name: play(arm, setting) for name, arm in arms.items()}
        refuse_disagreement(outcomes)
        before = outcomes[MEASURED_ON]
        accepted = len(before.first_valid())
        sys.stderr.write(f"seed {seed}: {accepted} of {len(setting.prompts)} prompts accepted, all arms agree\n")
        yield {
            "seed": seed,
            "prompts": len(setting.prompts),
            "accepted": accepted,
            "order": [f"{stage}.{vote}" for stage, vote in order],
            "arms": {name: dict(outcome.cost) for name, outcome in outcomes.items()},
        }


def _fixed(order: tuple[Unit, ...], round: int) -> tuple[Unit, ...]:
    return order


def refuse_disagreement(outcomes: Mapping[str, Outcome]) -> None:
    """Stop unless all arms select the same candidates and agree wherever two of them asked."""
    names = list(outcomes)
    for place, name in enumerate(names):
        for other in names[:place]:
            one, two = outcomes[name], outcomes[other]
            assert one.first_valid() == two.first_valid(), f"{name} and {other} select different candidates"
            differing = [*differences(one.accepted(), two.accepted()), *differences(one.votes(), two.votes())]
            assert not differing, f"{name} and {other} disagree on {differing[:3]}"


def differences(mine: Mapping[Any, object], others: Mapping[Any, object]) -> list[object]:
    """Keys that both hold, with different values."""
    return [key for key in mine.keys() & others.keys() if mine[key] != others[key]]


def table(seeds: Sequence[Mapping[str, Any]], timed: bool) -> str:
    """Means a seed, and the reference's judge output tokens and seconds over each arm's (range over seeds)."""
    columns = ["judge_calls", "judge_prompt_tokens", "judge_output_tokens", "solver_output_tokens"]
    compared = {"judge_output_tokens": "fewer judge output tokens"}
    if timed:
        columns += ["seconds", "cpu_seconds"]
        compared |= {"seconds": "faster", "cpu_seconds": "less CPU time"}
    headings = ["a round, mean of the seeds", *(name.replace("_", " ") for name in columns), *compared.values()]
    lines = [f"| {' | '.join(headings)} |", "|---" * len(headings) + "|"]
    for arm in seeds[0]["arms"]:
        means = [sum(entry["arms"][arm][column] for entry in seeds) / len(seeds) for column in columns]
        ratios = [ratio_text(seeds, arm, column) for column in compared]
        lines.append(f"| {' | '.join([arm, *(f'{mean:,.0f}' for mean in means), *ratios])} |")
    return "\n".join(lines)


def ratios_of(seeds: Sequence[Mapping[str, Any]], arm: str, column: str) -> list[float]:
    """The reference's figure over the arm's, seed by seed."""
    return [entry["arms"][REFERENCE][column] / entry["arms"][arm][column] for entry in seeds]


def ratio_text(seeds: Sequence[Mapping[str, Any]], arm: str, column: str) -> str:
    """`3.4 (3.1-3.6)`."""
    ratios = ratios_of(seeds, arm, column)
    return f"{sum(ratios) / len(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})"


def verdict_of(seeds: Sequence[Mapping[str, Any]], timed: bool) -> str:
    """Which arms reach the goal in the worst seed, in tokens and, where they were taken, in seconds."""
    arms = list(seeds[0]["arms"])
    fewer = [arm for arm in arms if min(ratios_of(seeds, arm, "judge_output_tokens")) >= GOAL]
    lines = [f"at least {GOAL:.0f} times fewer judge output tokens in the worst seed: {'; '.join(fewer) or 'none'}"]
    if timed:
        for column in ("seconds", "cpu_seconds"):
            both = [arm for arm in fewer if min(ratios_of(seeds, arm, column)) >= 1.0]
            lines.append(f"of these, no more {column} than {REFERENCE} in the worst seed: {'; '.join(both) or 'none'}")
    return "\n".join(lines)


def main() -> None:
    """Play all arms over the seeds, check that they agree, and print what they cost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, default=REPOSITORY / "configs" / "nano.yaml")
    parser.add_argument("--prompts", type=int, default=40, help="a seed, over the three domains")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--n", type=int, default=8)
    parser.add_argument("--votes", type=int, default=5)
    parser.add_argument("--fill", type=int, nargs="*", default=[32, 64, 128], help="values of cascade.fill_rows")
    parser.add_argument("--counts-only", action="store_true", help="arms share answers: quick, and no seconds")
    parser.add_argument("--write", action="store_true", help=f"store the figures in {STORED.relative_to(REPOSITORY)}")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        seeds = list(play_seeds(settings(options, Path(folder)), arms_of(options.fill)))
    for cost in (cost for entry in seeds if options.counts_only for cost in entry["arms"].values()):
        del cost["seconds"], cost["cpu_seconds"]
    sys.stdout.write(f"{table(seeds, not options.counts_only)}\n\n{verdict_of(seeds, not options.counts_only)}\n")
    if options.write:
        STORED.parent.mkdir(exist_ok=True)
        shape = {name: getattr(options, name) for name in ("prompts", "n", "votes", "fill", "counts_only")}
        STORED.write_text(json.dumps({"shape": shape, "seeds": seeds}, indent=1) + "\n")


if __name__ == "__main__":
    main()
