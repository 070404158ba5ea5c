"""Domains: how the final answer is found in a solution, and how it is scored.

A domain is a file here, or in another package, with `make_domain(section) -> DomainSpec`; its section and row are in
`svd_loop.config.domains`. Scoring reads gold and serves measurement only. `svd_loop.evaluation.evaluation` is the one
caller, and this module the one that builds domains; a test enforces both.
"""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import ValidationError

from envs.domains.own import add_domain
from envs.domains.spec import DomainSpec, Pair
from svd_loop.config.domains import DOMAINS, DomainSection, section_of
from svd_loop.contracts import DomainName
from svd_loop.errors import ConfigError

__all__ = ["DomainSpec", "Pair", "add_domain", "domain_of"]


def domain_of(name: DomainName, settings: Sequence[DomainSection] = ()) -> DomainSpec:
    """Build a domain by its name.

    Args:
        name: as in the prompts' `domain`.
        settings: `evaluation.domains`; a domain that is not among them takes its defaults.

    Raises:
        ConfigError: no domain has this name, a plug-in is broken, or the domain needs settings and has none.
    """
    section = next((one for one in settings if one.type == name), None)
    if section is None:
        try:
            section = section_of(name).model_validate({"type": name})
        except ValidationError as error:
            keys = ", ".join(".".join(map(str, item["loc"])) for item in error.errors())
            raise ConfigError(f"evaluation.domains: the domain {name} needs settings: {keys}") from None
    spec: DomainSpec = DOMAINS.builder(name)(section)
    return spec
