"""A short probe: a few candidates through the real engine and the cascade once, then two bursts to see its speed.

Candidates go through every stage, with one vote each and no early exit: that shows what each role's calls are like
and how often each stage says yes. A handful of rows says nothing about speed, though, since engines answer many at
once for little more than one. So the prompts that were just asked are read once more, each once and all together; and
one of them is asked as many rows as the engine decodes together, for a few tokens. Engines read equal prompts once, so
the second burst is nearly all writing. Reading is thus measured without what rows share: a job reads no slower.
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
"""Tokens of an answer in the second burst."""


def measure(config: Config, backend: Backend, prompts: Sequence[Prompt], candidates: int) -> Measured:
    """Probe the base model.

    Args:
        config: the job.
        backend: opens the base.
        prompts: at least one; the probe takes its candidates in turn from all of them.
        candidates: solutions to sample.

    Raises:
        ModelError, EngineError: the model cannot be opened, or fails.
    """
    templates = template_set(config)
    with closing(backend.open(0)) as policy:
        metered = _Listening(policy)
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


class _Listening(MeteredPolicy):
    """Counts, and remembers which prompts were asked."""

    def __init__(self, policy: Policy) -> None:
        super().__init__(policy)
        self.prompts: list[tuple[int, ...]] = []

    def generate(self, calls: Sequence[AgentCall]) -> list[Reply]:
        """Answer, count, remember."""
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
    """Rows the engine works on at once, as far as the job has that many."""
    together = config.engine.rows_at_once or _MOST_ROWS
    return min(together, _MOST_ROWS, config.sampling.n * (config.data.prompts_per_round or _MOST_ROWS))


def _roles(
    usage: Mapping[str, Usage], yes: Mapping[StageName, tuple[int, int]], asking: Asking
) -> dict[RoleName, RoleMeans]:
    """Mean calls by role; a judge's also by vote, since invalid votes are asked again."""
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
