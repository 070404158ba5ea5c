"""A domain made of two functions, for the running process; a package declares one by an entry point instead."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from pydantic import create_model

from envs.domains.spec import DomainSpec, Pair
from svd_loop.config.domains import DOMAINS, DomainSection
from svd_loop.contracts import Outcome
from svd_loop.support.plugins import Variant


def add_domain(
    name: str,
    *,
    extract: Callable[[str], str | None],
    score: Callable[[str, str], bool],
    instruction: str | None = None,
) -> None:
    """Make a domain known by its name to everything in this process; adding the name again replaces it.

    Args:
        name: as rows and configurations call it.
        extract: finds the final answer of a solution; None if it has none, and then it is wrong.
        score: compares an answer with gold.
        instruction: the solver's prompt with `$question`; None takes that of the template set.

    Raises:
        ConfigError: the name is that of a built-in domain.
    """

    def score_all(pairs: Sequence[Pair], *, seconds: float) -> list[Outcome]:
        found = [(extract(solution), problem.answer) for solution, problem in pairs]
        return [Outcome.of(answer is not None and score(answer, gold)) for answer, gold in found]

    section: Any = create_model(f"{name.title()}Section", __base__=DomainSection, type=(str, name))
    section.instruction = instruction
    DOMAINS.add(Variant(section, ""), lambda settings: DomainSpec(extract, score_all))
