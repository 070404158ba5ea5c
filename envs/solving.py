"""The policy as solver: from prompts to candidates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from envs.cascade.asking import ask
from envs.cascade.template_sets import TemplateSet
from envs.cascade.votes import answer_of
from svd_loop.contracts import AgentCall, CallId, Candidate, Policy, Prompt, Reply, Revision, Role


@dataclass(frozen=True, slots=True)
class SolverAgent:
    """Asks a policy for solutions in the words of a template set."""

    templates: TemplateSet

    def calls(
        self, prompts: Sequence[Prompt], indices: Sequence[int], *, round: int, purpose: str = "train"
    ) -> list[AgentCall]:
        """The calls for candidates number `indices` of every prompt, prompt-major: length P * len(indices).

        All calls of a prompt are rendered once and differ in their id alone, hence in their seed.
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
        return [_candidate(reply) for reply in replies]

    def revise(self, policy: Policy, revisions: Sequence[Revision], index: int, *, round: int) -> list[Candidate]:
        """One new candidate, number `index`, for each rejected one, in their order.

        The tokens are those sampled in sight of the rejected solution and the critique; the prompt is the plain one the
        rejected solution was sampled from, since that is what the row will be trained on.

        Raises:
            EngineError: The policy left a call unanswered.
        """
        replies = ask(policy, [self._revision(revision, index, round) for revision in revisions])
        return [
            replace(_candidate(reply), prompt_ids=revision.rejected.prompt_ids, revised_from=revision.rejected.index)
            for revision, reply in zip(revisions, replies, strict=True)
        ]

    def _revision(self, revision: Revision, index: int, round: int) -> AgentCall:
        prompt = revision.prompt
        messages = self.templates.render(
            Role.REVISER,
            prompt.domain,
            question=prompt.text,
            solution=answer_of(revision.rejected.text).strip(),
            critique=revision.critique,
        )
        call_id = CallId("train", round, Role.REVISER, prompt.id, candidate=index)
        return AgentCall(call_id, messages, self.templates.version(Role.REVISER, prompt.domain))

    def _calls_of(self, prompt: Prompt, indices: Sequence[int], round: int, purpose: str) -> list[AgentCall]:
        messages = self.templates.render(Role.SOLVER, prompt.domain, question=prompt.text)
        version = self.templates.version(Role.SOLVER, prompt.domain)
        return [
            AgentCall(CallId(purpose, round, Role.SOLVER, prompt.id, candidate=index), messages, version)
            for index in indices
        ]


def _candidate(reply: Reply) -> Candidate:
    return Candidate(
        prompt_id=reply.call.prompt_id,
        index=reply.call.candidate,
        text=reply.text,
        finish_reason=reply.finish_reason,
        policy=reply.policy,
        prompt_ids=reply.prompt_ids,
        token_ids=reply.token_ids,
    )
