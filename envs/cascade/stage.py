"""What a stage of the cascade is: how one vote is asked and read.

A stage is a file in this package with `make_stage(section) -> CascadeStage`, or another package's; its section and its
row are in `svd_loop.config.stages`.

One vote is written as a conversation: a generator that yields a call, is sent the reply, and returns the opinion and
the text it was read from. It may yield no call at all: a stage that needs no judge decides by itself. A stage that has
to see all candidates of a prompt at once offers `decide` instead of `ask` (`envs.cascade.group_votes`).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from pydantic import ValidationError

from envs.cascade.agreement import AnswerComparison, Group
from envs.cascade.votes import answer_of, read_verdict, with_thought
from svd_loop.config.stages import STAGES, StageSection, stage_section
from svd_loop.contracts import (
    NO_CANDIDATE,
    AgentCall,
    Asking,
    CallId,
    Candidate,
    Message,
    Prompt,
    Reply,
    RoleName,
    StageName,
    VoteValue,
)
from svd_loop.errors import ConfigError

if TYPE_CHECKING:
    from envs.cascade.template_sets import TemplateSet

Decision = tuple[VoteValue, str]
"""A vote's value and the text that explains it."""
Opinion = Generator[AgentCall, Reply, Decision]


@dataclass(frozen=True, slots=True)
class RoleTemplate:
    """The template of one of a stage's roles.

    Attributes:
        placeholders: what it must contain, and all it may contain, of `question`, `solution` and `inferred`.
        text: the template for sets that have no file of the role; None requires the file.
    """

    placeholders: frozenset[str]
    text: str | None = None


@dataclass(frozen=True, slots=True)
class CascadeStage:
    """How a stage judges: one of `ask` and `decide`.

    Attributes:
        ask: writes one attempt at a vote as a conversation.
        templates: the template of each role that the section names.
        decide: the votes on all candidates of each prompt, aligned with them; for a section that `sees_all`.
    """

    ask: Callable[[CallBuilder], Opinion] | None = None
    templates: Mapping[RoleName, RoleTemplate] = field(default_factory=dict)
    decide: Callable[[Sequence[Group], AnswerComparison], Sequence[Sequence[Decision]]] | None = None


@dataclass(frozen=True, slots=True)
class Ballot:
    """One vote to cast: candidate, stage, and number of the vote."""

    prompt: Prompt
    candidate: Candidate
    stage: StageName
    vote: int
    round: int
    purpose: str = "train"
    rendered: dict[tuple[str, ...], tuple[Message, ...]] = field(default_factory=dict, compare=False, repr=False)
    """Messages of earlier calls about the candidate: all votes of a role show the same."""


@dataclass(frozen=True, slots=True)
class CallBuilder:
    """Builds the calls of one attempt at a ballot."""

    templates: TemplateSet
    ballot: Ballot
    attempt: int
    show_thought: bool = False
    asking: Asking = Asking.DIRECT

    def call(self, role: RoleName, **fields: str) -> AgentCall:
        """A call in a role; its id says which vote it belongs to."""
        domain = self.ballot.prompt.domain
        rendered, key = self.ballot.rendered, (role, *fields.values())
        if (messages := rendered.get(key)) is None:
            messages = self.templates.render(role, domain, **fields)
            if "inferred" not in fields:  # differs from vote to vote
                rendered[key] = messages
        call_id = self._id(role, self.ballot.candidate.index, self.attempt)
        return AgentCall(call_id, messages, self.templates.version(role, domain))

    def next_turn(
        self, before: tuple[Message, ...], role: RoleName, fields: Mapping[str, str], choices: tuple[str, ...] = ()
    ) -> AgentCall:
        """A call in a role whose user message continues a conversation; `choices` are the only possible replies."""
        call = self.call(role, **fields)
        turn = tuple(message for message in call.messages if message.role == "user")
        return replace(call, messages=(*before, *turn), choices=choices)

    def shared_call(self, role: RoleName, template: RoleName, attempt: int, **fields: str) -> AgentCall:
        """A call in a role, by another role's template, that is the same for all candidates of the prompt."""
        domain = self.ballot.prompt.domain
        messages = self.templates.render(template, domain, **fields)
        return AgentCall(self._id(role, NO_CANDIDATE, attempt), messages, self.templates.version(template, domain))

    def neutral(self, role: RoleName, text: str) -> str:
        """A text of the judge's own, broken up like a candidate's before it is shown in a role's conversation."""
        return self.templates.neutral(role, self.ballot.prompt.domain, text)

    def _id(self, role: RoleName, candidate: int, attempt: int) -> CallId:
        ballot = self.ballot
        return CallId(
            ballot.purpose, ballot.round, role, ballot.prompt.id, candidate, ballot.stage, ballot.vote, attempt
        )

    @property
    def question(self) -> str:
        """The original question."""
        return self.ballot.prompt.text

    @property
    def solution(self) -> str:
        """The candidate's answer without its reasoning."""
        return answer_of(self.ballot.candidate.text).strip()

    @property
    def examined(self) -> str:
        """The candidate's text as shown to the stages that know the question."""
        return with_thought(self.ballot.candidate.text) if self.show_thought else self.solution


def single_call(calls: CallBuilder, role: RoleName) -> Opinion:
    """A vote by one call that shows the question and the solution."""
    reply = yield calls.call(role, question=calls.question, solution=calls.examined)
    return read_verdict(reply.text, reply.finish_reason), reply.text


def stage_of(name: StageName, settings: Sequence[StageSection] = ()) -> CascadeStage:
    """A stage by its name.

    Args:
        name: as votes carry it.
        settings: `cascade.stages`; a stage that is not among them takes its defaults.

    Raises:
        ConfigError: no stage has this name, a plug-in is broken, or the stage needs settings and has none.
    """
    return _built(name, next((one for one in settings if one.type == name), None))


@functools.lru_cache(maxsize=64)
def _built(name: StageName, section: StageSection | None) -> CascadeStage:
    if section is None:
        try:
            section = stage_section(name).model_validate({"type": name})
        except ValidationError as error:
            keys = ", ".join(".".join(map(str, item["loc"])) for item in error.errors())
            raise ConfigError(f"cascade.stages: the stage {name} needs settings: {keys}") from None
    stage: CascadeStage = STAGES.builder(name)(section)
    return stage
