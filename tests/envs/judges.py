"""Policies for tests of the environment: they answer by rule and remember what they were asked."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

from envs.cascade.ordering import Unit
from svd_loop.config.sections import CascadeSection
from svd_loop.contracts import (
    BUILT_IN_STAGES,
    AgentCall,
    Domain,
    FinishReason,
    PolicyVersion,
    Prompt,
    Reply,
    Role,
)

VERSION = PolicyVersion(2, "c0ffee")

Rule = Callable[[AgentCall], str | tuple[str, FinishReason]]


class RulePolicy:
    """Answers every call by a rule and keeps the batches it was given."""

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self.batches: list[list[AgentCall]] = []

    @property
    def version(self) -> PolicyVersion:
        return VERSION

    @property
    def calls(self) -> list[AgentCall]:
        return [call for batch in self.batches for call in batch]

    def key(self, call: AgentCall) -> str:
        return hashlib.sha256(repr(call).encode()).hexdigest()

    def generate(self, calls: Sequence[AgentCall]) -> list[Reply]:
        self.batches.append(list(calls))
        return [self.reply(call) for call in calls]

    def reply(self, call: AgentCall) -> Reply:
        answer = self.rule(call)
        text, reason = answer if isinstance(answer, tuple) else (answer, FinishReason.STOP)
        return Reply(call.id, text, reason, VERSION, prompt_ids=(1, 2), token_ids=(3, 4, 0))

    def close(self) -> None:
        pass


def always(text: str) -> RulePolicy:
    return RulePolicy(lambda call: text)


def by_seed(yes: float = 0.7, invalid: float = 0.1, job_seed: int = 5) -> RulePolicy:
    """A judge whose every reply depends on the call's own seed alone, as a sampled model's does."""

    def rule(call: AgentCall) -> str:
        draw = call.id.seed(job_seed) / 2**63
        if call.id.role == Role.QUESTION_INFERRER:
            return "" if draw < invalid / 2 else f"inferred {draw:.3f}"
        return "[[Y]]" if draw < yes else "hm" if draw < yes + invalid else "[[N]]"

    return RulePolicy(rule)


def interleaved(settings: CascadeSection) -> Callable[[int], tuple[Unit, ...]]:
    """A measured order unlike the paper's: one vote of every stage before the second votes."""
    return lambda round: tuple((stage, vote) for vote in range(settings.votes) for stage in settings.stage_names)


def prompt(number: int = 0, domain: Domain = Domain.MATH) -> Prompt:
    return Prompt(f"p{number}", f"question number {number}?", domain)


def settings_of(stages: Sequence[str] = BUILT_IN_STAGES, votes: int = 5, **others: Any) -> CascadeSection:
    """A `cascade` section; `at_least` is a rule of k yes votes."""
    rule = {"rule": {"at_least": others.pop("at_least")}} if "at_least" in others else {}
    return CascadeSection.model_validate({"stages": tuple(stages), "votes": votes, **rule, **others})


def changed(settings: CascadeSection, **values: Any) -> CascadeSection:
    """The section with other values."""
    return CascadeSection.model_validate({**settings.model_dump(), **values})
