"""What fits the context: a question, the longest solution to it, and everything a judge is asked about both.

Checked at the door, so that no call of a later round can turn out too long: a job would end on day two over a prompt
that was accepted on day one. Nothing is ever cut.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from envs.judging import ROLES
from envs.template_sets import PLACEHOLDERS, TemplateSet
from svd_loop.build.backends import Backend, samplings_of
from svd_loop.config import Config
from svd_loop.contracts import CascadeMode, Domain, Problem, Role, Stage
from svd_loop.errors import ConfigError, DataError

_MARGIN = 16
"""Tokens kept free because joining texts can change how their ends are tokenised."""


def room_for_question(config: Config, backend: Backend, templates: TemplateSet) -> int | None:
    """How many tokens a question may have; None where the policy reads anything.

    Raises:
        ConfigError: none at all: naming the role, its template's length, and the lengths to lower.
    """
    context = backend.max_context
    if context is None:
        return None
    rooms = {role: context - _MARGIN - _taken(role, config, backend, templates) for role in _roles(config)}
    tightest = min(rooms, key=lambda role: rooms[role])
    if rooms[tightest] < 1:
        raise ConfigError(
            f"model.max_context: {context} leaves no room for a question: as {tightest.value.replace('_', ' ')} the "
            f"template, the other texts at their longest and the reply take {context - rooms[tightest]} tokens; raise "
            "it, or lower sampling.max_tokens or max_tokens of cascade.judge and cascade.roles"
        )
    return rooms[tightest]


def too_long(room: int | None, backend: Backend, templates: TemplateSet) -> Callable[[str], bool] | None:
    """Whether a question has more tokens than `room`; None where nothing is too long."""
    if room is None:
        return None
    bare = _template_tokens(Role.SOLVER, Domain.MATH, backend, templates)

    def check(text: str) -> bool:
        return backend.prompt_tokens(templates.render(Role.SOLVER, Domain.MATH, question=text)) - bare > room

    return check


def _roles(config: Config) -> list[Role]:
    judged = config.cascade.stages if config.cascade.mode is CascadeMode.SELF else ()
    revising = [Role.REVISER] if config.sampling.revise and judged else []
    return [Role.SOLVER, *revising, *(role for stage in judged for role in ROLES[stage])]


def _taken(role: Role, config: Config, backend: Backend, templates: TemplateSet) -> int:
    """Tokens of a call that are not the question: template, other texts at their longest, and the answer."""
    samplings = samplings_of(config)
    inferred = samplings[Role.QUESTION_INFERRER].max_tokens
    verdict = max(samplings[asked].max_tokens for stage in Stage for asked in ROLES[stage][-1:])
    critique = 2 * (verdict + inferred)  # a repeated vote may take twice as long, and cycle consistency quotes both
    longest = {"solution": samplings[Role.SOLVER].max_tokens, "inferred": inferred, "critique": critique}
    others = sum(longest[name] for name in PLACEHOLDERS[role] if name != "question")
    used = 1 if role in (Role.SOLVER, Role.REVISER) else config.cascade.wordings
    wordings = range(min(used, templates.wordings(role)))
    template = max(_template_tokens(role, domain, backend, templates, w) for domain in Domain for w in wordings)
    return template + others + samplings[role].max_tokens


def _template_tokens(role: Role, domain: Domain, backend: Backend, templates: TemplateSet, wording: int = 0) -> int:
    empty = dict.fromkeys(PLACEHOLDERS[role], "")
    return backend.prompt_tokens(templates.render(role, domain, wording=wording, **empty))


def refuse_long(problems: Iterable[Problem], check: Callable[[str], bool]) -> None:
    """Refuse held-out problems that do not fit: leaving them out would change what is measured.

    Raises:
        DataError: there are some; says how many and names the first.
    """
    long = [problem for problem in problems if check(problem.text)]
    if long:
        raise DataError(
            f"{long[0].source or long[0].id}: {len(long)} held-out problems, this one first, do not fit "
            "model.max_context beside the longest solution and verdict; raise it, lower sampling.max_tokens or the "
            "judge's max_tokens, or remove them"
        )
