"""Promote a registered version: measure, run the gate, move the aliases, record the result; also rollback.

Every step may be repeated. Answers are stored (see `examination`), and the next call completes an interrupted
promotion. If another process moves the champion during a measurement, the comparison is made again with the new one.
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
)
from svd_loop.mlflow_store.tags import score_tags
from svd_loop.promotion.budget import AlphaBudget
from svd_loop.promotion.examination import open_examiner
from svd_loop.promotion.gate import Decision, Finding, GateRule
from svd_loop.promotion.lookup import registry_errors, registry_of

log = logging.getLogger(__name__)

_ATTEMPTS = 3
"""Comparisons made before giving up because another process keeps moving the champion."""


def consider(config: Config, name: str, *, force: str | None = None) -> Decision:
    """Run the gate on a model's challenger; make it the champion, or record why not.

    Args:
        config: gives the registry, the measurement (`data.test`, `evaluation`) and the rules (`gate`).
        name: registered model.
        force: reason for promoting it whatever the gate decides; recorded. Nothing is measured then if there is no test
            split.

    Returns:
        The gate's decision. If `passed` is False and `force` None, the champion stays.

    Raises:
        ConfigError: the configuration has no test split, or `force` is empty.
        RegistryError: the model has no challenger, or the store failed; measurements are stored.
        RegistryConflictError: another process keeps moving the champion.
    """
    with registry_errors():
        challenger = registry_of(config).by_alias(name, CHALLENGER)
    if challenger is None:
        raise RegistryError(f"{name}: has no `{CHALLENGER}`; a job with tracking.enabled registers one when it ends")
    return promote(config, name, challenger.number, force=force)


def promote(config: Config, name: str, version: int, force: str | None = None) -> Decision:
    """Run the gate as `consider` does, for a version given by its number."""
    if force is not None and not force.strip():
        raise ConfigError("--force: give the reason; it is recorded")
    with registry_errors(), _promotion_lock(config):
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
    """Make the previous champion champion again; the current one is marked and passes the gate only with `force`.

    Raises:
        RegistryError: there is no previous champion, or the store failed.
    """
    with registry_errors(), _promotion_lock(config):
        return registry_of(config).rollback(name)


def _attempt(config: Config, registry: Registry, version: RegisteredVersion, force: str | None) -> Decision:
    champion = registry.by_alias(version.name, CHAMPION)
    if champion is not None and champion.number == version.number:
        registry.record_outside_moves(version.name)
        number = float(version.number)
        return Decision.of((Finding("champion", True, number, number, f"{version} is the champion already"),))
    decision, measured = _decide(config, registry, version, champion, force)
    if not decision.passed and force is None:
        _record(registry, version, champion, decision, "refused")
        why = "; ".join(finding.text for finding in decision.refusals)
        registry.refuse(version, over=champion, why=why, measured=measured)
        return decision
    _record(registry, version, champion, decision, "passed" if force is None else "forced", force)
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
        if champion is not None and level == 0.0:  # a measurement could not decide and would expose the test set
            return Decision.of((_budget_spent(budget),)), Measured(test)
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
        decision = Decision.of((*decision.findings, _within_budget(budget, version.number, over)))
    if (rolled_back := version.tags.get(ROLLED_BACK_TAG)) is not None:
        text = f"{version} was in use and was rolled back on {rolled_back}"
        return Decision.of((*decision.findings, Finding("rollback", False, 1.0, 0.0, text))), measured
    return decision, measured


def _within_budget(budget: AlphaBudget, version: int, over: int) -> Finding:
    number, level = budget.number(version, over), budget.level(version, over)
    text = (
        f"comparison {number} on this test set, shared among {budget.limit} (gate.looks), at a level of "
        f"{100 * level:.3g}% of the {100 * budget.alpha:.3g}% (1 - gate.confidence) that all of them have together"
    )
    return Finding("budget", True, level, 0.0, text)


def _budget_spent(budget: AlphaBudget) -> Finding:
    text = (
        f"test set {budget.test} has decided {len(budget.looks)} comparisons, as many as gate.looks ({budget.limit}) "
        f"allows, and its error budget of {100 * budget.alpha:.3g}% (1 - gate.confidence) is spent; nothing was "
        "measured. Give data.test a fresh set of problems: it has a budget of its own"
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


def _record(
    registry: Registry,
    version: RegisteredVersion,
    champion: RegisteredVersion | None,
    decision: Decision,
    outcome: str,
    reason: str | None = None,
) -> None:
    """Tag the version with the gate's result, before any alias is moved."""
    tags = {
        GATE_TAG: outcome,
        OVER_TAG: str(champion.number if champion else 0),
        "svd_loop.gate.at": datetime.now(UTC).isoformat(timespec="seconds"),
        "svd_loop.gate.findings": json.dumps([asdict(finding) for finding in decision.findings]),
        "svd_loop.gate.reason": reason or "; ".join(finding.text for finding in decision.refusals),
    }
    registry.tag(version, tags)


@contextmanager
def _promotion_lock(config: Config) -> Iterator[None]:
    """Hold the promotion lock of this machine and root; a second process waits, then reads what the first one wrote."""
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
