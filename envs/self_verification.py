"""One round with a model of one's own on questions of one's own: sample, judge, stop at the first accepted solution."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from envs.cascade.cascade import Cascade
from envs.cascade.template_sets import TemplateSet
from envs.prompts.normalise import content_id
from envs.prompts.reading import prompt_text
from envs.round_env import SelfVerificationEnv
from envs.solving import SolverAgent
from svd_loop.config.sections import CascadeSection
from svd_loop.contracts import Domain, DomainName, Episode, Policy, Prompt
from svd_loop.support.callable_policy import Takes, as_policy


class SelfVerification:
    """A round of self-verification.

    Args:
        model: solves and judges: a function from a text to a text, or a `Policy`.
        domain: of the questions.
        n: solutions a question at most.
        takes: what a function takes: `text`, or `messages` (a list of `role` and `content`).
        templates: name or folder of a template set.
        cascade: settings of the cascade, as the section of that name; None takes the method's.
        judge: judges in place of the model.

    Raises:
        ConfigError: a setting is not valid.
    """

    def __init__(
        self,
        model: Callable[[Any], str] | Policy,
        *,
        domain: DomainName = Domain.MATH,
        n: int = 4,
        takes: Takes = "text",
        templates: str = "chat",
        cascade: Mapping[str, Any] | None = None,
        judge: Callable[[Any], str] | Policy | None = None,
    ) -> None:
        settings = CascadeSection.model_validate(dict(cascade or {}))
        self._templates = TemplateSet.load(templates, settings.stages, settings.asking)
        self._cascade = Cascade(self._templates, settings)
        self._solver = as_policy(model, takes)
        self._judge = self._solver if judge is None else as_policy(judge, takes)
        self._domain = domain
        self._n = n

    def play(self, questions: Sequence[str | list[dict[str, str]]], *, round: int = 1) -> Episode:
        """Return the finished round; `selected` are the accepted solutions, `verdicts` have every vote.

        Args:
            questions: texts, or lists of messages.
            round: its number, part of every call's seed.

        Raises:
            DataError: a question cannot be used, or comes twice.
        """
        texts = [prompt_text(question, f"question {place}") for place, question in enumerate(questions, start=1)]
        prompts = [Prompt(content_id(text, self._domain), text, self._domain) for text in texts]
        solver = SolverAgent(self._templates)
        env = SelfVerificationEnv(prompts=prompts, judge=self._judge, cascade=self._cascade, n=self._n, block=1)
        _, info = env.reset(options={"round": round})
        terminated = False
        while not terminated:
            wanted = [prompts[place] for place in info["open"]]
            candidates = solver.sample(self._solver, wanted, info["indices"], round=round)
            _, _, terminated, _, info = env.step(env.action(candidates))
        return info["outcome"]
