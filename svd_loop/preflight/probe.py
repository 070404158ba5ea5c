"""Probe a model: sample and judge a few candidates with the real engine, then measure its speed in bursts.

Candidates pass through every stage, with one vote each and no early exit. That gives the mean calls of each role and
the share of yes votes of each stage. A few rows give no speed, because engines process many rows in hardly more time
than one. So the reading bursts take prompts of the probe all together, in growing numbers until one burst took long
enough to be measured; their tokens are rotated, so that no engine has read the same beginning before. Then one burst
generates a few tokens for one prompt in as many rows as the engine decodes together; engines read equal prompts once,
so nearly all of its time is decoding. Reading is thus measured without shared prefixes, and a job reads at least as
fast.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from envs.cascade.votes import unfit
from envs.solving import SolverAgent
from policies.policy import ModelPolicy
from svd_loop.assembly.job import make_cascade, template_set
from svd_loop.config import Config
from svd_loop.config.stages import stage_section
from svd_loop.contracts import AgentCall, Asking, Policy, Prompt, Reply, RoleName, StageName, Usage, VoteValue
from svd_loop.preflight.work import Measured, RoleMeans
from svd_loop.support.usage import MeteredPolicy

_MOST_ROWS = 256
_WRITTEN = 16
"""Tokens generated for each row of the writing burst."""
_FIRST_READ = 4
"""Prompts of the first reading burst; each further one has four times as many."""
_LONG_ENOUGH = 1.0
"""Seconds after which a reading burst is not followed by a larger one."""


@dataclass(frozen=True, slots=True)
class Probed:
    """What a probe found, and the prompts of its calls as token ids."""

    measured: Measured
    prompts: Sequence[tuple[int, ...]]


def probe(config: Config, policy: Policy, prompts: Sequence[Prompt], candidates: int) -> Probed:
    """Sample and judge.

    Args:
        config: the job.
        policy: the base model.
        prompts: at least one; candidates are spread over all of them.
        candidates: number of solutions to sample.

    Raises:
        EngineError: the model fails.
    """
    templates = template_set(config)
    metered = _PromptRecorder(policy)
    asked = prompts[:candidates]
    # Stages that see all candidates of a prompt need all of them, of which the first ones are judged.
    deciding = bool(config.cascade.deciding_stages)
    tries = range(config.sampling.n if deciding else -(-candidates // len(asked)))
    drawn = SolverAgent(templates).sample(metered, asked, tries, round=1)
    groups = {prompt.id: [one for one in drawn if one.prompt_id == prompt.id] for prompt in asked}
    sampled = sorted(drawn, key=lambda one: one.index)[:candidates] if deciding else drawn[:candidates]
    by_id = {prompt.id: prompt for prompt in asked}
    items = [(by_id[one.prompt_id], one) for one in sampled]
    once = {"votes": 1, "rule": "unanimous", "early_exit": False, "audit_share": 0.0, "order": "stage_major"}
    settings = config.cascade.model_copy(update=once)
    verdicts = replace(make_cascade(config, templates), settings=settings).judge(metered, items, round=1, groups=groups)
    cast = [vote for verdict in verdicts for vote in verdict.votes]
    yes = {
        stage: (
            sum(vote.value is VoteValue.YES for vote in cast if vote.stage == stage),
            sum(vote.stage == stage for vote in cast),
        )
        for stage in config.cascade.stage_names
    }
    complete = sum(unfit(candidate) is None for candidate in sampled)
    roles = _roles(metered.take_usage(), yes, settings.asking)
    return Probed(Measured(len(sampled), complete, roles, yes), metered.prompts)


def with_speed(config: Config, policy: Policy, probed: Probed) -> Measured:
    """Return a probe's measurements with the speed of reading and writing; a script has none.

    Raises:
        EngineError: the model fails.
    """
    if not isinstance(policy, ModelPolicy):
        return probed.measured
    rows = _rows(config)
    distinct = sorted(set(probed.prompts), key=lambda ids: (len(ids), ids))
    prompt_rate = _reading_rate(policy, distinct, rows)
    middle = distinct[len(distinct) // 2]
    began = time.perf_counter()
    written = sum(len(answer.token_ids) for answer in policy.burst([middle] * rows, 1 + _WRITTEN))
    both = max(time.perf_counter() - began, 1e-9)
    reading, further = len(middle) / prompt_rate, written - rows
    output_rate = further / (both - reading) if both > reading and further > 0 else written / both
    return replace(probed.measured, prompt_rate=prompt_rate, output_rate=output_rate, rows=rows)


def _reading_rate(policy: ModelPolicy, distinct: Sequence[tuple[int, ...]], rows: int) -> float:
    """Return tokens read in a second, by the last and largest burst."""
    count = min(_FIRST_READ, rows)
    while True:
        # Evenly spread over the lengths. Beyond their number the prompts are taken again, rotated further.
        picked = [distinct[place * len(distinct) // count % len(distinct)] for place in range(count)]
        asked = [_rotated(ids, count + place) for place, ids in enumerate(picked)]
        began = time.perf_counter()
        policy.burst(asked, 1)
        seconds = max(time.perf_counter() - began, 1e-9)
        if seconds >= _LONG_ENOUGH or count == rows:
            return sum(map(len, asked)) / seconds
        count = min(4 * count, rows)


def _rotated(ids: tuple[int, ...], by: int) -> tuple[int, ...]:
    start = by % len(ids)
    return ids[start:] + ids[:start]


class _PromptRecorder(MeteredPolicy):
    """Counts calls and tokens, and records the prompts of all calls."""

    def __init__(self, policy: Policy) -> None:
        super().__init__(policy)
        self.prompts: list[tuple[int, ...]] = []

    def generate(self, calls: Sequence[AgentCall]) -> list[Reply]:
        """Generate replies, count them and record their prompts."""
        replies = super().generate(calls)
        self.prompts += [reply.prompt_ids for reply in replies if reply.token_ids]
        return replies


def _rows(config: Config) -> int:
    """Return the number of rows the engine processes at once, at most the job's candidates."""
    together = config.engine.rows_at_once or _MOST_ROWS
    return min(together, _MOST_ROWS, config.sampling.n * (config.data.prompts_per_round or _MOST_ROWS))


def _roles(
    usage: Mapping[str, Usage], yes: Mapping[StageName, tuple[int, int]], asking: Asking
) -> dict[RoleName, RoleMeans]:
    """Return mean calls by role; a judge's also per vote, because invalid votes are repeated."""
    votes: Counter[RoleName] = Counter()
    for stage, (_, cast) in yes.items():
        votes.update(dict.fromkeys(stage_section(stage).roles_for(asking), cast))
    means = {}
    for name, counts in usage.items():
        role, calls = name, counts.calls
        means[role] = RoleMeans(
            counts.prompt_tokens / calls, counts.output_tokens / calls, calls / (votes[role] or calls)
        )
    return means
