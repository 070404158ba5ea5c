"""Length limits: a question, its longest solution, and all judge calls about both must fit the context.

Checked when prompts are read, so that a long prompt does not stop a running job. Nothing is ever
truncated. Every call of a role is its template, the question, the other texts at their longest, and its answer. Judges
are shown *final answers*, so of a solver that thinks they need room for `max_answer` tokens only, not for `max_tokens`.
Training rows must fit `update.max_length` as well, or a finished round would be refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from envs.cascade.markers import MARKERS
from envs.cascade.template_sets import TemplateSet
from svd_loop.assembly.backends import Backend, samplings_of
from svd_loop.config import Config
from svd_loop.contracts import Asking, Domain, DomainName, Problem, Role, RoleName, Sampling
from svd_loop.contracts.conversation import shown_text, turns_of
from svd_loop.errors import ConfigError, DataError

_SEE_THOUGHTS = (
    Role.FACT_CHECKER,
    Role.GRADER,
    Role.FACT_REVIEWER,
    Role.ANSWER_REVIEWER,
    Role.FACT_COMPARER,
    Role.ANSWER_COMPARER,
)
_MARGIN = 16
"""Tokens kept free, because joining texts can change how their ends are tokenised."""


@dataclass(frozen=True, slots=True)
class Budget:
    """The tokens of one kind of call without the question.

    Attributes:
        role: the called role.
        key: the configuration key of the limit.
        limit: the limit of the whole call in tokens.
        template: the prompt without its texts, in the longest domain.
        others: the other texts of the prompt, at their longest.
        answer: the longest answer.
    """

    role: RoleName
    key: str
    limit: int
    template: int
    others: int
    answer: int

    @property
    def taken(self) -> int:
        """Tokens that are not available for the question."""
        return self.template + self.others + self.answer

    @property
    def room(self) -> int:
        """Tokens left for the question; can be negative."""
        return self.limit - _MARGIN - self.taken


def budgets(config: Config, backend: Backend, templates: TemplateSet) -> list[Budget]:
    """Every kind of call of the job; empty if the policy has no length limit.

    Raises:
        ConfigError: `model.max_context` is more than the checkpoint was made for.
        ModelError: a role is to think, and the template has no switch for it; or the template cannot show the turns of
            a conversation that `cascade.asking` needs.
    """
    context = backend.max_context
    if context is None:
        return []
    if backend.positions is not None and context > backend.positions:
        raise ConfigError(
            f"model.max_context: {context} is more than the {backend.positions} positions that "
            f"{config.model.path} was made for (max_position_embeddings); lower it, or stretch the "
            "positions in the checkpoint's config.json"
        )
    if config.cascade.asking in (Asking.TWO_TURNS, Asking.SOLVE_FIRST):
        backend.check_two_turns(MARKERS)
    return list(_budgets(config, context, backend, templates))


def room_for_question(config: Config, backend: Backend, templates: TemplateSet) -> int | None:
    """Most tokens of a question; None if the policy has no length limit.

    Raises:
        ConfigError: there is no room; names the role, its template's length, and the lengths to lower; or as `budgets`.
    """
    found = budgets(config, backend, templates)
    if not found:
        return None
    tightest = min(found, key=lambda budget: budget.room)
    asked = tightest.role.replace("_", " ")
    if tightest.room < 1:
        raise ConfigError(
            f"{tightest.key}: {tightest.limit} leaves no room for a question: as {asked} the template, the "
            f"other texts at their longest and the reply take {tightest.taken + _MARGIN} tokens; raise it, or lower "
            "sampling.max_tokens (or sampling.max_answer, of a solver that thinks) or max_tokens of "
            "cascade.judge and cascade.roles"
        )
    return tightest.room


def too_long(room: int | None, backend: Backend, templates: TemplateSet) -> Callable[[str], bool] | None:
    """A check whether a question has more tokens than `room`; None if nothing is too long."""
    if room is None:
        return None
    bare = _template_tokens(Role.SOLVER, Domain.MATH, backend, templates)

    def check(text: str) -> bool:
        ways = [text] if len(turns_of(text)) == 1 else [text, shown_text(text)]  # as turns, and as judges see them
        asked = (templates.render(Role.SOLVER, Domain.MATH, question=one) for one in ways)
        return max(map(backend.prompt_tokens, asked)) - bare > room

    return check


def _budgets(config: Config, context: int, backend: Backend, templates: TemplateSet) -> Iterator[Budget]:
    samplings = samplings_of(config)
    solver, measured = samplings[Role.SOLVER], config.evaluation.sampling
    judged = [solver]  # its solutions are shown to a judge
    if measured is not None and config.evaluation.audit:
        judged.append(measured.to_sampling())

    def budget(role: RoleName, sampling: Sampling, key: str, limit: int, before: Sequence[RoleName] = ()) -> Budget:
        template = others = 0
        for turn in (*before, role):
            asked_as = Role.SOLVER if turn == Role.REFERENCE_SOLVER else turn
            longest = {
                "solution": max(
                    one.max_tokens if _shows_thought(config, turn) else one.longest_answer for one in judged
                ),
                "inferred": samplings[Role.QUESTION_INFERRER].longest_answer,
            }
            template += max(
                _template_tokens(asked_as, domain, backend, templates, sampling.thinking) for domain in config.domains
            )
            others += sum(longest[name] for name in templates.placeholders(asked_as) if name != "question")
            others += samplings[turn].longest_answer if turn != role else 0
        return Budget(role, key, limit, template, others, sampling.max_tokens)

    trained = ("update.max_length", min(context, config.update.max_length))
    asked = ("model.max_context", context)
    yield budget(Role.SOLVER, solver, *(trained if trained[1] < context else asked))
    if measured is not None:
        yield budget(Role.SOLVER, measured.to_sampling(), *asked)
    own = config.update.replay.anchor == "own" and trained[1] < context  # judgements become training rows, too
    for role, before in _judges(config):
        yield budget(role, samplings[role], *(trained if own else asked), before)


def _judges(config: Config) -> Iterator[tuple[RoleName, Sequence[RoleName]]]:
    """Every judge role with the roles whose turns stand before its own in the same conversation."""
    asking = config.cascade.asking
    for stage in config.cascade.stages:
        before: list[RoleName] = []
        for role in stage.roles_for(asking):
            yield role, tuple(before)
            # Roles that a stage calls under every way of asking, as the question inferrer, have a conversation each.
            if role not in stage.roles:
                before.append(role)


def _shows_thought(config: Config, role: RoleName) -> bool:
    return config.cascade.show_thought and role in _SEE_THOUGHTS


def _template_tokens(
    role: RoleName, domain: DomainName, backend: Backend, templates: TemplateSet, thinking: bool = False
) -> int:
    messages = templates.render(role, domain, **dict.fromkeys(templates.placeholders(role), ""))
    return backend.prompt_tokens(messages, thinking=thinking)


def refuse_long(problems: Iterable[Problem], check: Callable[[str], bool]) -> None:
    """Raise an error for held-out problems that do not fit: leaving them out would change the measurement.

    Raises:
        DataError: there are some; gives the number and the first one.
    """
    long = [problem for problem in problems if check(problem.text)]
    if long:
        raise DataError(
            f"{long[0].source or long[0].id}: {len(long)} held-out problems, this one first, do not fit "
            "model.max_context beside the longest solution and verdict; raise it, lower sampling.max_tokens or the "
            "judge's max_tokens, or remove them"
        )
