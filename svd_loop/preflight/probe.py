"""Probe a model: sample and judge a few candidates with the real engine, then measure its speed in two bursts.

Candidates pass through every stage, with one vote each and no early exit. That gives the mean calls of each role and
the share of yes votes of each stage. A few rows give no speed, because engines process many rows in hardly more time
than one. So the first burst reads the prompts of the probe again, each once and all together. The second burst
generates a few tokens for one prompt in as many rows as the engine decodes together; engines read equal prompts once,
so nearly all of its time is decoding. Reading is thus measured without shared prefixes, and a job reads at least as
fast.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import replace

from envs.cascade.cascade import Cascade
from envs.cascade.votes import unfit
from envs.solving import SolverAgent
from policies.policy import ModelPolicy
from svd_loop.assembly.backends import Backend
from svd_loop.assembly.job import template_set
from svd_loop.config import Config
from svd_loop.config.stages import stage_section
from svd_loop.contracts import AgentCall, Asking, Policy, Prompt, Reply, RoleName, StageName, Usage, VoteValue
from svd_loop.preflight.work import Measured, RoleMeans
from svd_loop.support.usage import MeteredPolicy

_MOST_ROWS = 256
_WRITTEN = 16
"""Tokens generated for each row of the second burst."""


def measure(config: Config, backend: Backend, prompts: Sequence[Prompt], candidates: int) -> Measured:
    """Probe the base model.

    Args:
        config: the job.
        backend: opens the base model.
        prompts: at least one; candidates are spread over all of them.
        candidates: number of solutions to sample.

    Raises:
        ModelError, EngineError: the model cannot be opened, or fails.
    """
    templates = template_set(config)
    with closing(backend.open(0)) as policy:
        metered = _PromptRecorder(policy)
        asked = prompts[:candidates]
        tries = range(-(-candidates // len(asked)))
        sampled = SolverAgent(templates).sample(metered, asked, tries, round=1)[:candidates]
        by_id = {prompt.id: prompt for prompt in asked}
        items = [(by_id[one.prompt_id], one) for one in sampled]
        once = {"votes": 1, "rule": "unanimous", "early_exit": False, "audit_share": 0.0, "order": "stage_major"}
        settings = config.cascade.with_judge_only().model_copy(update=once)
        verdicts = Cascade(templates, settings).judge(metered, items, round=1)
        cast = [vote for verdict in verdicts for vote in verdict.votes]
        yes = {
            stage: (
                sum(vote.value is VoteValue.YES for vote in cast if vote.stage == stage),
                sum(vote.stage == stage for vote in cast),
            )
            for stage in config.cascade.stage_names
        }
        complete = sum(unfit(candidate) is None for candidate in sampled)
        measured = Measured(len(sampled), complete, _roles(metered.take_usage(), yes, settings.asking), yes)
        if not isinstance(policy, ModelPolicy):
            return measured
        return _with_speed(measured, policy, metered.prompts, _rows(config))


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


def _with_speed(measured: Measured, policy: ModelPolicy, asked: Sequence[tuple[int, ...]], rows: int) -> Measured:
    distinct = sorted(set(asked), key=lambda ids: (len(ids), ids))[:rows]
    began = time.perf_counter()
    policy.burst(distinct, 1)
    read = time.perf_counter()
    middle = distinct[len(distinct) // 2]
    written = sum(len(answer.token_ids) for answer in policy.burst([middle] * rows, 1 + _WRITTEN))
    ended = time.perf_counter()
    prompt_rate = sum(map(len, distinct)) / max(read - began, 1e-9)
    both = max(ended - read, 1e-9)
    reading, further = len(middle) / prompt_rate, written - rows
    output_rate = further / (both - reading) if both > reading and further > 0 else written / both
    return replace(measured, prompt_rate=prompt_rate, output_rate=output_rate, rows=rows)


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
