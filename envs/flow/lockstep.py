"""The flow over candidates that are there already: how a step of the environment judges under `cascade.flow`.

Every vote moves on as soon as it can, and the step ends when the last verdict is known. The agent then sees which
prompts are open, so that sampling and judging take turns.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace

from envs.cascade.cascade import Cascade
from envs.flow.flow import Flow
from envs.flow.prompt_flow import PromptFlow, RoundRules
from svd_loop.contracts import Candidate, Policy, Prompt, Selection, Verdict
from svd_loop.support.streams import stream_of


def judge_in_flow(
    cascade: Cascade,
    judge: Policy,
    items: Sequence[tuple[Prompt, Candidate]],
    *,
    round: int,
    fill_rows: int | None = None,
) -> list[Verdict]:
    """Return the verdicts of `Cascade.judge`, aligned with `items`.

    Args:
        cascade: Judges.
        judge: The policy that votes.
        items: Candidates with their prompts, in any order; those of a prompt are its group for stages that see all.
        round: The round being played.
        fill_rows: Calls in flight up to which votes are asked ahead; None asks none.

    Raises:
        EngineError: The judge left a call unanswered.
        ConfigError: A stage that sees all candidates cannot decide about a prompt's domain.
    """
    groups: dict[str, list[Candidate]] = {}
    for prompt, candidate in items:
        groups.setdefault(prompt.id, []).append(candidate)
    rules = RoundRules(cascade, None, cascade.units(round), round, 1, 1, Selection.FIRST_VALID)
    flows = [
        PromptFlow(prompt, replace(rules, n=len(groups[prompt.id])), groups[prompt.id])
        for prompt in {prompt.id: prompt for prompt, _ in items}.values()
    ]
    with closing(stream_of(judge)) as stream:
        for _ in Flow(stream, fill_rows=fill_rows).play(flow for flow in flows if not flow.is_done):
            pass
    found = {(one.prompt_id, one.index): verdict for flow in flows for one, verdict in flow.played()}
    return [found[prompt.id, candidate.index] for prompt, candidate in items]
