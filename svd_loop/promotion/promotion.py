"""From a registered version to the one in use: measure, ask the gate, move the aliases, write down what happened.

Every step may be repeated. Answers are kept (see `examination`), a promotion that was cut short is completed by asking
again, and a champion that was moved while two versions were measured leads to a new comparison, not to overwriting it.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import UTC, datetime

from filelock import FileLock, Timeout

from svd_loop.config import Config
from svd_loop.contracts import RootPaths, Scores
from svd_loop.errors import ConfigError, RegistryConflictError, RegistryError
from svd_loop.mlflow_store.records import Measured, RegisteredVersion
from svd_loop.mlflow_store.registry import (
    CHALLENGER,
    CHAMPION,
    GATE_TAG,
    OVER_TAG,
    ROLLED_BACK_TAG,
    Registry,
    score_tags,
)
from svd_loop.promotion.budget import AlphaBudget
from svd_loop.promotion.examination import open_examiner
from svd_loop.promotion.gate import Decision, Finding, GateRule
from svd_loop.promotion.lookup import registry_of, talking_to_registry

log = logging.getLogger(__name__)

_ATTEMPTS = 3
"""How often the champion may be moved under a comparison before it is given up."""


def consider(config: Config, name: str, *, force: str | None = None) -> Decision:
    """Put a model's challenger through the gate, and make it the champion or write down why not.

    Args:
        config: where the registry is, what is measured (`data.test`, `evaluation`) and what is asked (`gate`).
        name: registered model.
        force: a reason to promote it whatever the gate says; recorded. Without a test split nothing is measured then.

    Returns:
        The gate's decision. `passed` False without `force` means that the champion stays.

    Raises:
        ConfigError: the configuration has no test split, or `force` is no reason.
        RegistryError: the model has no challenger, or the store failed; what was measured is kept.
        RegistryConflictError: someone else keeps moving the champion.
    """
    with talking_to_registry():
        challenger = registry_of(config).by_alias(name, CHALLENGER)
    if challenger is None:
        raise RegistryError(f"{name}: has no `{CHALLENGER}`; a job with tracking registers one when it ends")
    return promote(config, name, challenger.number, force=force)


def promote(config: Config, name: str, version: int, force: str | None = None) -> Decision:
    """As `consider`, for a version given by its number."""
    if force is not None and not force.strip():
        raise ConfigError("--force: needs the reason, which is recorded")
    with talking_to_registry(), _one_at_a_time(config):
        registry = registry_of(config)
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                return _attempt(config, registry, registry.get(name, version), force)
            except RegistryConflictError as conflict:
                if attempt == _ATTEMPTS:
                    raise
                log.warning("%s; comparing again", conflict)
    raise AssertionError("unreachable")


def rollback(config: Config, name: str) -> RegisteredVersion:
    """Make the version before the champion champion again; the one taken out is marked and passes no gate unforced.

    Raises:
        RegistryError: there is nothing to go back to, or the store failed.
    """
    with talking_to_registry(), _one_at_a_time(config):
        return registry_of(config).rollback(name)


def _attempt(config: Config, registry: Registry, version: RegisteredVersion, force: str | None) -> Decision:
    champion = registry.by_alias(version.name, CHAMPION)
    if champion is not None and champion.number == version.number:
        registry.settle(version.name)
        number = float(version.number)
        return Decision.of((Finding("champion", True, number, number, f"{version} is the champion already"),))
    decision, measured = _decide(config, registry, version, champion, force)
    if not decision.passed and force is None:
        _write_down(registry, version, champion, decision, "refused")
        why = "; ".join(finding.text for finding in decision.refusals)
        registry.refuse(version, over=champion, why=why, measured=measured)
        return decision
    _write_down(registry, version, champion, decision, "passed" if force is None else "forced", force)
    registry.promote(version, over=champion, why=force or "", measured=measured)
    log.info("%s is the champion of %s", version, version.name)
    return decision


def _decide(
    config: Config,
    registry: Registry,
    version: RegisteredVersion,
    champion: RegisteredVersion | None,
    force: str | None,
) -> tuple[Decision, Measured]:
    if force is not None and config.data.test is None:
        finding = Finding("measured", False, 0.0, 0.0, "data.test: there is no test split to compare on")
        return Decision.of((finding,)), Measured()
    with open_examiner(config, registry) as examiner:
        test = examiner.test_digest
        budget = AlphaBudget.of(config.gate, registry.history(version.name), test)
        over = champion.number if champion else 0
        level = budget.level(version.number, over)
        if champion is not None and level == 0.0:  # measuring would show more of the set and could decide nothing
            return Decision.of((_spent(budget),)), Measured(test)
        challenger = examiner.examine(version)
        old = None if champion is None else examiner.examine(champion)
    _tag_scores(registry, version, challenger.scores, test)
    if champion is not None and old is not None:
        _tag_scores(registry, champion, old.scores, test)
    score, over_score = (None if one is None else round(one.scores.pass_at_1.value, 6) for one in (challenger, old))
    decision = GateRule(config.gate).decide(challenger, old, level=level)
    measured = Measured(test, score, over_score)
    if champion is not None:
        measured = replace(measured, level=level, alpha=budget.alpha, looks=budget.limit)
        decision = Decision.of((*decision.findings, _budgeted(budget, version.number, over)))
    if (rolled_back := version.tags.get(ROLLED_BACK_TAG)) is not None:
        text = f"{version} was in use and was rolled back on {rolled_back}"
        return Decision.of((*decision.findings, Finding("rollback", False, 1.0, 0.0, text))), measured
    return decision, measured


def _budgeted(budget: AlphaBudget, version: int, over: int) -> Finding:
    number, level = budget.number(version, over), budget.level(version, over)
    text = (
        f"comparison {number} on this test set, shared among {budget.limit} (gate.looks), at a level of "
        f"{100 * level:.3g}% of the {100 * budget.alpha:.3g}% (1 - gate.confidence) that all of them have together"
    )
    return Finding("budget", True, level, 0.0, text)


def _spent(budget: AlphaBudget) -> Finding:
    text = (
        f"test set {budget.test} has decided {len(budget.looks)} comparisons, as many as gate.looks ({budget.limit}) "
        f"allows, and its error budget of {100 * budget.alpha:.3g}% (1 - gate.confidence) is spent; nothing was "
        "measured. Give data.test a fresh set of problems: it starts a budget of its own"
    )
    return Finding("budget", False, 0.0, 0.0, text)


def _tag_scores(registry: Registry, version: RegisteredVersion, scores: Scores, test: str) -> None:
    tags = {
        "svd_loop.test.problems": str(len(scores.problem_ids)),
        "svd_loop.test.digest": test,
        **score_tags(scores, "svd_loop.test."),
    }
    # A tag is a request to the store: a champion that is measured again on the same problems has them all.
    registry.tag(version, {key: value for key, value in tags.items() if version.tags.get(key) != value})


def _write_down(
    registry: Registry,
    version: RegisteredVersion,
    champion: RegisteredVersion | None,
    decision: Decision,
    outcome: str,
    reason: str | None = None,
) -> None:
    """What the gate said, on the version itself, before any alias moves."""
    tags = {
        GATE_TAG: outcome,
        OVER_TAG: str(champion.number if champion else 0),
        "svd_loop.gate.at": datetime.now(UTC).isoformat(timespec="seconds"),
        "svd_loop.gate.findings": json.dumps([asdict(finding) for finding in decision.findings]),
        "svd_loop.gate.reason": reason or "; ".join(finding.text for finding in decision.refusals),
    }
    registry.tag(version, tags)


@contextmanager
def _one_at_a_time(config: Config) -> Iterator[None]:
    """One promotion on this machine and root: a second one waits, and then sees what the first one did."""
    paths = RootPaths(config.job.root)
    paths.gate.mkdir(parents=True, exist_ok=True)
    lock = FileLock(paths.gate_lock)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        log.warning("another process is promoting in %s; waiting for it", config.job.root)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
