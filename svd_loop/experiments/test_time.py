"""Answer at test time instead of training: sample and judge n candidates per question and answer with one of them.

This is how the validators of "UQ: Assessing Language Models on Unsolved Questions" (arXiv 2508.17580) answer, and what
the method's paper compares itself with as UQ-TTC.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from envs.solving import SolverAgent
from svd_loop.assembly.job import make_cascade, template_set
from svd_loop.config import Config
from svd_loop.contracts import Candidate, Problem, Scores
from svd_loop.evaluation.evaluation import Solution, score_solutions
from svd_loop.support.usage import MeteredPolicy

_PURPOSE = "test"
"""Purpose of the evaluation's samples, so that candidates and evaluation are the same answers."""


@dataclass(frozen=True, slots=True)
class AnsweredAtTestTime:
    """Scores of one answer per problem, with calls and output tokens by role."""

    scores: Scores
    calls: Mapping[str, int]
    tokens: Mapping[str, int]


def answer_at_test_time(config: Config, policy: MeteredPolicy, problems: Sequence[Problem]) -> AnsweredAtTestTime:
    """Answer every problem with the first accepted of `sampling.n` candidates, or with the first if none is accepted.

    Args:
        config: the job whose solver, cascade and evaluation are used.
        policy: the base.
        problems: held-out problems; M of them.
    """
    policy.take_usage()
    prompts = [problem.as_prompt() for problem in problems]
    n = config.sampling.n
    candidates = SolverAgent(template_set(config)).sample(policy, prompts, range(n), round=0, purpose=_PURPOSE)
    by_id = {prompt.id: prompt for prompt in prompts}
    items = [(by_id[candidate.prompt_id], candidate) for candidate in candidates]
    cascade = make_cascade(config, template_set(config))
    verdicts = cascade.judge(policy, items, round=0, purpose="test_time")
    chosen: dict[str, Candidate] = {}
    accepted: set[str] = set()
    for candidate, verdict in zip(candidates, verdicts, strict=True):
        if candidate.prompt_id not in chosen or (verdict.accepted and candidate.prompt_id not in accepted):
            chosen[candidate.prompt_id] = candidate
        if verdict.accepted:
            accepted.add(candidate.prompt_id)
    solutions = [Solution(prompt.id, chosen[prompt.id].text) for prompt in prompts]
    scores = score_solutions(problems, solutions, config.evaluation, split=_PURPOSE, seed=config.job.seed)
    usage = policy.take_usage()
    return AnsweredAtTestTime(
        scores,
        {role: counts.calls for role, counts in usage.items()},
        {role: counts.output_tokens for role, counts in usage.items()},
    )
