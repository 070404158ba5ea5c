"""The scheduler of a round against simulated engines, beside the schedule of chunks and waves.

`envs.flow` plays the round, the code that plays real ones, with the real cascade, templates and parser; only the
engine is simulated (`benchmarks.simulated_engine`). The waves are `envs.round_env` with an agent that samples what is
wanted, its calls cut into chunks as `svd_loop.ledger.durable` cuts them.

`--json` prints, for 8 replicas of 256 slots and 10,000 prompts unless told otherwise:

- `busy`, `busy_waves`: share of the slots that are occupied, until the last prompt is done;
- `makespan_ratio`: time of the waves by time of the flow;
- `useful`: share of the flow's occupied slots whose answer a verdict needed, the rest was asked ahead;
- `verdicts_differ`: prompts whose candidates, verdicts or votes are not those of the waves.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace

from benchmarks import flow_faults
from benchmarks.simulated_engine import Fleet, SimulatedEngine, Traits
from envs.cascade.cascade import Cascade
from envs.cascade.template_sets import TemplateSet
from envs.flow.flow import Flow
from envs.flow.prompt_flow import PromptFlow, RoundRules
from envs.round_env import SelfVerificationEnv
from envs.solving import SolverAgent
from svd_loop.config.sections import CascadeSection
from svd_loop.contracts import Candidate, Domain, Prompt, Selection, Verdict

FILL = 1000
"""Default of `--fill`: a simulated step takes as long with all slots as with one, so a row ahead costs little."""

Digests = dict[str, int]
"""By prompt, a hash over its candidates and verdicts with every vote."""


@dataclass(frozen=True, slots=True)
class Measured:
    """A schedule's figures: shares, seconds of the simulated engine, and seconds of this process a call."""

    busy: float
    makespan: float
    tokens: int
    calls: int
    process_microseconds: float


def rules_of(n: int = 8, votes: int = 5, block: int = 1) -> RoundRules:
    """The round of the paper: three stages of five votes, at most eight candidates, one after the other."""
    templates = TemplateSet.load("chat")
    cascade = Cascade(templates, CascadeSection(votes=votes))
    return RoundRules(cascade, SolverAgent(templates), cascade.units(1), 1, n, block, Selection.FIRST_VALID)


def prompts_of(count: int) -> Iterable[Prompt]:
    """Made prompts."""
    return (Prompt(f"p{number:07d}", f"question {number}?", Domain.MATH) for number in range(count))


def in_flow(engine: SimulatedEngine, count: int, rules: RoundRules, fill_rows: int | None) -> Digests:
    """Play a round in the flow."""
    flows = Flow(engine, fill_rows=fill_rows).play(PromptFlow(prompt, rules) for prompt in prompts_of(count))
    return {flow.prompt.id: hash(tuple(flow.played())) for flow in flows}


def in_waves(engine: SimulatedEngine, count: int, rules: RoundRules) -> Digests:
    """Play a round as the controller does in waves."""
    prompts = list(prompts_of(count))
    env = SelfVerificationEnv(prompts=prompts, judge=engine, cascade=rules.cascade, n=rules.n, block=rules.block)
    _, info = env.reset()
    assert rules.solver is not None
    while info["open"]:
        wanted = [prompts[place] for place in info["open"]]
        candidates = rules.solver.sample(engine, wanted, info["indices"], round=1)
        *_, info = env.step(env.action(candidates))
    played: dict[str, list[tuple[Candidate, Verdict]]] = {}
    for candidate, verdict in zip(info["outcome"].candidates, info["outcome"].verdicts, strict=True):
        played.setdefault(candidate.prompt_id, []).append((candidate, verdict))
    return {prompt_id: hash(tuple(pairs)) for prompt_id, pairs in played.items()}


def measured(engine: SimulatedEngine, fleet: Fleet, began: float) -> Measured:
    """The figures of an engine that has played a round."""
    available = fleet.replicas * fleet.slots * engine.now
    seconds = time.process_time() - began
    return Measured(
        engine.busy / available, engine.now, engine.tokens, engine.answered, 1e6 * seconds / max(engine.answered, 1)
    )


def compare(
    count: int, fleet: Fleet, traits: Traits, *, waves: bool, fill: int = FILL, chunk: int = 2048
) -> dict[str, object]:
    """Play the same round in both schedules."""
    rules = rules_of()
    began = time.process_time()
    engine = SimulatedEngine(fleet, traits, chunk)
    flow_done = in_flow(engine, count, rules, fill * fleet.replicas * fleet.slots or None)
    flow = measured(engine, fleet, began)
    figures: dict[str, object] = {
        "prompts": count,
        "replicas": fleet.replicas,
        "slots": fleet.slots,
        "busy": round(flow.busy, 4),
        "flow": asdict(flow),
    }
    if not waves:
        return figures
    began = time.process_time()
    engine = SimulatedEngine(fleet, traits, chunk)
    waves_done = in_waves(engine, count, rules)
    other = measured(engine, fleet, began)
    return figures | {
        "busy_waves": round(other.busy, 4),
        "makespan_ratio": round(other.makespan / flow.makespan, 3),
        "useful": round(other.tokens / flow.tokens, 4),
        "verdicts_differ": sum(digest != flow_done.get(prompt_id) for prompt_id, digest in waves_done.items()),
        "waves": asdict(other),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=10_000)
    parser.add_argument("--replicas", type=int, default=8)
    parser.add_argument("--slots", type=int, default=256)
    parser.add_argument("--mean", type=float, default=6_000.0, help="tokens of an answer")
    parser.add_argument("--slow", type=float, default=0.0, help="share of the replicas that are four times slower")
    parser.add_argument("--lives", type=float, default=0.0, help="mean seconds until a replica dies; 0 never")
    parser.add_argument("--chunk", type=int, default=2048, help="engine.chunk_size of the waves")
    parser.add_argument("--fill", type=int, default=FILL, help="cascade.fill_rows by slots; 0 asks nothing ahead")
    parser.add_argument(
        "--flow-only", action="store_true", help="leave the waves out; memory then holds what is in flight"
    )
    parser.add_argument(
        "--faults", type=int, help="play this many schedules of faults instead (benchmarks.flow_faults)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the first schedule of faults")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    chosen = parser.parse_args(arguments)
    if chosen.faults is not None:
        found = flow_faults.run(chosen.faults, chosen.seed)
        print(json.dumps(found))
        raise SystemExit(bool(found["broken"]))
    fleet = Fleet(chosen.replicas, chosen.slots, slow=chosen.slow, lives=chosen.lives)
    traits = replace(Traits(), mean=chosen.mean)
    figures = compare(chosen.prompts, fleet, traits, waves=not chosen.flow_only, fill=chosen.fill, chunk=chosen.chunk)
    if chosen.json:
        print(json.dumps(figures))
        return
    for name, value in figures.items():
        print(f"{name:>16}  {value}")


if __name__ == "__main__":
    main()
