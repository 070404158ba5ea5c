"""What differs between math, science and coding: how an answer is found in a solution, and when it is right.

Scoring reads gold and serves measurement only. `svd_loop.evaluation.evaluation` is the one caller; a test enforces it.
"""

from envs.domains import coding, math, science
from envs.domains.spec import DomainSpec, Pair
from svd_loop.contracts import Domain

__all__ = ["DOMAINS", "DomainSpec", "Pair"]

DOMAINS: dict[Domain, DomainSpec] = {
    Domain.MATH: DomainSpec(math.extract, math.score_all),
    Domain.SCIENCE: DomainSpec(science.extract, science.score_all),
    Domain.CODING: DomainSpec(coding.extract, coding.score_all),
}
