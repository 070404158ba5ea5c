"""The policy as solver: from prompts to candidates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from envs.cascade.asking import ask
from envs.cascade.template_sets import TemplateSet
from svd_loop.contracts import AgentCall, CallId, Candidate, Policy, Prompt, Role


@dataclass(frozen=True, slots=True)
class SolverAgent:
    """Asks a policy for solutions with the solver template of a set."""

    templates: TemplateSet

    def calls(
        self, prompts: Sequence[Prompt], indices: Sequence[int], *, round: int, purpose: str = "train"
    ) -> list[AgentCall]:
        """The calls for candidates number `indices` of every prompt, prompt-major: length P * len(indices).

        All calls of a prompt share one rendering and differ only in their id, hence in their seed.
        """
        return [call for prompt in prompts for call in self._calls_of(prompt, indices, round, purpose)]

    def sample(
        self, policy: Policy, prompts: Sequence[Prompt], indices: Sequence[int], *, round: int, purpose: str = "train"
    ) -> list[Candidate]:
        """Candidates number `indices` of every prompt, prompt-major, with the token ids that were sampled.

        Raises:
            EngineError: The policy left a call unanswered.
        """
        replies = ask(policy, self.calls(prompts, indices, round=round, purpose=purpose))
        return [reply.as_candidate() for reply in replies]

    def _calls_of(self, prompt: Prompt, indices: Sequence[int], round: int, purpose: str) -> list[AgentCall]:
        messages = self.templates.render(Role.SOLVER, prompt.domain, question=prompt.text)
        version = self.templates.version(Role.SOLVER, prompt.domain)
        return [
            AgentCall(CallId(purpose, round, Role.SOLVER, prompt.id, candidate=index), messages, version)
            for index in indices
        ]
