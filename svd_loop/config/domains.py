"""Domains: what a prompt is about, and with that how an answer is asked for, found and scored.

A domain's configuration class holds what asking needs to know, and the domain's own settings if it has any. What reads
gold (extraction and scoring) is `envs.domains`, which alone builds domains: code that trains never reaches it.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, WithJsonSchema

from svd_loop.config.base import Section
from svd_loop.config.variants import OneOf
from svd_loop.contracts import BUILT_IN_DOMAINS
from svd_loop.errors import ConfigError
from svd_loop.support.plugins import Seam, Variant


class DomainSection(Section):
    """What every domain's section has; a plug-in's section derives from it."""

    type: str
    """Name of the domain."""

    gold: ClassVar[Literal["answer", "tests"]] = "answer"
    """What a held-out problem is scored with: an answer, or the tests of a program."""
    instruction: ClassVar[str | None] = None
    """Template of the solver's prompt with `$question`, for template sets without `solver.<domain>.txt`; None uses
    their `solver.txt`."""


class MathSection(DomainSection):
    """Mathematics: an answer equal to gold."""

    type: Literal["math"] = "math"


class ScienceSection(DomainSection):
    """Science: a choice, a quantity with its unit, or an expression."""

    type: Literal["science"] = "science"


class CodingSection(DomainSection):
    """Coding: a Python program that passes its tests."""

    type: Literal["coding"] = "coding"

    gold: ClassVar[Literal["answer", "tests"]] = "tests"


DOMAINS = Seam(
    "domain",
    "domain",
    "svd_loop.domains",
    Variant(MathSection, "envs.domains.math:make_domain"),
    Variant(ScienceSection, "envs.domains.science:make_domain"),
    Variant(CodingSection, "envs.domains.coding:make_domain"),
)
"""Domains; `build` takes the domain's section and gives an `envs.domains.DomainSpec`. Only `envs.domains` builds."""

AnyDomain = Annotated[DomainSection, OneOf(DOMAINS)]
"""Any domain's section."""


def section_of(name: str) -> type[DomainSection]:
    """The configuration class of a domain.

    Raises:
        ConfigError: no domain has this name; lists the known ones.
    """
    found: type[DomainSection] = DOMAINS.find(name).section
    return found


def _known(name: str) -> str:
    try:
        section_of(name)
    except ConfigError as error:
        raise ValueError(str(error)) from None
    return name


KnownDomain = Annotated[
    str,
    AfterValidator(_known),
    WithJsonSchema({"anyOf": [{"enum": list(BUILT_IN_DOMAINS)}, {"type": "string"}]}),
]
"""The name of a registered domain."""
