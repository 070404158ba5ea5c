"""The gate: decide from measurements of two versions whether the new one may replace the champion.

The two are compared on the same problems, sampled with the same seeds, so differences are taken problem by problem.
The rules are independent, all are always reported, and one that fails is enough to refuse. A rule that cannot be
checked does not pass.

Samples that scoring left undecided count for neither version. Every rule about results is evaluated twice, once with
all of them against the challenger (its own wrong, the champion's right) and once with all of them for it. A rule passes
only if it passes both times. If the two differ, its text says that undecided samples decide; the refusal is then not a
result about the challenger, and scoring again with a longer time limit (which needs no model) resolves it.

The level of a comparison is an argument: a test set that decides about many versions shares one level among them
(`svd_loop.promotion.budget`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from svd_loop.config.gate import GateSection
from svd_loop.contracts import Estimate, Outcome, Scores
from svd_loop.support.statistics import FloatArray, paired_bound, pass_at_k

LENGTH = "output_tokens"
TRUNCATED = "truncated"
_OVERALL = "overall"


@dataclass(frozen=True, slots=True)
class Evidence:
    """Measurements of one version.

    Attributes:
        version: its name in messages, such as `nano version 3`.
        scores: held-out results by problem and domain, with pass@k, mean output tokens and truncated share.
        alarms: health alarms of the round that made it (its metric `health.alarms`).
        leaks: held-out problems found in its training data; None if that could not be checked.
    """

    version: str
    scores: Scores
    alarms: float = 0.0
    leaks: int | None = 0


@dataclass(frozen=True, slots=True)
class Finding:
    """Result of one rule: the value, the limit, and both in words.

    The value of a count that could not be taken is -1.
    """

    rule: str
    passed: bool
    value: float
    limit: float
    text: str


@dataclass(frozen=True, slots=True)
class Decision:
    """All findings of a gate; `passed` if every one of them passed."""

    passed: bool
    findings: tuple[Finding, ...]

    @classmethod
    def of(cls, findings: tuple[Finding, ...]) -> Decision:
        """Return the decision that follows from findings."""
        return cls(all(finding.passed for finding in findings), findings)

    @property
    def refusals(self) -> tuple[Finding, ...]:
        """The findings that did not pass."""
        return tuple(finding for finding in self.findings if not finding.passed)


class GateRule:
    """The rules of the `gate` section."""

    def __init__(self, settings: GateSection) -> None:
        self._settings = settings

    def decide(self, challenger: Evidence, champion: Evidence | None, *, level: float | None = None) -> Decision:
        """Decide whether the challenger may become champion; without a champion only rules about the challenger apply.

        Args:
            challenger: the new version.
            champion: the version in use.
            level: of the one-sided bound of pass@1; None takes the whole of 1 - `gate.confidence`.

        Raises:
            ValueError: the two were not measured on the same problems with the same number of samples.
        """
        findings = [_healthy(challenger), _clean(challenger)]
        if champion is None:
            findings.append(Finding("champion", True, 0.0, 0.0, "there is no champion to compare with"))
        else:
            _same_measurement(challenger.scores, champion.scores)
            level = 1 - self._settings.confidence if level is None else level
            findings += self._compare(challenger.scores, champion.scores, level)
            findings += self._bounded(challenger.scores, champion.scores)
        return Decision.of(tuple(findings))

    def _compare(self, new: Scores, old: Scores, level: float) -> Iterator[Finding]:
        """Evaluate the rules about results, with undecided samples counted both ways."""
        against = self._results(new.resolved(Outcome.WRONG), old.resolved(Outcome.RIGHT), level)
        undecided = sum(new.undecided) + sum(old.undecided)
        if not undecided:
            yield from against
            return
        for worst, best in zip(
            against, self._results(new.resolved(Outcome.RIGHT), old.resolved(Outcome.WRONG), level), strict=True
        ):
            remark = f"; {undecided} undecided samples are counted against it"
            if best.passed and not worst.passed:
                remark += f", counted for it they would give {_points(best.value)}: they decide, so score them again"
            yield replace(worst, text=worst.text + remark)

    def _results(self, new: Scores, old: Scores, level: float) -> Iterator[Finding]:
        difference_M = _shares(new) - _shares(old)
        yield self._better(new, old, level)
        for domain in dict.fromkeys(new.domains):
            members = np.array([name == domain for name in new.domains])
            yield self._no_worse(domain, float(difference_M[members].mean()))
        yield self._varied(new, old)

    def _better(self, new: Scores, old: Scores, level: float) -> Finding:
        margin = self._settings.margin
        mean, low = paired_bound(_shares(new), _shares(old), level=level)
        text = (
            f"pass@1 {_points(mean)} on {len(new.problem_ids)} problems, lower bound ({100 * (1 - level):.4g}%) "
            f"{_points(low)}; it must lie above {_points(margin)} (gate.margin)"
        )
        return Finding("pass@1", low > margin, low, margin, text)

    def _no_worse(self, domain: str, difference: float) -> Finding:
        limit = -self._settings.domain_tolerance
        text = f"{domain} {_points(difference)}; it may not fall below {_points(limit)} (gate.domain_tolerance)"
        return Finding(f"domain.{domain}", _at_least(difference, limit), difference, limit, text)

    def _varied(self, new: Scores, old: Scores) -> Finding:
        k, limit = new.samples, -self._settings.pass_at_k_tolerance
        new_M, old_M = (pass_at_k(scores.correct, k, k) for scores in (new, old))
        difference = float((new_M - old_M).mean())
        text = f"pass@{k} {_points(difference)}; it may not fall below {_points(limit)} (gate.pass_at_k_tolerance)"
        return Finding("pass@k", _at_least(difference, limit), difference, limit, text)

    def _bounded(self, new: Scores, old: Scores) -> Iterator[Finding]:
        """Compare length and truncation, if they were measured (solutions from files have neither)."""
        lengths = _pair(new, old, LENGTH)
        if lengths and lengths[1].value > 0:
            ratio, factor = lengths[0].value / lengths[1].value, self._settings.length_factor
            text = (
                f"mean output tokens {lengths[1].value:.1f} -> {lengths[0].value:.1f}, times {ratio:.2f}; between "
                f"{1 / factor:.2f} and {factor:.2f} is allowed (gate.length_factor)"
            )
            low = _at_least(ratio, 1 / factor)
            yield Finding("length", low and _at_least(factor, ratio), ratio, factor if low else 1 / factor, text)
        shares = _pair(new, old, TRUNCATED)
        if shares:
            rise, limit = shares[0].value - shares[1].value, self._settings.truncation_tolerance
            text = (
                f"truncated samples {_points(rise)}; they may rise by {_points(limit)} at most "
                "(gate.truncation_tolerance)"
            )
            yield Finding("truncation", _at_least(limit, rise), rise, limit, text)


def _healthy(version: Evidence) -> Finding:
    text = f"{version.alarms:g} health alarms in the round that made {version.version}; none are allowed"
    return Finding("health", version.alarms == 0, version.alarms, 0.0, text)


def _clean(version: Evidence) -> Finding:
    if version.leaks is None:
        text = f"the training data of {version.version} cannot be checked for held-out problems on this machine"
        return Finding("leaks", False, -1.0, 0.0, text)
    text = f"{version.leaks} held-out problems in the training data of {version.version}; none are allowed"
    return Finding("leaks", version.leaks == 0, float(version.leaks), 0.0, text)


def _same_measurement(new: Scores, old: Scores) -> None:
    if (new.problem_ids, new.samples, new.split) != (old.problem_ids, old.samples, old.split):
        raise ValueError(
            "gate: both versions must be measured on the same problems, "
            f"found {len(new.problem_ids)} x {new.samples} of {new.split} and "
            f"{len(old.problem_ids)} x {old.samples} of {old.split}"
        )


def _shares(scores: Scores) -> FloatArray:
    return np.asarray(scores.correct, dtype=np.float64) / scores.samples


def _pair(new: Scores, old: Scores, metric: str) -> tuple[Estimate, Estimate] | None:
    """Return the overall figure of both versions, or None if one does not have it."""
    found = [scores.estimates.get(_OVERALL, {}).get(metric) for scores in (new, old)]
    return (found[0], found[1]) if found[0] is not None and found[1] is not None else None


def _at_least(value: float, limit: float) -> bool:
    """Return `value >= limit`, with a tolerance for the rounding of a mean."""
    return value >= limit - 1e-12


def _points(share: float) -> str:
    return f"{100 * share:+.1f} points"
