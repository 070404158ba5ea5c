"""A history of rounds as a job leaves it, and what all jobs of a test process share.

A small job's own work takes less processor time than starting a sandbox, migrating an MLflow store and drawing its
report would: sandbox servers are shared, the store is a copy, and figures are composed but not drawn. Jobs in processes
of their own (`tests.processes`), the command line's among them, share none of this.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from envs.sandbox.pool import Sandbox
from svd_loop.contracts import (
    AlarmAction,
    Estimate,
    HealthAlarm,
    HealthFigure,
    HealthMeasure,
    HealthReport,
    JobResult,
    PolicyVersion,
    RoundRecord,
    Scores,
    Stage,
    StopReason,
    Usage,
    UsagePurpose,
    VoteValue,
)
from tests.processes import PRELOADED
from tests.svd_loop.drawing import SAVEFIG, draw_nothing
from tests.uncollected import import_for_good


def scores_of(value: float, split: str = "development") -> Scores:
    def estimate(centre: float) -> dict[str, Estimate]:
        return {"pass@1": Estimate(centre, centre - 0.05, centre + 0.05)}

    groups = {"overall": 0.0, "math": 0.1, "science": -0.1, "coding": 0.0}
    estimates = {group: estimate(value + shift) for group, shift in groups.items()}
    return Scores(split, 4, ("a", "b", "c"), ("math", "science", "coding"), (1, 2, 3), estimates)


def record_of(round: int, value: float) -> RoundRecord:
    version = PolicyVersion(round, f"{round}f" * 6)
    if round == 0:
        return RoundRecord(0, version, scores_of(value), seconds={"evaluate": 2.0})
    return RoundRecord(
        round,
        version,
        scores_of(value),
        accepted_prompts=90,
        prompts=100,
        rows=90 * round,
        usage={
            UsagePurpose.ROUND: {
                "solver": Usage(800, 0, 5000),
                "question_inferrer": Usage(790),
                "question_comparer": Usage(700),
                "fact_checker": Usage(500),
                "grader": Usage(300),
            },
            UsagePurpose.EVALUATION: {"solver": Usage(400, 0, 1000)},
        },
        votes={Stage.FACTUALITY: {VoteValue.YES: 380, VoteValue.NO: 100, VoteValue.INVALID: 20}},
        update={"loss": 0.5},
        seconds={"sample": 3.0, "judge": 4.0, "update": 1.0, "evaluate": 2.0},
        funnel={
            "generated": 800,
            "complete": 780,
            "cycle_consistency": 500,
            "factuality": 380,
            "correctness": 300,
            "accepted": 300,
        },
    )


@pytest.fixture
def history() -> list[RoundRecord]:
    return [record_of(round, value) for round, value in enumerate((0.40, 0.52, 0.58, 0.57))]


@pytest.fixture
def alarmed(history: list[RoundRecord]) -> list[RoundRecord]:
    """A history whose third round was rolled back to the first."""
    accepted = HealthFigure(HealthMeasure.FALSE_ACCEPT)
    report = HealthReport(
        {accepted: Estimate(0.5, 0.35, 0.65)}, alarms=(HealthAlarm(accepted, 0.1),), action=AlarmAction.ROLLBACK
    )
    third = replace(history[2], version=history[1].version, scores=history[1].scores, rows=0, health=report)
    return [*history[:2], third]


@pytest.fixture
def result(history: list[RoundRecord]) -> JobResult:
    tests = {"round-000": scores_of(0.41, "test"), "round-002": scores_of(0.55, "test")}
    return JobResult("demo", StopReason.PLATEAU, history[2], tuple(history), tests, ("3 problems detect 40 points",))


@pytest.fixture(scope="session", autouse=True)
def libraries() -> None:
    """What most jobs import on their way is exempt from garbage collection."""
    import_for_good(*PRELOADED[1:])


@pytest.fixture(scope="session", autouse=True)
def shared_sandboxes() -> Iterator[None]:
    """The same servers for the programs of all jobs; each program is a process of its own as ever."""
    opened: dict[float, Sandbox] = {}
    with ExitStack() as stack, pytest.MonkeyPatch.context() as patch:

        @contextmanager
        def shared(*, seconds: float) -> Iterator[Sandbox]:
            if seconds not in opened:
                opened[seconds] = stack.enter_context(Sandbox(seconds=seconds))
            yield opened[seconds]

        patch.setattr("envs.domains.coding.Sandbox", shared)
        yield


@pytest.fixture(scope="session", autouse=True)
def undrawn() -> Iterator[None]:
    """Figures are composed and stored, but empty; `report` has them drawn."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SAVEFIG, draw_nothing)
        yield


@pytest.fixture(scope="session")
def migrated_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from svd_loop.mlflow_store.connection import open_store

    root = tmp_path_factory.mktemp("mlflow-template")
    store = open_store(None, root, "Default")
    store.client.search_registered_models()
    return root / "mlflow.db"


@pytest.fixture
def root(tmp_path: Path, migrated_database: Path) -> Path:
    """A job root with an empty, migrated MLflow store."""
    shutil.copy(migrated_database, tmp_path / "mlflow.db")
    return tmp_path
